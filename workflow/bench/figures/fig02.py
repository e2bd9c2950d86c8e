"""Figure 2: the multi-convolution block and the mask network, as a drawing."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import boxes, style

TITLE = "Filters and mask network"
CAPTION = """Above, the multi-convolution block of the {kind} model: three convolutions without bias, the first
with kernels of zero mean; together they act like {count} kernels of {support}×{support} pixels. W is one, divided
by √L with L ≈ ‖WᵀW‖; W_mask, the first layer of the mask network below, is another, which is not normalised. φ1,
φ2, φ3 are learned splines of magnitudes, φ1 and φ2 not decreasing; the scaling α_c(σ) of each channel brings in
the noise level."""
ALT = """Three convolutions in a row; below, the mask network: filters, spline, convolution, spline, convolution,
scaling, spline."""
DATA = "filters_gray"


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """The block above, the mask network below; sizes are those of the model."""
    figure, axes = boxes.canvas(2.35)
    built = meta["architecture"]
    _block(axes, built)
    _mask(axes, built)
    return figure


def _block(axes: Axes, built: Mapping[str, Any]) -> None:
    y, k, first = 1.82, built["kernel"], built["channels"][0]
    axes.text(0.1, y + 0.4, "multi-convolution block W", fontsize=style.SIZE, weight="bold", va="bottom")
    boxes.box(axes, (0.5, y), (0.7, 0.42), "image x", "data", f"{first} channel{'s' * (first > 1)}")
    x = 0.85
    for n, (_, outputs) in enumerate(pairwise(built["channels"])):
        centre = 1.85 + 1.5 * n
        mean = "\nzero mean" if n == 0 else ""
        boxes.box(axes, (centre, y), (1.05, 0.42), f"convolution {k}×{k}{mean}", "linear", f"{outputs} channels")
        boxes.arrow(axes, (x, y), (centre - 0.525, y))
        x = centre + 0.525
    boxes.box(axes, (6.2, y), (0.85, 0.42), "responses\nW x", "data", "divided by √L")
    boxes.arrow(axes, (x, y), (5.775, y))


def _mask(axes: Axes, built: Mapping[str, Any]) -> None:
    y, k = 0.62, built["mask_kernel"]
    axes.text(0.1, y + 0.4, "mask network M(x, σ)", fontsize=style.SIZE, weight="bold", va="bottom")
    channels = built["channels"][-1]
    steps = [
        ("image x", "data", "", 0.5),
        ("W_mask", "linear", f"{channels} channels", 0.55),
        ("φ1(|·|)", "nonlinear", "spline", 0.5),
        (f"M2\n{k}×{k}", "linear", f"{channels} → {channels}", 0.5),
        ("φ2(|·|)", "nonlinear", "spline", 0.5),
        (f"M3\n{k}×{k}", "linear", f"{channels} → {channels}", 0.5),
        ("α_c(σ) |·|", "nonlinear", "scaling", 0.62),
        ("clip(φ3, 0.01, 1)", "nonlinear", "spline", 0.95),
        ("M", "data", "", 0.3),
    ]
    gap = (style.PAGE - 0.2 - sum(width for *_, width in steps)) / (len(steps) - 1)
    left = 0.1
    for n, (text, kind, note, width) in enumerate(steps):
        boxes.box(axes, (left + width / 2, y), (width, 0.42), text, kind, note)
        if n:
            boxes.arrow(axes, (left - gap, y), (left, y))
        left += width + gap
