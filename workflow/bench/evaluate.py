"""One evaluation job: one method on all images of one setting of one task.

Every finished image is a line, synced to disk, of `<results>/.state/evaluate/…jsonl`; a killed job goes on at
the next image. The file's name holds a digest of all that the rows depend on, so that old rows are never
mixed in.
"""

import csv
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from bench import metrics, registry, tasks
from bench.batches import Batches, OutOfMemory, is_out_of_memory
from bench.config import Config, digest, evaluation_part
from bench.conventions import CONVENTIONS, Convention
from bench.devices import select_device, synchronise
from bench.errors import UserError
from bench.files import lock, write_text, writing
from bench.provenance import Record, sha256

if TYPE_CHECKING:
    from bench.registry import Method

COLUMNS = ("task", "setting", "dataset", "image", "method", "seed", "parameters", "psnr", "ssim", "seconds")
COLUMNS += ("iterations", "converged")


def code_modules(method: str) -> list[str]:
    """Modules whose code decides the result of `method`; imports are followed from them."""
    return ["bench.evaluate", registry.entry(method).module]


class Progress:
    """Rows that outlive a kill: one JSON line each, appended and synced; a torn last line is dropped."""

    def __init__(self, path: Path, key: str = "image") -> None:
        self.path, self.key = path, key
        self.rows: dict[str, dict[str, Any]] = {}
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = path.open("ab", buffering=0)
        lock(self._handle)  # a run by hand beside the workflow's waits, and finds all rows done
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if not isinstance(row, dict) or key not in row:
                break
            self.rows[row[key]] = row
            whole += len(line)
        self._handle.truncate(whole)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; it is on disk when this returns. UserError if the disk does not take it."""
        line = memoryview((json.dumps(row, ensure_ascii=False) + "\n").encode())
        with writing(self.path):
            while line:
                line = line[self._handle.write(line) :]
            os.fsync(self._handle.fileno())
        self.rows[row[self.key]] = row

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.close()  # the file stays, for a run over more images


class NotFinite(UserError):
    """An estimate with NaN or infinite values."""


class UnusableWeights(registry.MissingWeights):
    """Weights that are there and are not what the method can read: as good as none, with the reason."""


def evaluate(
    config: Config,
    task: str,
    setting: str,
    method: str,
    output: Path,
    weights: Path | None = None,
    hyperparameters: Path | None = None,
) -> None:
    """Run one job and write the CSV `output` and its sidecar.

    Args:
        weights: file written by `registry.prepare`; by default it is made beside the results.
        hyperparameters: file written by the tuning, by default that beside the results; read only where the
            configuration wants tuned values and the method has some.

    Raises:
        UserError: for data or estimates that cannot be scored, naming the image.
    """
    record = Record(code_modules(method), config.digest())
    section, kind = config.task(task), tasks.get(task)
    sigma = section.sigma(setting)  # an unknown setting ends here
    described = kind.data(section, Path(config.cache))
    instance = registry.create(method, config, setting)
    reason, found = obstacle(config, task, instance, sigma, weights)
    without = partial(_finish, output, [], record, data=described)  # a cell that says why it is empty
    if reason:
        without(missing=reason)
        return
    try:
        values = find_hyperparameters(config, task, setting, instance, hyperparameters)
    except UnusableWeights as unusable:
        without(missing=str(unusable))
        return
    items = kind.items(section, setting, Path(config.cache), config.subset_of(task))
    device, convention = select_device(config.device if instance.gpu else "cpu"), CONVENTIONS[task]
    hashes = {name: entry["sha256"] for name, entry in found.items()}
    part = evaluation_part(config, task, setting, method)
    key = digest([part, described, hashes, values, record.code_digest, device.type])
    state = Path(config.results) / ".state" / "evaluate" / task / setting / f"{method}-{key}.jsonl"
    shared = {
        "task": task,
        "setting": setting,
        "dataset": described["dataset"],
        "method": method,
        "seed": section.noise_seed,
    }
    with Progress(state) as progress:
        todo = [(name, make) for name, make in items if name not in progress.rows]
        if todo:
            try:
                set_up(instance, task, sigma, found, device)
            except UnusableWeights as unusable:
                without(missing=str(unusable))
                return
        batches = Batches(
            config.batch if instance.batches else 1,
            lambda part: run_batch(instance, part, convention, device, values),
        )
        rows = batches.rows(todo)
        bar = tqdm(rows, f"{task} {setting} {method}", len(items), initial=len(items) - len(todo), unit="image")
        for row in bar:
            progress.add(shared | row)
            bar.set_postfix_str(f"{row['psnr']:.2f} dB")
    rows = [progress.rows[name] for name, _ in items]
    _finish(
        output,
        rows,
        record,
        data=described,
        weights=hashes,
        seed=section.noise_seed,
        device=str(device),
        threads=torch.get_num_threads(),
        images=len(rows),
        batch=batches.size,
        convention=asdict(convention) | {"clip": convention.clip and instance.clip},
        tuned=config.tuned(task),
        hyperparameters=values,
        config=part,
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    )


def run_one(
    method: "Method",
    item: tasks.Item,
    convention: Convention,
    device: torch.device,
    hyperparameters: Mapping[str, float],
) -> dict[str, Any]:
    """Reconstruct and score one item by the task's convention. Only `reconstruct` is timed."""
    return run_batch(method, [item], convention, device, hyperparameters)[0]


