"""Figure 7: what two filters see, and what the mask leaves of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.figures import style

TITLE = "Two filters, their responses and their masks"
CAPTION = """Two channels ({channels}) of the denoised image {images} ({dataset}, {setting}), left to right: the
effective kernel of W_c, the squared response (W_c x)², the mask m_c(x), and what is penalised, (m_c ⊙ W_c x)². The
mask is small where the filter responds, so edges are spared. The scales of the responses end at their 99.5th
percentile.{notes}"""
ALT = "Kernel, squared response, mask and masked response of two filters on the denoised image."
DATA = "castle"


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """A row for each channel."""
    rows, columns = data["x"].shape
    width = (style.PAGE - 1.1) / 3.75
    figure = style.figure(2 * (width * rows / columns + 0.2))
    axes = figure.subplots(2, 4, width_ratios=[0.75, 1, 1, 1])
    for n, channel in enumerate(meta["channels"]):
        kernel = data["kernels"][n]
        top = float(np.abs(kernel).max())
        first, second, third, fourth = axes[n]
        style.image(first, kernel, f"W_c, c = {channel}", vmin=-top, vmax=top)
        _scaled(figure, second, data["response"][n], "(W_c x)²")
        style.scale(figure, style.image(third, data["mask"][n], "m_c(x)"), third)
        _scaled(figure, fourth, data["masked"][n], "(m_c ⊙ W_c x)²")
    return figure


def _scaled(figure: Figure, axes: Axes, pixels: np.ndarray, label: str) -> None:
    """An image with a scale that ends at the 99.5th percentile, in plain numbers."""
    bar = style.scale(figure, style.image(axes, pixels, label, vmax=np.percentile(pixels, 99.5)), axes)
    bar.locator = MaxNLocator(3)
    bar.formatter = FuncFormatter(lambda value, _: style.plain(value))
    bar.update_ticks()
