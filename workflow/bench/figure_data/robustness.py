"""What it costs to be wrong about the noise level or about the blur kernel."""

import hashlib
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bench import tasks
from bench.config import Config
from bench.figure_data import compared
from bench.figure_data.comparison import shared, solver
from bench.figure_data.problems import problem
from bench.figure_data.runs import runs

PROBLEMS = {"denoising": "all", "deblurring": "all"}
SECTIONS = ("robustness",)


def turned(kernel: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """A blur kernel turned about its centre of mass, which stays where it is; sum 1, each side 8 pixels longer.

    Turned about its middle it would also shift the image, which is another error.
    """
    padded = np.pad(np.asarray(kernel, dtype=np.float64), 4)
    if degrees == 0:
        return padded
    centre = np.array(scipy.ndimage.center_of_mass(padded))
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = scipy.ndimage.affine_transform(padded, turn, centre - turn @ centre, order=1)
    return found / found.sum()


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """PSNR of each method under wrong assumptions.

    Arrays: `factors` (F,) and `denoising` (methods, F, images): told so many times the true noise level; `degrees`
    (D,) and `deblurring` (methods, D, images): told the kernel turned by so much.
    """
    wanted = config.figures.robustness
    factors, degrees = np.array(wanted.noise_factors), np.array(wanted.rotations_deg)
    arrays: dict[str, np.ndarray] = {"factors": factors, "degrees": degrees}
    meta: dict[str, Any] = {"facts": {}, "images": [], "settings": {}, "missing": {}, "capped": []}
    sidecar: dict[str, Any] = {"weights": {}, "data": {}}
    for name, points in (("denoising", factors), ("deblurring", degrees)):
        found = problem(config, name, images=wanted.images)
        able, missing = runs(found, compared(config, found.task), alone=False)
        scores = np.empty((len(able), len(points), len(found.items)))
        capped: dict[str, int] = {}
        bar = tqdm(total=scores.size, desc=f"robustness, {name}", unit="estimate")
        for n, run in enumerate(able):
            for p, point in enumerate(points):
                for i, item in enumerate(found.items):
                    told = {"sigma": float(point) * item.sigma} if name == "denoising" else _blur(item, float(point))
                    estimate = run.estimate(item, **told)
                    scores[n, p, i] = estimate.psnr
                    capped[run.label] = capped.get(run.label, 0) + (estimate.converged is False)
                    bar.update()
        bar.close()
        arrays[name] = scores
        meta[f"{name}_labels"] = [run.label for run in able]
        meta["facts"] |= {f"{name}_{key}": value for key, value in found.facts().items()}
        meta["images"] += [item.image for item in found.items]
        meta["missing"] |= missing
        of = len(points) * len(found.items)
        meta["capped"] += [f"{label} in {count} of {of} cases of {name}" for label, count in capped.items() if count]
        meta["settings"] |= solver(config, found.task) if any(run.name == "deal" for run in able) else {}
        own = shared(config, found, able)
        sidecar["weights"] |= own["weights"]
        sidecar["data"][name] = own["data"]
        sidecar |= {"seed": own["seed"], "device": own["device"]}
    return arrays, meta | sidecar


def _blur(item: tasks.Item, degrees: float) -> dict[str, Any]:
    kernel = turned(item.operator.kernel.numpy(), degrees)
    return {"operator": tasks.Blur(torch.from_numpy(kernel)), "tag": hashlib.sha256(kernel.tobytes()).hexdigest()}
