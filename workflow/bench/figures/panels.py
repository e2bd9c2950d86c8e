"""Grids of labelled images: what Figures 3, 9 and 10 have in common."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.figures import style


def window(meta: Mapping[str, Any], pixels: np.ndarray) -> list[int]:
    """The region to enlarge in (C, H, W): the one asked for, else the busiest. A UserError if it does not fit."""
    from bench.errors import UserError

    if (wanted := meta.get("zoom")) is None:
        return style.busiest(pixels)
    top, left, height, width = wanted
    rows, columns = pixels.shape[-2:]
    if not (height and width and top + height <= rows and left + width <= columns):
        raise UserError(f"zoom {wanted} does not fit into an image of {rows}×{columns} pixels; see `figures` in config")
    return list(wanted)


def panels(data: Mapping[str, np.ndarray], meta: Mapping[str, Any], i: int, measured: str) -> list[tuple]:
    """(pixels (C, H, W), title, score) of image i: the truth, the measurement, the estimates."""
    psnr, ssim = data["psnr"][i], data["ssim"][i]
    found = [(data[f"truth{i}"], "Original", "PSNR, SSIM")]
    found.append((data[f"measurement{i}"], measured, style.score(psnr[0], ssim[0])))
    for n, label in enumerate(meta["labels"]):
        found.append((data[f"estimates{i}"][n], label, style.score(psnr[n + 1], ssim[n + 1])))
    return [(pixels.astype(np.float32), title, score) for pixels, title, score in found]


def columns_for(count: int, most: int) -> int:
    """Columns that spread `count` panels evenly over as few rows of at most `most` as possible."""
    rows = -(-count // most)
    return -(-count // rows)
