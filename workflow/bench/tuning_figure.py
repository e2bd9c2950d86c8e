"""The picture of one tuning, drawn from its trace alone: a curve for one parameter, a map for two. No torch."""

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bench.errors import UserError
from bench.files import atomic

TAIL = ("psnr", "images", "seconds")  # the columns of a trace after `evaluation` and the parameters
SYMBOLS = {"lmbda": "λ", "sigma": "σ", "sigma_255": "σ"}
SHOWN_DB = 6.0
"""What is further below the best than this has the colour, or the height, of the worst."""


@dataclass(frozen=True)
class Points:
    """A trace: parameter names, their values (n, number of parameters), PSNR (n,), in the order of evaluation."""

    names: list[str]
    values: np.ndarray
    psnr: np.ndarray

    @property
    def best(self) -> int:
        """The first of the points with the highest PSNR."""
        return int(np.argmax(self.psnr))


def read(path: str | os.PathLike[str]) -> Points:
    """Read the trace that `bench.tune` wrote; a UserError says what is wrong with it."""
    with Path(path).open(newline="", encoding="utf-8") as handle:
        header, *rows = list(csv.reader(handle)) or [[]]
    if header[:1] != ["evaluation"] or tuple(header[-3:]) != TAIL:
        raise UserError(f"{path}: the columns are {','.join(header)}, expected evaluation,…,{','.join(TAIL)}")
    names = header[1:-3]
    try:
        values = np.array([row[1:-3] for row in rows], dtype=float).reshape(len(rows), len(names))
        psnr = np.array([row[-3] for row in rows], dtype=float)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return Points(names, values, psnr)


def draw(trace: str | os.PathLike[str], outputs: list[str | os.PathLike[str]], title: str = "") -> None:
    """Draw the trace into each of `outputs`, whose suffixes (.png, .pdf) say how."""
    points = read(trace)
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    if not len(points.psnr):
        axes.text(0.5, 0.5, "nothing to tune", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
    elif len(points.names) == 1:
        _curve(axes, points)
    else:
        _map(figure, axes, points)
    if len(points.psnr):
        figure.legend(loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    for output in outputs:
        # Without dates and versions, so that the same trace gives the same bytes.
        metadata = {"CreationDate": None} if Path(output).suffix == ".pdf" else {"Software": None}
        with atomic(output) as partial:
            figure.savefig(partial, format=Path(output).suffix[1:], dpi=160, metadata=metadata)


def _curve(axes, points: Points) -> None:
    x, finite = points.values[:, 0], np.isfinite(points.psnr)
    order = np.argsort(x[finite])
    axes.plot(x[finite][order], points.psnr[finite][order], "-o", markersize=4, linewidth=1, label="evaluated")
    axes.plot(x[:1], points.psnr[:1], "s", color="gray", fillstyle="none", markersize=9, label="start")
    axes.plot(x[points.best], points.psnr[points.best], "*", color="crimson", markersize=11, label=_found(points))
    if finite.any():
        low, high = points.psnr[finite].min(), points.psnr[finite].max()
        low = max(low, high - SHOWN_DB)
        margin = 0.05 * max(high - low, 0.02)
        axes.set_ylim(low - margin, high + 2 * margin)
    axes.set(xscale="log", xlabel=_symbol(points.names[0]), ylabel="mean validation PSNR (dB)")
    axes.grid(alpha=0.3)
    _ticks(axes.xaxis)


def _map(figure: Figure, axes, points: Points) -> None:
    """The first two parameters; more are projected."""
    finite = np.isfinite(points.psnr)
    x, y, psnr = points.values[finite, 0], points.values[finite, 1], points.psnr[finite]
    top = psnr.max(initial=-math.inf)
    scale = {"vmin": max(psnr.min(initial=math.inf), top - SHOWN_DB), "vmax": top} if len(psnr) else {}
    logs = np.log(np.column_stack([x, y])) if len(psnr) else np.empty((0, 2))
    if len(points.names) == 2 and np.linalg.matrix_rank(logs - logs.mean(0) if len(logs) else logs, tol=1e-6) == 2:
        axes.pcolormesh(*_nearest(logs, psnr), shading="nearest", rasterized=True, **scale)
    drawn = axes.scatter(x, y, c=psnr, s=22, edgecolors="white", linewidths=0.6, **scale)
    axes.plot(*points.values[~finite, :2].T, "x", color="black", markersize=5)
    axes.plot(*points.values[0, :2], "s", color="black", fillstyle="none", markersize=9, label="start")
    axes.plot(*points.values[points.best, :2], "*", color="crimson", markersize=11, label=_found(points))
    figure.colorbar(drawn, label="mean validation PSNR (dB)")
    axes.set(xscale="log", yscale="log", xlabel=_symbol(points.names[0]), ylabel=_symbol(points.names[1]))
    _ticks(axes.xaxis, axes.yaxis)


def _ticks(*axes) -> None:
    """1, 2, 5, 10, … as plain numbers: the ranges are short."""
    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _nearest(logs: np.ndarray, psnr: np.ndarray, side: int = 160) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates (side,), (side,) and the PSNR of the nearest point, (side, side), distances taken in logarithms."""
    low, high = logs.min(0), logs.max(0)
    margin = 0.06 * (high - low)
    u, v = np.linspace(low - margin, high + margin, side).T
    scale = high - low
    distance = ((u[None, :, None] - logs[:, 0]) / scale[0]) ** 2 + ((v[:, None, None] - logs[:, 1]) / scale[1]) ** 2
    return np.exp(u), np.exp(v), psnr[distance.argmin(-1)]


def _found(points: Points) -> str:
    values = ", ".join(f"{_symbol(n)} = {v:.3g}" for n, v in zip(points.names, points.values[points.best], strict=True))
    return f"{values}: {points.psnr[points.best]:.2f} dB"


def _symbol(name: str) -> str:
    return SYMBOLS.get(name, name.replace("_", " "))