def run_batch(
    method: "Method",
    items: Sequence[tasks.Item],
    convention: Convention,
    device: torch.device,
    hyperparameters: Mapping[str, float],
) -> list[dict[str, Any]]:
    """The same for items that share shapes, noise level and operator; `seconds` is that of the call over their number.

    Raises OutOfMemory where the device has too little memory, else UserError, naming the first image.
    """
    estimate, seconds = timed(method, items, device, hyperparameters)
    parameters = {**hyperparameters, **method.parameters()}
    rows = []
    for item, z in zip(items, estimate.cpu().numpy(), strict=True):
        psnr, ssim = scores(method, item, z, convention)
        rows.append(
            {
                "image": item.image,
                "parameters": json.dumps(parameters, sort_keys=True, separators=(",", ":")),
                "psnr": psnr,
                "ssim": ssim,
                "seconds": round(seconds / len(items), 6),
                "iterations": method.info.get("iterations"),
                "converged": method.info.get("converged"),
            }
        )
    return rows


def timed(
    method: "Method",
    items: Sequence[tasks.Item],
    device: torch.device,
    hyperparameters: Mapping[str, float],
    operator: Any = None,
    sigma: float | None = None,
) -> tuple[torch.Tensor, float]:
    """One call of `reconstruct` for items that share shapes, noise level and operator: (B, C, H, W), and its seconds.

    `operator` and `sigma` are what the method is told, by default the truth. Raises OutOfMemory where the device has
    too little memory, else UserError for whatever fails and for an estimate of another shape or not finite; both name
    the first image.
    """
    first, count = items[0], len(items)
    name = first.image if count == 1 else f"{first.image} (one of {count} at once)"
    method.info = {}
    try:
        y = torch.cat([item.y for item in items]).to(device)
        truth = {"truth": torch.cat([item.x for item in items]).to(device)} if method.oracle else {}
        synchronise(device)
        started = time.perf_counter()
        with torch.no_grad():
            estimate = method.reconstruct(
                y, operator or first.operator, first.sigma if sigma is None else sigma, **hyperparameters, **truth
            )
        synchronise(device)
        seconds = time.perf_counter() - started
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(
                f"{method.name} failed on image {name}: too little memory on the {device.type}; a larger one or "
                "device=cpu would mend it"
            ) from error
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{method.name} failed on image {name}: {type(error).__name__}: {reason}") from error
    return _checked(estimate, items, method.name), seconds


def scores(method: "Method", item: tasks.Item, estimate: np.ndarray, convention: Convention) -> tuple[float, float]:
    """PSNR and SSIM of an estimate (C, H, W) by the task's convention."""
    z, x = convention.scored(estimate, method.clip), convention.scored(item.x[0].numpy())
    return metrics.psnr(z, x, clip=False), metrics.ssim(z, x, clip=False, gaussian=convention.gaussian_ssim)


