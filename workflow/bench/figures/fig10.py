"""Figure 10: MRI reconstructions side by side, an enlarged region, and squared errors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import panels, style

TITLE = "MRI, methods compared"
CAPTION = """MRI of {images} ({dataset}), {setting}: reconstructions with PSNR and SSIM, the marked region enlarged, and
the squared error of each.{notes}"""
ALT = """The slice {images} reconstructed by all methods; below each its marked region enlarged and a map of its squared
error."""
VMAX = 0.003
"""Squared error that is white, as in the figures of SAFI."""
MOST = 7


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Three rows for every seven panels at most: image, zoom, error."""
    shown = panels.panels(data, meta, 0, "Zero-filled")
    region = panels.window(meta, shown[0][0])
    columns = panels.columns_for(len(shown), MOST)
    groups = -(-len(shown) // columns)
    height, width = shown[0][0].shape[-2:]
    side = min((style.PAGE - 0.45) / columns, 1.5)
    tall = side * (2 * height / width + region[2] / region[3])
    figure = style.figure(groups * (tall + 0.42), columns * side + 0.45)
    ratios = [height / width, region[2] / region[3], height / width] * groups
    axes = figure.subplots(3 * groups, columns, squeeze=False, height_ratios=ratios)
    truth = shown[0][0]
    for n, (pixels, title, score) in enumerate(shown):
        top = 3 * (n // columns)
        above, middle, below = (axes[top + row, n % columns] for row in range(3))
        style.image(above, pixels, score)
        above.set_title(title)
        style.mark(above, region)
        style.image(middle, style.crop(pixels, region))
        if n:
            error = ((pixels - truth) ** 2)[0]
            drawn = style.image(below, error, cmap="inferno", vmax=VMAX)
        else:
            below.set_axis_off()
            below.text(0.5, 0.5, "squared\nerror", ha="center", va="center", transform=below.transAxes)
    for place in axes.flat:
        if not place.has_data() and not place.texts:
            place.set_axis_off()
    bar = style.scale(figure, drawn, axes[2::3].ravel().tolist(), ticks=[0, 0.001, 0.002, 0.003], extend="max")
    bar.ax.set_yticklabels(["0", "0.001", "0.002", "0.003"])
    return figure
