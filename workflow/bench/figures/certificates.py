"""Numbers behind the theory: kernel of W, contraction of the fixed-point map, stability of the reconstruction."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from bench.figures import style

TITLE = "Numerical certificates"
CAPTION = """Left: the smallest eigenvalues of the periodic WᵀW, relative to the largest, {weights} weights;
{zeros_gray} of the gray and {zeros_color} of the colour model is zero to rounding (circle at the lower edge), that
of constants. Middle: ratios of successive changes of the plain iteration from x₀ = 0 on a {side} patch of {images}
({setting}), and, at its fixed point, the local Lipschitz constant q = ‖J‖₂ = {q} and the spectral radius {radius}
of the map. Right: how much the reconstruction changes with the data, for perturbations of several sizes; the
largest ratio is {worst}. The bound ‖H‖/((1 − q) λ_min) {bound}; it is derived here from the fixed-point equation
and taken as the paper's (18), with q and λ_min measured at the one reconstruction, so it is local. There the
eigenvalues of A lie in [{low}, {high}] (λ = {lmbda}). All numbers are in the file of the data.{notes}"""
ALT = "Smallest eigenvalues of WᵀW, contraction of the iteration, and measured stability against its bound."
FLOOR = 1e-7


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Three panels."""
    figure = style.figure(2.1)
    first, second, third = figure.subplots(1, 3)
    _kernel(first, data)
    _contraction(second, data, meta)
    _stability(third, data, meta)
    return figure


def _kernel(axes: Axes, data: Mapping[str, np.ndarray]) -> None:
    for n, (kind, label) in enumerate((("gray", "gray"), ("color", "colour"))):
        values = np.abs(data[f"smallest_{kind}"])
        shown = np.maximum(values, FLOOR)
        axes.plot(np.arange(1, len(shown) + 1), shown, style.MARKERS[n], color=style.COLOURS[n], label=label, ms=2.5)
        zeros = np.flatnonzero(values < FLOOR)
        axes.plot(zeros + 1, shown[zeros], "o", color="black", fillstyle="none", ms=6, mew=0.7)
    axes.annotate("zero", (1, FLOOR), xytext=(9, -2), textcoords="offset points")
    axes.set(
        yscale="log", xlabel="eigenvalue, from the smallest", ylabel="relative to the largest", ylim=(FLOOR / 2, None)
    )
    style.log_ticks(axes.yaxis)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(loc="lower right")


def _contraction(axes: Axes, data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    ratios = data["ratios"]
    axes.plot(np.arange(1, len(ratios) + 1), ratios, "-o", color=style.DEAL_COLOUR, label="plain iteration")
    axes.axhline(meta["q"], color=style.COLOURS[1], linestyle="--", label="q = ‖J‖₂")
    axes.axhline(meta["radius"], color=style.COLOURS[2], linestyle=":", label="spectral radius")
    axes.axhline(1, color="0.5", linewidth=0.6)
    axes.set(xlabel="update k", ylabel="ratio of successive changes", ylim=(0, None))
    axes.legend(loc="lower right")


def _stability(axes: Axes, data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    for n, (direction, values) in enumerate(zip(data["directions"], data["measured"], strict=True)):
        axes.plot(data["sizes_255"], values, f"-{style.MARKERS[n]}", color=style.COLOURS[n], label=str(direction))
    bound = meta["bound"]
    if bound is not None:
        axes.axhline(bound, color="black", linestyle="--", label="bound")
    high = max(float(data["measured"].max()), bound or 1.0)
    axes.set(xscale="log", xlabel="size of the perturbation (of 255)", ylabel="‖Δx‖ / ‖Δy‖", ylim=(0, 1.35 * high))
    axes.set_xticks(data["sizes_255"], [f"{size:g}" for size in data["sizes_255"]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(ncols=2, loc="upper left", columnspacing=0.8)
