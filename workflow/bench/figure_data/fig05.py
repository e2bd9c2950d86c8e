"""Figures 5 and 12: super-resolution from five initialisations."""

from typing import Any

import numpy as np
import torch

from bench.config import Config
from bench.figure_data.comparison import compare
from bench.figure_data.paths import deal, end, follow, mean_mask
from bench.items import Item

PROBLEMS = {"superres": "all"}
SEED = 0


def starts(item: Item) -> dict[str, torch.Tensor]:
    """Label → x_0, (1, C, H, W)."""
    draw = np.random.RandomState(SEED)
    shape = tuple(item.x.shape)
    return {
        "0": torch.zeros_like(item.x),
        "U[0, 1]": torch.from_numpy(draw.uniform(size=shape).astype(np.float32)),
        "N(0, I)": torch.from_numpy(draw.normal(size=shape).astype(np.float32)),
        "Hᵀy": item.operator.A_adjoint(item.y),
        "original": item.x,
    }


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The comparison of methods, as `compare`; the data `y` (C, h, w); for each start j:

    `start{j}` (C, H, W) and `mask{j}` (H, W), the mean of M(x_0), half precision; `psnr_path{j}` (K + 1,),
    `change{j}` (K,); `spread`, the largest relative distance between two of the solutions.
    """
    arrays, meta, found = compare(config, "superres")
    run, item = deal(found), found.items[0]
    arrays["y"] = item.y[0].numpy().astype(np.float16)
    labels, ends, solutions = [], [], []
    for j, (label, start) in enumerate(starts(item).items()):
        path = follow(run, item, start)
        arrays[f"start{j}"] = found.shown(start[0])
        arrays[f"mask{j}"] = found.shown(mean_mask(run, item, start))[0]
        arrays[f"psnr_path{j}"], arrays[f"change{j}"] = path.psnr, path.change
        labels.append(label)
        ends.append(f"from {label}: {end(path)}")
        solutions.append(path.iterates[-1])
    distances = [float((a - b).norm() / a.norm()) for a in solutions for b in solutions]
    arrays["spread"] = np.array(max(distances))
    meta["facts"] |= {"ends": "; ".join(ends), "spread": f"{max(distances):.1e}"}
    meta["weights"] |= run.hashes
    return arrays, meta | {"starts": labels, "tol": run.method.options["tol"]}
