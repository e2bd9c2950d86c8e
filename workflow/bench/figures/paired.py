"""DEAL against the other methods, image by image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.figures import style

TITLE = "Paired differences, image by image"
CAPTION = """PSNR of DEAL minus that of another method, for each image that both have results of ({images} images a
row): positive means that DEAL is better. Dots are images, the bar is the mean with its 95 % bootstrap interval over
the images."""
ALT = "Differences in PSNR between DEAL and each other method, one dot an image, with means and intervals."
SEED = 0
ROW = 0.2
"""Inches of a row."""


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """A panel for each column of the table, a row for each method."""
    columns = list(dict.fromkeys(row["column"] for row in meta["rows"]))
    labels = list(dict.fromkeys(row["label"] for row in meta["rows"]))
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure = style.figure(down * (0.55 + ROW * max(2, len(labels))))
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for n, column in enumerate(columns):
        axes = panels.flat[n]
        _panel(axes, data, [(i, row) for i, row in enumerate(meta["rows"]) if row["column"] == column], labels)
        axes.set_title(column)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if n + across >= len(columns):
            axes.set_xlabel("PSNR of DEAL minus the method's, dB")
    for axes in panels.flat[len(columns) :]:
        axes.set_axis_off()
    panels.flat[0].set_yticks(range(len(labels)), labels)
    panels.flat[0].set_ylim(len(labels) - 0.4, -0.6)
    return figure


def _panel(axes: Axes, data: Mapping[str, np.ndarray], rows: list[tuple[int, Mapping]], labels: list[str]) -> None:
    spread = np.random.default_rng(SEED)
    axes.axvline(0, color="0.4", linewidth=0.8)
    for i, row in rows:
        y, values = labels.index(row["label"]), data[f"d{i}"]
        height = y + spread.uniform(-0.22, 0.22, len(values)) if len(values) > 1 else np.array([float(y)])
        axes.plot(values, height, ".", color="0.55", markersize=3.5, markeredgewidth=0)
        if np.isfinite([row["low"], row["high"]]).all():
            axes.plot([row["low"], row["high"]], [y, y], color=style.DEAL_COLOUR, linewidth=2.2, solid_capstyle="butt")
        axes.plot(row["mean"], y, "|", color="black", markersize=7, markeredgewidth=1.3)
