"""Error against time: what each method has reached after so many seconds, and DEAL's two algorithms.

The estimates of a method on its way are seen where it hands them to the operator: the arguments of A and of prox. A
method that hands nothing over, or one that does so once, is a point. Everything is timed in this one process.
"""

import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import metrics
from bench.config import Config
from bench.devices import synchronise
from bench.figure_data import compared
from bench.figure_data.comparison import shared, solver
from bench.figure_data.paths import levels
from bench.figure_data.problems import Problem, problem
from bench.figure_data.runs import Run, runs
from bench.items import Item

PROBLEMS = {"deblurring": "all"}
SECTIONS = ("error_time",)
TIMED = True
TIGHTER = 30
"""The solution that distances are measured to is computed to a tolerance so many times smaller."""


@dataclass
class Trace:
    """Estimates with the seconds since the start; what it takes to keep them is not counted."""

    device: torch.device
    seconds: list[float] = field(default_factory=list)
    estimates: list[Tensor] = field(default_factory=list)
    spent: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, x: Tensor) -> None:
        """Keep a copy of x."""
        synchronise(self.device)
        now = time.perf_counter()
        self.seconds.append(now - self.started - self.spent)
        self.estimates.append(x.detach().clone().cpu())
        self.spent += time.perf_counter() - now


class Watched:
    """An operator that notes images of the shape looked for which it is given as arguments of `A` and `prox`."""

    def __init__(self, operator: Any, shape: torch.Size, trace: Trace) -> None:
        self._operator, self._shape, self._trace = operator, shape, trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)

    def A(self, x: Tensor) -> Tensor:
        """A x."""
        self._note(x)
        return self._operator.A(x)

    def prox(self, v: Tensor, y: Tensor, rho: Any) -> Tensor:
        """argmin_x ½‖Ax − y‖² + ½ρ‖x − v‖²."""
        self._note(v)
        return self._operator.prox(v, y, rho)

    def _note(self, x: Tensor) -> None:
        if x.shape == self._shape:
            self._trace.add(x)


def watch(run: Run, item: Item) -> Trace:
    """A method's estimates on its way, the result last."""
    method, y = run.ready, item.y.to(run.device)
    synchronise(run.device)
    trace = Trace(run.device)
    with torch.no_grad():
        x = method.reconstruct(y, Watched(item.operator, item.x.shape, trace), item.sigma, **run.values)
    trace.add(x)
    return trace


def watch_deal(run: Run, item: Item, algorithm: str, max_outer: int) -> Trace:
    """The iterates of DEAL by one of its algorithms, x_0 as each chooses it."""
    options = run.ready.options | {"algorithm": algorithm, "max_outer": max_outer}
    sigma, lmbda = levels(run, item)
    y = item.y.to(run.device)
    synchronise(run.device)
    trace = Trace(run.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "DEAL stopped at its cap")  # the curve shows where it ended
        run.ready.model.solve(y, item.operator, sigma, lmbda, callback=lambda _, x: trace.add(x), **options)
    return trace


def solution(run: Run, item: Item) -> tuple[Tensor, float]:
    """DEAL's fixed point, computed tighter, on the CPU, and its relative residual."""
    options = run.ready.options
    tol = options["tol"] / TIGHTER
    more = {"algorithm": "fast", "tol": tol, "max_outer": 300, "clip": False}
    sigma, lmbda = levels(run, item)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "DEAL stopped at its cap")  # its residual is in the caption
        found = run.ready.model.solve(item.y.to(run.device), item.operator, sigma, lmbda, **(options | more))
    return found.x.cpu(), float(found.residual.max())


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Curves of the first image of the problem `deblurring`.

    Arrays: `seconds{n}` and `psnr{n}` for each method; `seconds_{algorithm}` and `distance_{algorithm}`, the relative
    distance to DEAL's solution, for `reference` and `fast`, if DEAL can be run.
    """
    found = problem(config, "deblurring", images=1)
    item = found.items[0]
    able, missing = runs(found, compared(config, found.task), alone=False)
    arrays: dict[str, np.ndarray] = {}
    facts = found.facts() | {"residual": "", "device": ""}
    algorithms: list[str] = []
    for n, run in enumerate(able):
        cap = config.figures.error_time.max_outer
        own = run.name == "deal"
        _warm(run, item)
        trace = watch_deal(run, item, run.ready.options["algorithm"], cap) if own else watch(run, item)
        arrays[f"seconds{n}"] = np.array(trace.seconds)
        arrays[f"psnr{n}"] = np.array([_psnr(found, run, x, item) for x in trace.estimates])
        if own:
            x, residual = solution(run, item)
            facts["residual"] = f"{residual:.0e}"
            for algorithm in ("reference", "fast"):
                done = algorithm == run.ready.options["algorithm"]
                other = trace if done else watch_deal(run, item, algorithm, cap)
                arrays[f"seconds_{algorithm}"] = np.array(other.seconds)
                arrays[f"distance_{algorithm}"] = np.array([float((z - x).norm() / x.norm()) for z in other.estimates])
                algorithms.append(algorithm)
    meta = {
        "facts": facts,
        "images": [item.image],
        "labels": [run.label for run in able],
        "algorithms": algorithms,
        "settings": solver(config, found.task, max_outer=config.figures.error_time.max_outer) if algorithms else {},
        "missing": missing,
        **shared(config, found, able),
    }
    meta["facts"]["device"] = _machine(meta["device"])
    return arrays, meta


def _warm(run: Run, item: Item) -> None:
    """What does not count: loading the weights, a first application, and on a GPU a whole reconstruction."""
    run.ready.device  # noqa: B018
    item.operator.A(item.x.to(run.device))
    if run.device.type == "cuda":  # its first calls choose algorithms and allocate
        watch(run, item)


def _psnr(found: Problem, run: Run, x: Tensor, item: Item) -> float:
    z = found.convention.scored(x[0].numpy(), run.method.clip)
    return metrics.psnr(z, found.convention.scored(item.x[0].numpy()), clip=False)


def _machine(device: str) -> str:
    from bench.provenance import device_name

    return f"{device_name(device)}, {torch.get_num_threads()} threads" if device == "cpu" else device_name(device)
