"""A real MRI acquisition without ground truth: methods side by side, judged by measured values they were not given.

A share of the measured positions outside the central calibration square is held out. One half of them chooses each
method's first hyperparameter (its regularisation parameter), the other half scores: ‖M(Ax − y)‖ / ‖My‖ with M the
scoring positions. What no image can explain, the noise among them, is part of the score.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bench import datasets, evaluate, mri, mri_brain, registry
from bench.config import Config
from bench.devices import select_device
from bench.errors import UserError
from bench.figure_config import BRAIN
from bench.figure_data import compared, setting
from bench.figure_data.comparison import solver
from bench.items import Item

if TYPE_CHECKING:
    from baselines import Hyperparameter

PROBLEMS = {}
OWN = {"brain": "all"}


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays: `zero_filled` (H, W), `estimates` (N, H, W), `factors` (F,), `choosing` (N, F) and `scores` (1 + N,),
    the zero-filled image first; errors are relative, infinite where a method diverges.
    """
    section = config.figures.brain
    task, seed, start = section.task, config.task(section.task).seed, setting(config, "brain")
    acquired, data = _acquired(config)
    y, everywhere = torch.from_numpy(acquired.y)[None], mri.operator(acquired.mask, acquired.smaps)
    given, *held = split(acquired.mask, section.held_out, seed)
    choosing, scoring = (torch.from_numpy(part) for part in held)
    operator = mri.operator(given, acquired.smaps)
    item = Item(data["dataset"], torch.zeros(1, 1, *given.shape), y * operator.mask, operator, acquired.sigma)
    zero_filled = operator.A_adjoint(item.y)

    def error(x: torch.Tensor, places: torch.Tensor) -> float:
        return float((places * (everywhere.A(x) - y)).norm() / (places * y).norm())

    device = select_device(config.device)
    labels, chosen, capped, weights, missing = [], [], [], {}, {}
    estimates, errors, scores = [], [], [error(zero_filled, scoring)]
    for name in tqdm(compared(config, task), "brain", unit="method"):
        method = registry.create(name, config, start)
        reason, found = evaluate.obstacle(config, task, method, item.sigma)
        if reason:
            missing[method.label] = reason
            continue
        try:
            evaluate.set_up(method, task, item.sigma, found, device)
        except evaluate.UnusableWeights as unusable:
            missing[method.label] = str(unusable)
            continue
        errors.append([])
        for factor in section.factors:
            values = scaled(method.hyperparameters_for(task, item.sigma), factor)
            try:
                x = evaluate.timed(method, [item], device, values)[0].cpu()
            except evaluate.NotFinite:
                errors[-1].append(np.inf)
                continue
            errors[-1].append(error(x, choosing))
            if errors[-1][-1] == min(errors[-1]):
                best, used, converged = x, values, method.info.get("converged")
        if not np.isfinite(errors[-1]).any():
            missing[method.label] = "diverges"
            errors.pop()
            continue
        labels.append(method.label)
        estimates.append(best[0, 0].numpy())
        scores.append(error(best, scoring))
        chosen.append(f"{method.label} " + ", ".join(f"{key} = {value:.3g}" for key, value in used.items()))
        capped += [method.label] if converged is False else []
        weights |= {weight: entry["sha256"] for weight, entry in found.items()}
    arrays = {
        "zero_filled": zero_filled[0, 0].numpy().astype(np.float16),
        "estimates": np.array(estimates, np.float16).reshape(-1, *given.shape),
        "factors": np.array(section.factors),
        "choosing": np.array(errors).reshape(-1, len(section.factors)),
        "scores": np.array(scores),
    }
    floor = acquired.sigma * (2 * y.shape[1] * int(scoring.sum())) ** 0.5 / float((scoring * y).norm())
    meta = {
        "facts": {
            "coils": str(y.shape[1]),
            "size": "×".join(map(str, given.shape)),
            "source": data["title"],
            "measured": f"{100 * acquired.mask.mean():.0f} %",
            "held_out": f"{100 * section.held_out:g} %",
            "floor": f"{100 * floor:.0f} %",
            "chosen": "; ".join(chosen) or "none",
        },
        "labels": labels,
        "settings": solver(config, task) if "DEAL" in labels else {},
        "missing": missing,
        "capped": capped,
        "weights": weights,
        "data": data,
        "seed": seed,
        "device": str(device),
    }
    return arrays, meta


def split(mask: NDArray[np.uint8], share: float, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """The measured positions (H, W), zero frequency at [0, 0], in three parts: given, choosing, scoring.

    `share` of those outside the central calibration square are held out, at random, half for each purpose.
    """
    rows, columns = (np.abs(np.fft.fftfreq(n, 1 / n)) for n in mask.shape)
    width = mri_brain.CALIBRATION_WIDTH / 2
    outer = np.flatnonzero((mask != 0) & ~((rows < width)[:, None] & (columns < width)))
    if len(outer) < 2:
        raise UserError(
            f"figures.brain: {len(outer)} measurements outside the central square of {2 * width:g} pixels, too few to "
            "hold out; take a larger tasks.mri.phantom, or source: acquisition"
        )
    held = np.random.default_rng(seed).permutation(outer)[: max(2, round(share * len(outer)))]
    parts = [np.zeros(mask.size, np.uint8) for _ in range(2)]
    for part, places in zip(parts, (held[: len(held) // 2], held[len(held) // 2 :]), strict=True):
        part[places] = 1
    choosing, scoring = (part.reshape(mask.shape) for part in parts)
    return mask * (1 - choosing) * (1 - scoring), choosing, scoring


def _acquired(config: Config) -> tuple[mri_brain.Acquisition, dict[str, Any]]:
    if config.figures.brain.source == "acquisition":
        known = datasets.get(BRAIN)
        data = {"dataset": BRAIN, "title": f"the {known.title}", "digest": known.digest}
        return mri_brain.load(Path(config.cache), config.mirror), data
    size = config.tasks.mri.phantom
    acquired = mri_brain.phantom(size.coils, size.height, size.width, size.seed)
    return acquired, {"dataset": "phantom", "title": "a phantom", **size.model_dump(mode="json")}


def scaled(known: Mapping[str, "Hyperparameter"], factor: float) -> dict[str, float]:
    """The values where a search begins, the first (the regularisation parameter) times `factor` within its bounds."""
    values = {name: parameter.default for name, parameter in known.items()}
    for name, parameter in list(known.items())[:1]:
        values[name] = min(max(factor * parameter.default, parameter.low), parameter.high)
    return values
