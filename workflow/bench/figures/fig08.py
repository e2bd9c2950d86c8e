"""Figure 8: the weights with which a pixel of the result averages the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bench.figures import style

TITLE = "Each pixel is a weighted average of the data"
CAPTION = """Rows of A⁻¹, that is A⁻¹e_n, for three pixels of {images} ({dataset}, {setting}; λ = {lmbda}): {pixels}.
Shown are {window}×{window} pixels around each of the noisy y, the denoised x and the weights; the weights adapt to
the structure. Computed on the {reach}×{reach} pixels around each, they sum to {sums}; their inner products with y
differ from the pixels of x by at most {gap}.{notes}"""
ALT = "Noisy and denoised surroundings of three pixels, and the averaging weights of each."
DATA = "castle"
DECADES = 2.5
"""Logarithmic range of the third row."""


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """A row for each pixel; the weights of the flat region on a logarithmic scale."""
    figure = style.figure(4.2, 4.6)
    axes = figure.subplots(3, 3)
    for n, (what, pixel) in enumerate(meta["pixels"].items()):
        weights = data["columns"][n]
        top, left = (int(start) for start in data["corners"][n])
        window = (top, left, *weights.shape)
        place = pixel[1] - left, pixel[0] - top
        first, second, third = axes[n]
        last = n == len(meta["pixels"]) - 1
        style.image(first, style.crop(data["noisy"], window), "noisy y" if last else "")
        style.image(second, style.crop(data["x"], window), "denoised x" if last else "")
        first.set_ylabel(what)
        if "flat" in what:
            high = float(weights.max())
            norm = LogNorm(high / 10**DECADES, high)
            shown = np.maximum(weights, high / 10**DECADES)
            drawn = style.image(third, shown, "weights A⁻¹e", cmap="magma", norm=norm, vmin=None, vmax=None)
            bar = style.scale(figure, drawn, third)
            style.log_ticks(bar.ax.yaxis)
        else:
            drawn = style.image(third, weights, "", cmap="magma", vmin=0, vmax=float(weights.max()))
            style.scale(figure, drawn, third)
        for panel in (first, second):
            panel.plot(*place, "+", color=style.MARK, markersize=6, markeredgewidth=0.9)
    return figure
