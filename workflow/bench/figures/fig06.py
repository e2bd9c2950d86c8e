"""Figure 6: the impulse response of WᵀW and its spectrum."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from bench.figures import style

TITLE = "WᵀW has one zero eigenvalue, that of constant images"
CAPTION = """Impulse response of WᵀW ({kind} model, {weights} weights) on 49×49 pixels (its middle, {middle}, is off
the scale), the same on a symmetric logarithmic scale, and the magnitude of its Fourier transform on the {grid}×{grid}
grid, zero frequency in the middle. Of {of} eigenvalues {zeros} is zero to rounding ({smallest}), that of constants;
the next is {next}, the largest {largest}. This holds for the periodic WᵀW; with the zero padding that is used,
constants are annihilated away from the borders only."""
ALT = "Impulse response of WᵀW, linear and logarithmic, and its spectrum with a single zero at frequency 0."
DATA = "filters_gray"


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Three panels: response, response on a logarithmic scale, spectrum."""
    response, spectrum = data["response"][0, 0], data["eigenvalues"][..., 0]
    figure = style.figure(1.95)
    first, second, third = figure.subplots(1, 3)
    top = float(np.abs(response).max())
    around = float(np.sort(np.abs(response).ravel())[-2])
    drawn = style.image(first, response, "response", cmap="RdBu_r", vmin=-around, vmax=around)
    style.scale(figure, drawn, first)
    norm = SymLogNorm(linthresh=1e-4 * top, vmin=-top, vmax=top)
    drawn = style.image(second, response, "response, logarithmic", cmap="RdBu_r", norm=norm, vmin=None, vmax=None)
    bar = style.scale(figure, drawn, second)
    bar.set_ticks([-0.1, -1e-3, 0, 1e-3, 0.1])
    bar.ax.yaxis.set_major_formatter(lambda value, _: style.plain(value).replace("-", "−"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    # The zero eigenvalue has no logarithm: it is drawn at the lower end of the scale.
    floor = float(np.sort(spectrum.ravel())[1])
    drawn = style.image(
        third,
        np.maximum(spectrum, floor),
        "eigenvalues by frequency",
        cmap="viridis",
        norm=LogNorm(floor, float(spectrum.max())),
        vmin=None,
        vmax=None,
    )
    bar = style.scale(figure, drawn, third)
    style.log_ticks(bar.ax.yaxis)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    middle = len(spectrum) // 2
    third.plot(middle, middle, "o", color=style.MARK, fillstyle="none", markersize=5)
    third.annotate(
        f"{meta['facts']['zeros']} of {meta['facts']['of']} is 0",
        (middle, middle),
        xytext=(0, -16),
        textcoords="offset points",
        ha="center",
        color="white",
        path_effects=[withStroke(linewidth=1.5, foreground="black")],
    )
    return figure