def _checked(estimate: Any, items: Sequence[tasks.Item], method: str) -> torch.Tensor:
    """The estimate; UserError, naming the image, unless it is what was looked for."""
    first = items[0]
    if not isinstance(estimate, torch.Tensor):
        raise UserError(f"{method} returned {type(estimate).__name__} for image {first.image}, expected a tensor")
    if not estimate.dtype.is_floating_point:  # of complex numbers only the real part would be scored
        raise UserError(f"{method} returned {estimate.dtype} for image {first.image}, expected real numbers, float32")
    expected = (len(items), *first.x.shape[1:])
    if estimate.shape != expected:
        found = tuple(estimate.shape)
        raise UserError(f"{method} returned the shape {found} for image {first.image}, expected {expected}")
    for item, z in zip(items, estimate, strict=True):
        if not torch.isfinite(z).all():
            raise NotFinite(f"{method} returned NaN or infinite values for image {item.image}")
    return estimate.detach()


def set_up(
    method: "Method", task: str, sigma: float, found: Mapping[str, Mapping[str, str]], device: torch.device
) -> None:
    """`Method.setup` with the weights that `find_weights` found; UnusableWeights where it cannot read them."""
    try:
        method.setup(task, sigma, {name: Path(entry["path"]) for name, entry in found.items()}, device)
    except (ValueError, TypeError, KeyError, RuntimeError, OSError, EOFError, UnpicklingError) as error:
        if not found or is_out_of_memory(error):  # a mistake of the method's, or no fault of the file
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise UnusableWeights(f"weights {', '.join(found)} cannot be used: {type(error).__name__}: {reason}") from error


def obstacle(
    config: Config, task: str, method: "Method", sigma: float, path: Path | None = None
) -> tuple[str | None, dict[str, dict[str, str]]]:
    """Why the method cannot run on `task` at `sigma`, or None; and the weights that were found for it."""
    if not method.serves(task):
        return f"{method.label} does not serve the task {task}", {}
    if reason := method.unavailable(task, sigma):
        return reason, {}
    found = find_weights(config, task, method, sigma, path)
    return next((entry["missing"] for entry in found.values() if "missing" in entry), None), found


def find_weights(
    config: Config, task: str, method: "Method", sigma: float, path: Path | None = None
) -> dict[str, dict[str, str]]:
    """What `registry.prepare` found of the weights for `task` at `sigma`; asks it if `path` is not there."""
    if not registry.entry(method.name).needs_weights:
        return {}
    path = path or Path(config.results) / "weights" / task / f"{method.name}.json"
    if not path.is_file():
        registry.prepare(config, task, method.name, path)
    try:
        listed, names = json.loads(path.read_bytes()), method.weights_for(task, sigma)
        if isinstance(listed, dict) and not set(names) <= set(listed):  # made for a configuration of other settings
            registry.prepare(config, task, method.name, path)
            listed = json.loads(path.read_bytes())
        found = {name: listed[name] for name in names}
        there = [entry for entry in found.values() if "missing" not in entry]
        changed = [entry["path"] for entry in there if sha256(entry["path"]) != entry["sha256"]]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: is no list of weights ({type(error).__name__}); delete it and run again") from None
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: the weights that {path} names are gone; delete it and run again") from None
    if changed:
        raise UserError(f"{changed[0]}: is not the file that {path} names by its sha256; delete {path} and run again")
    return found


def find_hyperparameters(
    config: Config, task: str, setting: str, method: "Method", path: Path | None = None
) -> dict[str, float]:
    """The method's values for one setting: its defaults or, where the configuration says so, the tuned ones."""
    known = method.hyperparameters_for(task, config.task(task).sigma(setting))
    values = {name: parameter.default for name, parameter in known.items()}
    if not known or not config.tuned(task):
        return values
    path = path or Path(config.results) / "tuning" / task / setting / f"{method.name}.json"
    if not path.is_file():
        raise UserError(f"{path}: not tuned yet; make it with `snakemake {path}`, or set hyperparameters to paper")
    try:
        found = json.loads(path.read_bytes())
        if found.get("missing"):  # the search could not read them
            raise UnusableWeights(found["missing"])
        tuned = {name: float(value) for name, value in found["hyperparameters"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: holds no hyperparameters ({type(error).__name__}: {error}); tune again") from None
    if set(tuned) != set(values):
        raise UserError(f"{path}: has values of {sorted(tuned)}, {method.name} needs {sorted(values)}; tune again")
    return tuned


def _finish(output: Path, rows: list[Mapping[str, Any]], record: Record, **facts: Any) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(row[column]) for column in COLUMNS} for row in rows)
    write_text(output, text.getvalue())
    record.write(output, **facts)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
