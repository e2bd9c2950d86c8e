"""Boxes and arrows for the schematics, in inches from the lower left corner of the figure."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from bench.figures import style

FILLS = {"data": "#F0F0F0", "linear": "#D6E8F5", "nonlinear": "#FBE3D2", "solve": "#D8F0E6"}


def canvas(height: float) -> tuple[Figure, Axes]:
    """A page-wide drawing area without axes."""
    figure = style.figure(height)
    figure.set_layout_engine("none")  # a placeholder: with no engine at all, saving would bring back the style's
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set(xlim=(0, style.PAGE), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def box(axes: Axes, centre: Sequence[float], size: Sequence[float], text: str, kind: str = "linear", note: str = ""):
    """A box with `text` in it and a `note` below it."""
    (x, y), (width, height) = centre, size
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.05",
        facecolor=FILLS[kind],
        edgecolor="0.25",
        linewidth=0.7,
    )
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", fontsize=style.SIZE, linespacing=1.35)
    if note:
        axes.text(x, y - height / 2 - 0.05, note, ha="center", va="top", fontsize=style.SMALL, color="0.3")
    return shape


def arrow(axes: Axes, *points: Sequence[float], text: str = "", above: float = 0.05) -> None:
    """A line through `points` with a head at its end; `text` is written over its first part."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs[:-1], ys[:-1], color="0.25", linewidth=0.8, solid_joinstyle="miter")
    axes.add_patch(
        FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle="-|>",
            mutation_scale=6,
            color="0.25",
            linewidth=0.8,
            shrinkA=0,
            shrinkB=0,
        )
    )
    if text:
        middle = (xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2 + above
        axes.text(*middle, text, ha="center", va="bottom", fontsize=style.SMALL)
