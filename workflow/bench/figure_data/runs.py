"""One method on one problem, for figures: found, set up, run; estimates are kept, so that no two figures compute one.

They lie in `<results>/.state/figures`, named by a digest of all that they depend on.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench import evaluate, registry
from bench.config import digest, evaluation_part
from bench.devices import select_device
from bench.figure_data import NotShown
from bench.figure_data.problems import Problem
from bench.files import atomic
from bench.items import Item
from bench.provenance import code_digest


@dataclass(frozen=True)
class Estimate:
    """An estimate x, (C, H, W) float32 as the method returned it, with its scores by the task's convention."""

    x: np.ndarray
    psnr: float
    ssim: float
    seconds: float
    iterations: int | None
    converged: bool | None


class Run:
    """A method of the registry on a problem's task and setting. `missing` says why it cannot run; None: it can."""

    def __init__(self, problem: Problem, method: str) -> None:
        self.problem, self.name = problem, method
        config, task = problem.config, problem.task
        self.sigma = config.task(task).sigma(problem.setting)
        self.method = registry.create(method, config, problem.setting)
        self.label = self.method.label
        self.device = select_device(config.device)
        self.missing, self.weights = evaluate.obstacle(config, task, self.method, self.sigma)
        if self.missing is None:
            self.values = evaluate.find_hyperparameters(config, task, problem.setting, self.method)

    @cached_property
    def ready(self) -> Any:
        """The method, set up for the setting's noise level."""
        evaluate.set_up(self.method, self.problem.task, self.sigma, self.weights, self.device)
        return self.method

    @property
    def hashes(self) -> dict[str, str]:
        """Weights name → sha256."""
        return {name: entry["sha256"] for name, entry in self.weights.items() if "sha256" in entry}

    @cached_property
    def key(self) -> list[Any]:
        """What its estimates depend on, beside the measurement and the operator."""
        config, task = self.problem.config, self.problem.task
        part = evaluation_part(config, task, self.problem.setting, self.name)
        code = code_digest(["bench.figure_data.runs", *evaluate.code_modules(self.name)])
        return [part, self.problem.data, self.hashes, self.values, code, str(self.device)]

    def estimate(self, item: Item, sigma: float | None = None, operator: Any = None, tag: str = "") -> Estimate:
        """Reconstruct `item`; `sigma` and `operator` are what the method is told, by default the truth.

        `tag` tells operators apart in the names of kept estimates: a digest of what makes them different.
        """
        measured = hashlib.sha256(item.y.numpy().tobytes()).hexdigest()
        key = digest([self.key, item.image, measured, sigma, tag])
        kept = Path(self.problem.config.results) / ".state" / "figures" / f"{self.name}-{key}.npz"
        if (found := _read(kept)) is None:
            found = self._compute(item, sigma, operator)
            _write(kept, found)
        return found

    def told(self, sigma: float | None) -> dict[str, float]:
        """The hyperparameters where the noise level is said to be `sigma`; tuned ones stay."""
        config, task = self.problem.config, self.problem.task
        if sigma is None or config.tuned(task):
            return self.values
        return {name: p.default for name, p in self.method.hyperparameters_for(task, sigma).items()}

    def _compute(self, item: Item, sigma: float | None, operator: Any) -> Estimate:
        method = self.ready
        estimate, seconds = evaluate.timed(method, [item], self.device, self.told(sigma), operator, sigma)
        x = estimate[0].cpu().numpy()
        psnr, ssim = evaluate.scores(method, item, x, self.problem.convention)
        return Estimate(x, psnr, ssim, seconds, method.info.get("iterations"), method.info.get("converged"))


def runs(problem: Problem, methods: Iterable[str], alone: bool = True) -> tuple[list[Run], dict[str, str]]:
    """Those of the methods that can run, and label → reason of the others.

    Where the figure shows nothing without a method (not `alone`), NotShown if none can.
    """
    made = [Run(problem, method) for method in methods]
    able, missing = [run for run in made if run.missing is None], {r.label: r.missing for r in made if r.missing}
    if not able and not alone:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in missing.items())
        raise NotShown(f"no method can run on {problem.task}, {problem.setting} ({reasons or 'none is compared'})")
    return able, missing


def _read(path: Path) -> Estimate | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as archive:
        return Estimate(archive["x"], **json.loads(str(archive["about"])))


def _write(path: Path, estimate: Estimate) -> None:
    about = {key: value for key, value in vars(estimate).items() if key != "x"}
    content = io.BytesIO()
    np.savez(content, x=estimate.x, about=json.dumps(about))
    with atomic(path) as partial:
        partial.write_bytes(content.getvalue())
