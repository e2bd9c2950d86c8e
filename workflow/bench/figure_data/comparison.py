"""Methods side by side on the images of one problem: the data of Figures 3, 9 and 10."""

from typing import Any

import numpy as np
from tqdm import tqdm

from bench.config import Config, is_deal
from bench.figure_data import compared
from bench.figure_data.problems import Problem, problem
from bench.figure_data.runs import Run, runs


def compare(config: Config, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any], Problem]:
    """Arrays and meta for the problem `name`.

    Arrays, for image i: `truth{i}` and `measurement{i}` (C, H, W), `estimates{i}` (N, C, H, W), half precision; `psnr`
    and `ssim` (images, 1 + N), the measurement first. Of MRI the scored square is shown.
    """
    found = problem(config, name)
    measured = Run(found, "measurement")
    able, missing = runs(found, compared(config, found.task))
    arrays: dict[str, np.ndarray] = {}
    psnr = np.empty((len(found.items), 1 + len(able)))
    ssim = np.empty_like(psnr)
    capped = []
    bar = tqdm(total=psnr.size, desc=name, unit="estimate")
    for i, item in enumerate(found.items):
        estimates = []
        for n, run in enumerate([measured, *able]):
            estimate = run.estimate(item)
            psnr[i, n], ssim[i, n] = estimate.psnr, estimate.ssim
            capped += [f"{run.label} on {item.image}"] if estimate.converged is False else []
            estimates.append(found.shown(estimate.x))
            bar.update()
        arrays[f"truth{i}"] = found.shown(item.x[0])
        arrays[f"measurement{i}"] = estimates[0]
        arrays[f"estimates{i}"] = np.stack(estimates[1:]) if able else np.empty((0, *estimates[0].shape), np.float16)
    bar.close()
    meta = {
        "facts": found.facts(),
        "images": [item.image for item in found.items],
        "labels": [run.label for run in able],
        "settings": settings(config, found.task, [run.name for run in able]),
        "missing": missing,
        "capped": capped,
        "not_zoom": found.not_zoom,
        **shared(config, found, able),
    }
    return arrays | {"psnr": psnr, "ssim": ssim}, meta, found


def shared(config: Config, found: Problem, able: list[Run]) -> dict[str, Any]:
    """What goes to the sidecar's own keys."""
    weights = {name: sha for run in able for name, sha in run.hashes.items()}
    device = str(able[0].device) if able else "cpu"
    return {"weights": weights, "data": found.data, "seed": found.section.seed, "device": device}


def settings(config: Config, task: str, methods: list[str]) -> dict[str, str]:
    """What the caption says of the run."""
    found = {"hyperparameters": "tuned" if config.tuned(task) else "the paper's or the methods' defaults"}
    if any(map(is_deal, methods)):
        found |= solver(config, task)
    return found


def solver(config: Config, task: str, **own: Any) -> dict[str, str]:
    """DEAL's weights and solver in words; `own` are options in which a figure differs from the configuration."""
    options = config.solver.for_task(task) | own
    known = {
        "train": "trained by this workflow",
        "released": "as released with this package",
        "official": "the authors'",
    }
    how = f"{options['algorithm']}, tolerance {options['tol']:.0e}, at most {options['max_outer']} updates"
    return {"DEAL's weights": known.get(config.weights, f"of the folder {config.weights}"), "DEAL's solver": how}
