"""PSNR against seconds for all methods, and the distance to the solution for DEAL's two algorithms."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import style

TITLE = "Error against time"
CAPTION = """Deblurring of {images} ({dataset}), {setting}, on {device}. Left: PSNR of the estimates that each method
passes through, against the seconds since its start; one that shows no estimates on its way is a point. Right: relative
distance of DEAL's iterates to its solution (relative residual {residual}) by the authors' algorithm (reference) and by
the accelerated one (fast).{notes}"""
ALT = """Left, curves of PSNR rising with time, one a method; right, the distance to DEAL's solution falling with time
for two algorithms."""
SHOWN_DB = 20.0
"""Estimates that are further below the best one are not shown."""


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Two panels, time on a logarithmic axis."""
    looks = style.colours(meta["labels"])
    figure = style.figure(2.25 + 0.13 * -(-len(looks) // 6))
    left, right = figure.subplots(1, 2)
    best = max((float(data[f"psnr{n}"].max()) for n in range(len(looks))), default=0.0)
    for n, (colour, marker) in enumerate(looks.values()):
        seconds, psnr = data[f"seconds{n}"], data[f"psnr{n}"]
        left.plot(seconds, psnr, color=colour, marker=marker, markevery=[len(psnr) - 1])
    left.set(ylabel="PSNR (dB)", ylim=(best - SHOWN_DB, best + 1))
    algorithms = meta["algorithms"]
    for j, algorithm in enumerate(algorithms):
        style.curve(right, data[f"seconds_{algorithm}"], data[f"distance_{algorithm}"], j, algorithm)
    if algorithms:
        right.set(yscale="log", ylabel="‖x − x*‖ / ‖x*‖")
        style.log_ticks(right.yaxis)
        right.legend(title="DEAL", title_fontsize=style.SIZE, loc="lower left")
    else:
        right.text(0.5, 0.5, "DEAL could not be run", ha="center", va="center", transform=right.transAxes)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="seconds")
        low, high = axes.get_xlim()
        style.log_ticks(axes.xaxis, (1.0, 2.0, 5.0) if high < 300 * low else (1.0,))  # more labels would touch
    style.legend(figure, looks)
    return figure
