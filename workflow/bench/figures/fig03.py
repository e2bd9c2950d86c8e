"""Figure 3: denoised images side by side, a region enlarged."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import panels, style

TITLE = "Denoising, methods compared"
CAPTION = """Denoising of {images} ({dataset}), {setting}: PSNR and SSIM of the whole image below each; the marked
region is shown enlarged.{notes}"""
ALT = """The image {images}, its noisy version and the estimates of all methods, each with a region enlarged and its
PSNR and SSIM."""
MOST = 4
TEXT = 0.3
"""Inches of text below a row of images."""


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Panels in rows, the original first."""
    shown = panels.panels(data, meta, 0, "Noisy")
    columns = panels.columns_for(len(shown), MOST)
    rows = -(-len(shown) // columns)
    height, width = shown[0][0].shape[-2:]
    side = min(style.PAGE / columns, 2.3)
    figure = style.figure(rows * (side * height / width + TEXT), columns * side)
    region = panels.window(meta, shown[0][0])
    for axes, (pixels, title, score) in zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
        style.image(axes, pixels, f"{title}\n{score}")
        style.zoom(axes, pixels, region)
    for axes in figure.axes[len(shown) :]:
        axes.set_axis_off()
    return figure
