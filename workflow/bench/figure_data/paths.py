"""DEAL's way from a start to its solution: iterates, masks, PSNR and relative change. Figures 4, 5, 11 and 12."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench import metrics
from bench.config import Config
from bench.figure_data import NotShown
from bench.figure_data.comparison import shared, solver
from bench.figure_data.problems import Problem, problem
from bench.figure_data.runs import Run
from bench.items import Item

SHOWN = 6
"""Iterates of which pictures are kept."""
PAPER_STEPS = (0, 1, 2, 10, 40)
"""Those of the paper's Figure 4, beside the last, 68."""


@dataclass(frozen=True)
class Path:
    """x_0, x_1, … x_K of one solve.

    Attributes:
        iterates: K + 1 tensors (1, C, H, W), not clipped.
        psnr: (K + 1,), by the task's convention.
        change: (K,), ‖x_{k+1} − x_k‖/‖x_k‖; NaN for x_0 = 0.
        residual: ‖T(x_K) − x_K‖/‖x_K‖.
        converged: whether that is at most the tolerance.
    """

    iterates: list[torch.Tensor]
    psnr: np.ndarray
    change: np.ndarray
    residual: float
    converged: bool


def deal(found: Problem) -> Run:
    """DEAL on the problem; NotShown if its weights cannot be had."""
    run = Run(found, "deal")
    if run.missing:
        raise NotShown(f"the figure shows DEAL alone: {run.missing}")
    return run


def follow(run: Run, item: Item, start: torch.Tensor) -> Path:
    """Solve from `start`, (1, C, H, W), with the solver of the configuration."""
    method, problem = run.ready, run.problem
    sigma, lmbda = levels(run, item)
    solution = method.model.solve(
        item.y.to(run.device),
        item.operator,
        sigma,
        lmbda,
        x0=start.to(run.device),
        keep_iterates=True,
        **method.options,
    )
    truth = problem.convention.scored(item.x[0].numpy())
    scored = [problem.convention.scored(x[0].cpu().numpy(), method.clip_estimate) for x in solution.iterates]
    steps = [float((new - old).norm()) for old, new in zip(solution.iterates, solution.iterates[1:], strict=False)]
    sizes = [float(x.norm()) or np.nan for x in solution.iterates[:-1]]
    return Path(
        [x.cpu() for x in solution.iterates],
        np.array([metrics.psnr(z, truth, clip=False) for z in scored]),
        np.array(steps) / np.array(sizes),
        float(solution.residual.max()),
        bool(solution.converged.all()),
    )


def levels(run: Run, item: Item) -> tuple[float, float | None]:
    """σ of the mask, in [0, 1], and λ (None: κ(σ)) that DEAL is run with."""
    level = run.values.get("sigma_255")
    return item.sigma if level is None else level / 255, run.values.get("lmbda")


def mean_mask(run: Run, item: Item, x: torch.Tensor) -> torch.Tensor:
    """Mean over the channels of M(x), (1, H, W)."""
    sigma, _ = levels(run, item)
    with torch.no_grad():
        return run.ready.model.mask(x.to(run.device), torch.tensor([sigma], device=run.device)).mean(1).cpu()


def chosen(last: int, count: int = SHOWN) -> list[int]:
    """The paper's iterates and the last, where there are as many; else the first three, then ever farther ones."""
    if last > PAPER_STEPS[-1]:
        return [*PAPER_STEPS, last]
    if last < count:
        return list(range(last + 1))
    later = np.geomspace(2, last, count - 2).round().astype(int)
    return list(dict.fromkeys([0, 1, *later.tolist()]))


def collect(config: Config, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The path from x_0 = 0 on the problem `name`.

    Arrays: `psnr` (K + 1,), `change` (K,), `steps` (S,) and for these iterates `x` and `mask` (S, H, W) in half
    precision.
    """
    found = problem(config, name)
    run, item = deal(found), found.items[0]
    path = follow(run, item, torch.zeros_like(item.x))
    steps = chosen(len(path.iterates) - 1)
    arrays = {
        "psnr": path.psnr,
        "change": path.change,
        "steps": np.array(steps),
        "x": np.stack([found.shown(path.iterates[k][0])[0] for k in steps]),
        "mask": np.stack([found.shown(mean_mask(run, item, path.iterates[k]))[0] for k in steps]),
    }
    facts = found.facts() | {"end": end(path), "updates": str(len(path.iterates) - 1)}
    meta = {"facts": facts, "images": [item.image], "settings": solver(config, found.task), "missing": {}}
    return arrays, meta | {"tol": run.method.options["tol"], **shared(config, found, [run])}


def end(path: Path) -> str:
    """How a solve ended, in words."""
    state = "converged" if path.converged else "stopped at its cap, not converged"
    return f"{state} after {len(path.iterates) - 1} updates (residual {path.residual:.1e})"
