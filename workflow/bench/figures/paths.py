"""Solution paths: iterates above their masks, the curves below them (Figures 4 and 11)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import style

CURVES = 1.3
"""Inches that the curves take of the height."""


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Two rows of images, then the two curves side by side."""
    steps = data["steps"]
    height, width = data["x"].shape[-2:]
    side = min((style.PAGE - 0.55) / len(steps), 1.3)
    tall = 2 * side * height / width + 0.42
    figure = style.figure(tall + CURVES)
    above, below = figure.subfigures(2, 1, height_ratios=[tall, CURVES])
    axes = above.subplots(2, len(steps), squeeze=False)
    for column, k in enumerate(steps):
        style.image(axes[0, column], data["x"][column].astype(float), style.score(data["psnr"][k]))
        axes[0, column].set_title(f"k = {k}")
        drawn = style.image(axes[1, column], data["mask"][column].astype(float), cmap="viridis")
    axes[0, 0].set_ylabel("xₖ")
    axes[1, 0].set_ylabel("mean of M(xₖ)")
    style.scale_beside(axes[1, -1], drawn)
    left, right = below.subplots(1, 2)
    psnr, change = data["psnr"], data["change"]
    left.plot(np.arange(len(psnr)), psnr, color=style.DEAL_COLOUR)
    left.set(xlabel="update k", ylabel="PSNR (dB)")
    changes(right, [change], [None], meta.get("tol"))
    right.set(xlim=left.get_xlim())
    style.whole(left.xaxis)
    return figure


def changes(axes: Any, all_changes: list[np.ndarray], labels: list[str | None], tol: float | None) -> None:
    """Relative change of each update, on a logarithmic scale; the tolerance dotted."""
    for j, (change, label) in enumerate(zip(all_changes, labels, strict=True)):
        k = np.arange(1, len(change) + 1)
        if label is None:
            axes.plot(k, change, color=style.DEAL_COLOUR)
        else:
            style.curve(axes, k, change, j, label)
    axes.set(yscale="log", xlabel="update k", ylabel="relative change")
    style.log_ticks(axes.yaxis)
    style.whole(axes.xaxis)
    if tol:
        axes.axhline(tol, color="black", linewidth=0.6, linestyle=":")
