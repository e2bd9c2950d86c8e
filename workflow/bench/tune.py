"""Choose a method's hyperparameters on validation images: one job is one method on one setting of one task.

The score is the mean PSNR over the validation images, none of which may be in the test set. Every reconstruction
is a line, synced to disk, of `<results>/.state/tuning/…jsonl`: a killed job goes on where it was and ends with the
same trace, and a longer search starts from what a shorter one knew.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from bench import registry, search, tasks
from bench.config import Config, digest, evaluation_part
from bench.conventions import CONVENTIONS
from bench.devices import select_device
from bench.errors import UserError
from bench.evaluate import NotFinite, Progress, UnusableWeights, code_modules, obstacle, run_one, set_up
from bench.files import write_text
from bench.items import Source
from bench.provenance import Record, code_digest
from bench.results import to_csv

if TYPE_CHECKING:
    from baselines import Hyperparameter


def tune(config: Config, task: str, setting: str, method: str, output: Path, weights: Path | None = None) -> None:
    """Run one job: write the trace `output` (CSV), and beside it the chosen values with their provenance (JSON).

    Args:
        weights: file written by `registry.prepare`; by default it is made beside the results.

    Raises:
        UserError: for a validation set that shares an image with the test set, and as `bench.evaluate` does.
    """
    record = Record(["bench.tune", *code_modules(method)], config.digest())
    sigma = config.task(task).sigma(setting)  # an unknown setting ends here
    instance = registry.create(method, config, setting)
    found: dict[str, dict[str, str]] = {}
    reason: str | None = None
    known: Mapping[str, Hyperparameter] = {}
    if instance.serves(task) and not instance.unavailable(task, sigma):
        known = instance.hyperparameters_for(task, sigma)
        reason = None if known else f"{instance.label} has no hyperparameters for {task}"
    if reason is None:
        reason, found = obstacle(config, task, instance, sigma, weights)
    if reason:
        _nothing(output, list(known), record, reason)
        return

    validation = config.for_tuning(task)
    section, kind = validation.task(task), tasks.get(task)
    device = select_device(config.device if instance.gpu else "cpu")
    refuse_test_images(config, task)
    items = kind.items(section, setting, Path(config.cache), section.subset)
    described = kind.data(section, Path(config.cache))
    hashes = {name: entry["sha256"] for name, entry in found.items()}
    part = evaluation_part(validation, task, setting, method)
    key = digest([part, described, hashes, code_digest(code_modules(method))])
    state = Path(config.results) / ".state" / "tuning" / task / setting / f"{method}-{key}.jsonl"
    space, limits = _space(method, known), config.tuning
    if limits.search == "grid" and len(space) > 2:
        raise UserError(
            f"{method} has {len(space)} hyperparameters for {task} and tuning.search: grid takes two at most; "
            "set tuning.search: budget"
        )
    instance.validating = True
    with Progress(state, key="point") as progress:
        score = Score(
            items,
            progress,
            setup=lambda: set_up(instance, task, sigma, found, device),
            reconstruct=lambda item, values: run_one(instance, item, CONVENTIONS[task], device, values),
            bar=tqdm(desc=f"tune {task} {setting} {method}", total=limits.evaluations, unit="evaluation"),
        )
        try:
            trace = search.SEARCHES[limits.search](score, space, limits.evaluations, limits.gamma, limits.gamma_stop)
        except UnusableWeights as unusable:
            _nothing(output, list(known), record, str(unusable))
            return
        finally:
            score.bar.close()
    best = trace.best
    if best.score == -math.inf:
        raise UserError(f"{method} returned NaN or infinite values at all {len(score.rows)} points of {task} {setting}")
    if not trace.complete:
        print(f"the search was ended by tuning.evaluations = {limits.evaluations}")
    _finish(
        output,
        list(known),
        score.rows,
        record,
        data=described,
        weights=hashes,
        seed=section.seed,
        device=str(device),
        threads=torch.get_num_threads(),
        hyperparameters=best.parameters,
        psnr=best.score,
        psnr_at_start=trace.evaluations[0].score,
        evaluations=len(score.rows),
        complete=trace.complete,
        images=len(items),
        tuning=limits.model_dump(mode="json", exclude={"tasks"}),
        config=part,
    )


class Score:
    """The mean PSNR over the validation images as a function of the hyperparameters; −∞ where one diverges."""

    def __init__(
        self,
        items: list[Source],
        progress: Progress,
        setup: Callable[[], None],
        reconstruct: Callable[[tasks.Item, Mapping[str, float]], Mapping[str, Any]],
        bar: tqdm,
    ) -> None:
        self.items, self.progress, self.setup, self.reconstruct, self.bar = items, progress, setup, reconstruct, bar
        self.rows: list[dict[str, Any]] = []
        """The trace: one row an evaluation."""
        self._ready = False

    def __call__(self, values: Mapping[str, float]) -> float:
        rows = []
        for name, make in self.items:
            rows.append(self._row(name, make, values))
            if rows[-1]["psnr"] is None:  # the mean is decided
                break
        psnr = fmean(row["psnr"] for row in rows) if rows[-1]["psnr"] is not None else -math.inf
        seconds = round(sum(row["seconds"] for row in rows), 6)
        number = len(self.rows) + 1
        self.rows.append({"evaluation": number, **values, "psnr": psnr, "images": len(rows), "seconds": seconds})
        self.bar.set_postfix_str(", ".join(f"{k}={v:.4g}" for k, v in values.items()) + f": {psnr:.3f} dB")
        self.bar.update()
        return psnr

    def _row(self, name: str, make: Callable[[], tasks.Item], values: Mapping[str, float]) -> dict[str, Any]:
        """PSNR (None: not finite) and seconds of one image, computed or remembered."""
        point = json.dumps([name, dict(values)])
        if point not in self.progress.rows:
            if not self._ready:
                self.setup()
                self._ready = True
            try:
                found = self.reconstruct(make(), values)
            except NotFinite:
                found = {"psnr": None, "seconds": 0.0}
            self.progress.add({"point": point, "psnr": found["psnr"], "seconds": found["seconds"]})
        return self.progress.rows[point]


def refuse_test_images(config: Config, task: str) -> None:
    """A UserError if a validation image of `task` is, byte for byte, one of its test images."""
    sections, kind = (config.for_tuning(task).task(task), config.task(task)), tasks.get(task)
    validation, test = (kind.hashes(section, Path(config.cache)) for section in sections)
    if shared := sorted(validation[key] for key in set(validation) & set(test)):
        if task == "mri":  # its validation volumes are a part of its own data
            raise UserError(
                f"tasks.mri.split: {config.tasks.mri.split} reconstructs {', '.join(shared)}, on which "
                "hyperparameters are chosen; set tasks.mri.hyperparameters: paper, or tasks.mri.split: test"
            )
        names = [kind.data(section, Path(config.cache))["dataset"] for section in sections]
        raise UserError(
            f"tuning.tasks.{task}.dataset: {names[0]} shares {', '.join(shared)} with the test set {names[1]}; "
            "hyperparameters must be chosen on other images"
        )


def _space(method: str, hyperparameters: Mapping[str, "Hyperparameter"]) -> list[search.Parameter]:
    """What is searched: every hyperparameter from its default, within its bounds."""
    try:
        return [search.Parameter(name, h.default, max(h.low, 0.0), h.high) for name, h in hyperparameters.items()]
    except ValueError as error:
        raise UserError(f"{method}: {error}") from None


def _nothing(output: Path, names: list[str], record: Record, reason: str) -> None:
    print(f"nothing to tune: {reason}")
    _finish(output, names, [], record, missing=reason, hyperparameters={}, psnr=None, evaluations=0)


def _finish(output: Path, names: list[str], rows: list[Mapping[str, Any]], record: Record, **facts: Any) -> None:
    columns = ["evaluation", *names, "psnr", "images", "seconds"]
    write_text(output, to_csv(columns, rows))
    record.write(output, **facts)
