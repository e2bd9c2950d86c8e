"""Solution paths: iterates above their masks, the curves beside them (Figures 4 and 11)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import style

CURVES = 1.75
"""Inches that the curves take of the width."""


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Two rows of images, the curves stacked at the right."""
    steps = data["steps"]
    height, width = data["x"].shape[-2:]
    side = (style.PAGE - CURVES - 0.25) / len(steps)
    tall = side * height / width
    figure = style.figure(2 * tall + 0.72)
    left, right = figure.subfigures(1, 2, width_ratios=[style.PAGE - CURVES, CURVES])
    axes = left.subplots(2, len(steps), squeeze=False)
    for column, k in enumerate(steps):
        psnr = data["psnr"][k]
        style.image(axes[0, column], data["x"][column].astype(float))
        axes[0, column].set_title(f"k = {k}")
        axes[0, column].set_xlabel(style.score(psnr))
        drawn = style.image(axes[1, column], data["mask"][column].astype(float), cmap="viridis")
    axes[0, 0].set_ylabel("$x_k$")
    axes[1, 0].set_ylabel("mean of $M(x_k)$")
    style.scale(left, drawn, axes[1].tolist(), fraction=0.03, pad=0.01)
    curves(right, {"": (data["psnr"], data["change"])}, meta.get("tol"))
    return figure


def curves(place: Any, paths: Mapping[str, tuple[np.ndarray, np.ndarray]], tol: float | None) -> None:
    """PSNR above, relative change below, both against the number of updates."""
    above, below = place.subplots(2, 1, sharex=True)
    for number, (label, (psnr, change)) in enumerate(paths.items()):
        colour = style.COLOURS[number % len(style.COLOURS)]
        above.plot(np.arange(len(psnr)), psnr, color=colour, label=label)
        below.plot(np.arange(1, len(change) + 1), change, color=colour, label=label)
    above.set(ylabel="PSNR (dB)")
    below.set(yscale="log", xlabel="update k", ylabel="relative change")
    style.log_ticks(below.yaxis)
    style.whole(below.xaxis)
    if tol:
        below.axhline(tol, color="black", linewidth=0.6, linestyle=":")
