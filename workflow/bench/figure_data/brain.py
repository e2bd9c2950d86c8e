"""A real MRI acquisition without ground truth: methods side by side, judged by measured values they were not given.

A share of the measured positions outside the central calibration square is held out. One half of them chooses each
method's first hyperparameter (its regularisation parameter), the other half scores: ‖M(Ax − y)‖ / ‖My‖ with M the
scoring positions. What no image can explain, the noise among them, is part of the score.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bench import datasets, evaluate, mri_brain, registry
from bench.config import Config
from bench.devices import select_device
from bench.figure_config import BRAIN
from bench.figure_data import compared
from bench.figure_data.comparison import solver
from bench.items import Item
from deal.operators import MRI

PROBLEMS = {}
SECTIONS = ("brain",)
TASKS = ("mri",)
TASK = "mri"


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays: `zero_filled` (H, W), `estimates` (N, H, W), `factors` (F,), `choosing` (N, F) and `scores` (1 + N,),
    the zero-filled image first; errors are relative.
    """
    section = config.figures.brain
    acquired, data = _acquired(config)
    given, choosing, scoring = split(acquired.mask, section.held_out, config.task(TASK).seed)
    y, maps = torch.from_numpy(acquired.y)[None], torch.from_numpy(acquired.smaps)
    operator = MRI(torch.from_numpy(given), maps)
    shape = (1, 1, *acquired.mask.shape)
    item = Item(data["dataset"], torch.zeros(shape), y * operator.mask, operator, acquired.sigma)

    def error(x: torch.Tensor, mask: NDArray[np.uint8]) -> float:
        chosen = torch.from_numpy(mask)
        return float((chosen * (MRI(chosen, maps).A(x) - y)).norm() / (chosen * y).norm())

    device = select_device(config.device)
    labels, weights, missing, estimates, errors, values = [], {}, {}, [], [], {}
    scores = [error(operator.A_adjoint(item.y), scoring)]
    methods = [registry.create(name, config, section.setting) for name in compared(config, TASK)]
    for method in tqdm(methods, "brain", unit="method"):
        reason, found = evaluate.obstacle(config, TASK, method, acquired.sigma)
        if reason:
            missing[method.label] = reason
            continue
        method.setup(TASK, acquired.sigma, {name: Path(entry["path"]) for name, entry in found.items()}, device)
        tried = [(x := _estimate(method, item, factor, device), error(x, choosing)) for factor in section.factors]
        best = int(np.argmin([e for _, e in tried]))
        labels.append(method.label)
        weights |= {name: entry["sha256"] for name, entry in found.items()}
        errors.append([e for _, e in tried])
        estimates.append(tried[best][0][0, 0].numpy())
        scores.append(error(tried[best][0], scoring))
        values[method.label] = _values(method, item.sigma, section.factors[best])
    arrays = {
        "zero_filled": operator.A_adjoint(item.y)[0, 0].numpy().astype(np.float16),
        "estimates": np.stack(estimates).astype(np.float16) if labels else np.empty((0, *shape[2:]), np.float16),
        "factors": np.array(section.factors),
        "choosing": np.array(errors).reshape(len(labels), len(section.factors)),
        "scores": np.array(scores),
    }
    floor = acquired.sigma * (2 * len(y[0]) * int(scoring.sum())) ** 0.5 / float((torch.from_numpy(scoring) * y).norm())
    meta = {
        "facts": {
            "coils": str(len(y[0])),
            "size": "×".join(map(str, acquired.mask.shape)),
            "source": data["title"],
            "measured": f"{100 * acquired.mask.mean():.0f} %",
            "held_out": f"{100 * (choosing | scoring).sum() / acquired.mask.sum():.0f} %",
            "floor": f"{100 * floor:.0f} %",
            "chosen": "; ".join(f"{label} {text}" for label, text in values.items()) or "none",
        },
        "labels": labels,
        "settings": solver(config, TASK) if "DEAL" in labels else {},
        "missing": missing,
        "weights": weights,
        "data": data,
        "seed": config.task(TASK).seed,
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
    size = config.task(TASK).phantom
    acquired = mri_brain.phantom(size.coils, size.height, size.width, size.seed)
    return acquired, {"dataset": "phantom", "title": "a phantom", **size.model_dump(mode="json")}


def _scaled(method: Any, sigma: float, factor: float) -> dict[str, float]:
    """The values where a search begins, the first times `factor`, within its bounds."""
    known = method.hyperparameters_for(TASK, sigma)
    found = {name: parameter.default for name, parameter in known.items()}
    for name, parameter in list(known.items())[:1]:
        found[name] = min(max(factor * parameter.default, parameter.low), parameter.high)
    return found


def _values(method: Any, sigma: float, factor: float) -> str:
    return ", ".join(f"{name} = {value:.3g}" for name, value in _scaled(method, sigma, factor).items())


def _estimate(method: Any, item: Item, factor: float, device: torch.device) -> torch.Tensor:
    return evaluate.timed(method, [item], device, _scaled(method, item.sigma, factor))[0].cpu()
