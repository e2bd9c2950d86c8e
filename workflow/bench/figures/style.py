"""One style for all figures: sizes of a two-column paper, fonts, colours, panels."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

COLUMN, PAGE = 3.25, 6.75
"""Widths of one column and of the page, in inches."""
TALLEST = 8.0
"""Most inches of height: what fits above a caption on the page, so that LaTeX shrinks neither picture nor text."""
DPI = 200
SIZE, SMALL = 7.0, 6.5
"""Font sizes in points at print width; nothing is smaller than 6."""
# Okabe and Ito's colours, told apart with all common colour-vision deficiencies; yellow left out (invisible on white).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DEAL_COLOUR = COLOURS[0]
MARK = "#E69F00"
"""Of the rectangle around an enlarged region."""

RC = {
    "font.family": "DejaVu Sans",
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.35,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "axes.labelpad": 2.0,
    "axes.titlepad": 3.0,
    "image.interpolation": "nearest",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "figure.constrained_layout.hspace": 0.0,
    "figure.constrained_layout.wspace": 0.0,
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
}


def context() -> AbstractContextManager[None]:
    """Matplotlib's defaults with this style on top, whatever the user's own are."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **RC, "backend": "agg"})


def figure(height: float, width: float = PAGE) -> Figure:
    """An empty figure, sides in inches; it is no higher than a page allows."""
    return Figure(figsize=(width, min(height, TALLEST)), layout="constrained")


def absent(reason: str) -> Figure:
    """A figure that says why it is none."""
    made = figure(1.2)
    made.text(0.5, 0.5, "\n".join(wrap(f"Not drawn: {reason}", 100)), ha="center", va="center", color="#555555")
    return made


def colours(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Label → colour and marker; DEAL has always the same."""
    others = [label for label in labels if label != "DEAL"]
    found = {"DEAL": (DEAL_COLOUR, MARKERS[0])}
    for n, label in enumerate(others):
        found[label] = COLOURS[1 + n % (len(COLOURS) - 1)], MARKERS[1 + n % (len(MARKERS) - 1)]
    return {label: found[label] for label in labels}


def score(psnr: float, ssim: float | None = None) -> str:
    """`28.21 dB, 0.831`; PSNR of the truth is infinite."""
    text = "∞" if math.isinf(psnr) else f"{psnr:.2f} dB"
    return text if ssim is None or math.isinf(psnr) else f"{text}, {ssim:.3f}".replace("-", "−")


def image(axes: Axes, pixels: np.ndarray, label: str = "", **options: Any):
    """Show (H, W) in gray or (C, H, W) with C = 1 or 3, values in [0, 1] unless vmin, vmax say otherwise.

    `label` is written below.
    """
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if pixels.ndim == 3:
        pixels = pixels[0] if len(pixels) == 1 else np.clip(pixels.transpose(1, 2, 0), 0, 1)
    options = {"vmin": 0.0, "vmax": 1.0, "cmap": "gray"} | options
    if label:
        axes.set_xlabel(label, labelpad=2.0)
    return axes.imshow(pixels, **options)


def crop(pixels: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """Rows and columns of `window` (top, left, height, width) of (…, H, W)."""
    top, left, height, width = window
    return pixels[..., top : top + height, left : left + width]


def mark(axes: Axes, window: Sequence[int], **options: Any) -> Rectangle:
    """Draw the border of a region into an image."""
    top, left, height, width = window
    options = {"edgecolor": MARK, "linewidth": 0.9} | options
    return axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, **options))


def zoom(axes: Axes, pixels: np.ndarray, window: Sequence[int], part: float = 0.46, **options: Any) -> Axes:
    """Mark a region and show it enlarged in the corner farthest from it, `part` of the panel wide."""
    mark(axes, window)
    rows, columns = pixels.shape[-2:]
    width = part
    height = part * columns / rows * window[2] / window[3]
    if height > 0.62:
        width, height = width * 0.62 / height, 0.62
    right = window[1] + window[3] / 2 < columns / 2
    low = window[0] + window[2] / 2 < rows / 2
    inset = axes.inset_axes([1 - width if right else 0, 0 if low else 1 - height, width, height])
    image(inset, crop(pixels, window), **options)
    for spine in inset.spines.values():
        spine.set(visible=True, color=MARK, linewidth=0.9)
    return inset


def busiest(pixels: np.ndarray, part: float = 0.28) -> list[int]:
    """The window with the largest variance, `part` of the image a side: (top, left, height, width)."""
    gray = pixels.reshape(-1, *pixels.shape[-2:]).mean(0).astype(float)
    sides = [max(4, round(part * side)) for side in gray.shape]
    sums = []
    for values in (gray, gray**2):
        total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        h, w = sides
        sums.append(total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w])
    area = sides[0] * sides[1]
    variance = sums[1] / area - (sums[0] / area) ** 2
    top, left = np.unravel_index(np.argmax(variance), variance.shape)
    return [int(top), int(left), *sides]


def scale(figure: Figure, drawn: Any, axes: Any, label: str = "", **options: Any):
    """A colour bar: the scale of an image's values."""
    options = {"fraction": 0.05, "pad": 0.02, "aspect": 22} | options
    bar = figure.colorbar(drawn, ax=axes, **options)
    bar.outline.set_linewidth(0.5)
    bar.set_label(label, size=SIZE)
    bar.ax.tick_params(labelsize=SMALL, width=0.5, length=2)
    return bar


def scale_beside(axes: Axes, drawn: Any, **options: Any):
    """A colour bar as high as the image, at its right."""
    bar = axes.figure.colorbar(drawn, cax=axes.inset_axes([1.05, 0, 0.06, 1]), **options)
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize=SMALL, width=0.5, length=2)
    return bar


def plain(value: float) -> str:
    """A tick's label without an exponent in small print: 0.01, 1, 1e−5."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def log_ticks(axis: Any, subs: Sequence[float] = (1.0,)) -> None:
    """Powers of ten as plain numbers on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(NullFormatter())


def whole(axis: Any) -> None:
    """Whole numbers alone on an axis that counts."""
    axis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=2))


def curve(axes: Axes, x: np.ndarray, y: np.ndarray, number: int, label: str, **options: Any) -> None:
    """One of several curves, told apart by colour and by marker."""
    options = {"markevery": max(1, len(x) // 8)} | options
    axes.plot(x, y, color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)], label=label, **options)


def legend(figure: Figure, looks: dict[str, tuple[str, str]], columns: int = 6, **options: Any) -> None:
    """One legend below all panels; `looks` as from `colours`."""
    handles = [Line2D([], [], color=colour, marker=marker, label=label) for label, (colour, marker) in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), **options)
