"""PSNR against the number of parameters and against seconds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import style, ticks

TITLE = "Quality against parameters and seconds"
CAPTION = """Mean PSNR over {images} images of each setting, against the learned parameters that a method holds
(above) and against the median seconds of a reconstruction on {devices} (below), as the evaluation took them: other
work on the machine counts. {none}"""
ALT = "Two rows of scatter plots: PSNR against parameters and PSNR against seconds, one point a method."


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Columns are settings; the upper row has parameters, the lower one seconds."""
    columns = list(dict.fromkeys(row["column"] for row in meta["rows"]))
    labels = list(dict.fromkeys(row["label"] for row in meta["rows"]))
    looks = style.colours(labels)
    across = min(3, len(columns))
    blocks = -(-len(columns) // across)
    figure = style.figure(3.0 * blocks + 0.15 * (1 + len(labels) // 8))
    panels = figure.subplots(2 * blocks, across, squeeze=False, sharey=False)
    for n in range(blocks * across):
        upper, lower = panels[2 * (n // across), n % across], panels[2 * (n // across) + 1, n % across]
        if n >= len(columns):
            upper.set_axis_off()
            lower.set_axis_off()
            continue
        rows = [row for row in meta["rows"] if row["column"] == columns[n]]
        _panel(upper, rows, "parameters", looks)
        _panel(lower, rows, "seconds", looks)
        upper.set_title(columns[n])
        upper.set_xlabel("learned parameters")
        lower.set_xlabel("seconds")
        if n % across == 0:
            upper.set_ylabel("PSNR, dB")
            lower.set_ylabel("PSNR, dB")
    handles = [panels[0, 0].plot([], [], marker, color=colour)[0] for colour, marker in looks.values()]
    figure.legend(handles, looks, loc="outside lower center", ncols=min(8, len(labels)), columnspacing=1.0)
    return figure


def _panel(axes: Axes, rows: list[Mapping], key: str, looks: Mapping[str, tuple[str, str]]) -> None:
    known = [row[key] for row in rows if row[key]]
    edge = min(known, default=1.0) / 4
    for row in rows:
        colour, marker = looks[row["label"]]
        size = 6 if row["label"] == "DEAL" else 4.5
        axes.plot(row[key] or edge, row["psnr"], marker, color=colour, markersize=size, markeredgewidth=0)
    axes.set_xscale("log")
    axes.margins(0.12, 0.15)
    ticks.logarithmic(axes.xaxis, [*known, edge])
