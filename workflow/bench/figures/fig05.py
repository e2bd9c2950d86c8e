"""Figure 5: super-resolution, methods compared, and DEAL from five initialisations."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import panels, style

TITLE = "Super-resolution, methods compared and five initialisations"
CAPTION = """Super-resolution of {images} ({dataset}), {setting}; the paper names no image. Top: the original, y
enlarged, and the methods, with PSNR and SSIM and the marked region enlarged. Middle: PSNR of DEAL's iterates from five
initialisations x₀; the solutions differ by at most {spread}, relatively. Bottom: the initialisations and the mean over
the channels of their masks M(x₀). DEAL {ends}.{notes}"""
ALT = """{images} upsampled by all methods; curves of PSNR from five initialisations that meet at one value; the five
initial images and their masks."""
MOST = 6


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Methods, curves, then initial images above masks."""
    shown = panels.panels(data, meta, 0, "Measurement")
    shown[1] = (_enlarged(data["y"], shown[0][0].shape), "Low resolution", "")
    columns = panels.columns_for(len(shown), MOST)
    rows = -(-len(shown) // columns)
    side, start = min(style.PAGE / columns, 1.55), 1.2
    aspect = shown[0][0].shape[-2] / shown[0][0].shape[-1]
    heights = [rows * (side * aspect + 0.32), 1.45, 2 * start * aspect + 0.34]
    figure = style.figure(sum(heights))
    above, middle, below = figure.subfigures(3, 1, height_ratios=heights)
    axes = above.subplots(rows, columns, squeeze=False)
    region = panels.window(meta, shown[0][0])
    for place, (pixels, title, score) in zip(axes.flat, shown, strict=False):
        style.image(place, pixels, f"{title}\n{score}")
        style.zoom(place, pixels, region)
    for place in axes.flat[len(shown) :]:
        place.set_axis_off()
    _curves(middle, data, meta)
    axes = below.subplots(2, len(meta["starts"]))
    for j, label in enumerate(meta["starts"]):
        style.image(axes[0, j], data[f"start{j}"].astype(float))
        axes[0, j].set_title(f"x₀: {label}", color=style.COLOURS[j])
        drawn = style.image(axes[1, j], data[f"mask{j}"].astype(float), cmap="viridis")
    axes[0, 0].set_ylabel("x₀")
    axes[1, 0].set_ylabel("mean of M(x₀)")
    style.scale_beside(axes[1, -1], drawn)
    return figure


def _enlarged(y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each pixel of y, (C, h, w), as a square, so that it fills (C, H, W)."""
    factor = shape[-1] // y.shape[-1]
    return y.astype(np.float32).repeat(factor, axis=1).repeat(factor, axis=2)


def _curves(place: Any, data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """PSNR against the number of updates; where the start is the original, from its first update on."""
    axes = place.subplots()
    for j, label in enumerate(meta["starts"]):
        psnr = data[f"psnr_path{j}"]
        k = np.flatnonzero(np.isfinite(psnr))
        style.curve(axes, k, psnr[k], j, label)
    axes.set(xlabel="update k", ylabel="PSNR (dB)")
    style.whole(axes.xaxis)
    axes.legend(title="x₀", title_fontsize=style.SIZE, ncols=5, loc="lower right")
