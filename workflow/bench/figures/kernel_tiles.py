"""All 128 effective kernels of a filter block as tiles, for Figures 13 and 14."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from bench.figures import style

CAPTION = """Impulse responses (25×25) of the 128 channels of {which}, {{kind}} model with {{weights}} weights, in the
order of the channels: row label plus column label is the channel. One scale for all, ending at the 99.5th percentile of
the magnitudes; {colours}middle gray is 0."""
ALT = "128 tiles, each the 25×25 effective kernel of one channel of {which}."
W, W_MASK = "W, divided by √L", "W_mask, as learned"
RGB = "red, green and blue are the three input channels, "
COLUMNS = 16
PERCENTILE = 99.5
"""Of all magnitudes: where the scale ends, since most of a kernel is far smaller than its middle."""


def draw(kernels: np.ndarray, marked: Sequence[int] = ()) -> Figure:
    """Kernels (128, C, k, k) in the order of the channels; one symmetric scale for all, middle gray is 0.

    C = 3 is shown as colour. The channels `marked` have a border.
    """
    top = float(np.percentile(np.abs(kernels), PERCENTILE))
    shown = np.clip(0.5 + kernels / (2 * top), 0, 1)
    count, channels, size = kernels.shape[:3]
    gap = 3
    rows, step = -(-count // COLUMNS), size + gap
    sheet = np.ones((channels, rows * step + gap, COLUMNS * step + gap))
    for n, kernel in enumerate(shown):
        row, column = gap + (n // COLUMNS) * step, gap + (n % COLUMNS) * step
        sheet[:, row : row + size, column : column + size] = kernel
    figure = style.figure(style.PAGE * sheet.shape[1] / sheet.shape[2] * (0.92 if channels == 1 else 0.97) + 0.15)
    axes = figure.subplots()
    drawn = style.image(axes, sheet)
    for n in marked:
        style.mark(axes, ((n // COLUMNS) * step + 2, (n % COLUMNS) * step + 2, size + 2, size + 2))
    axes.set_yticks([row * step + gap + size / 2 for row in range(rows)], [str(row * COLUMNS) for row in range(rows)])
    axes.set_xticks([c * step + gap + size / 2 for c in range(COLUMNS)], [f"+{c}" for c in range(COLUMNS)])
    axes.tick_params(length=0)
    if channels == 1:
        bar = style.scale(figure, drawn, axes, aspect=30, fraction=0.03)
        ticks = [0, 0.25, 0.5, 0.75, 1]
        bar.set_ticks(ticks, labels=[f"{(2 * tick - 1) * top:.3f}".replace("-", "−") for tick in ticks])
    return figure
