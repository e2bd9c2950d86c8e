"""Curves of a training of DEAL, drawn from its log alone: loss, and validation PSNR. No torch."""

import csv
import io
import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.errors import UserError

NEEDED = {"step", "phase", "loss", "psnr", "seconds"}
WINDOW = 100  # a curve of running medians goes over the last hundredth of the losses, at least 5
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",  # the page's fonts are unknown here
    "svg.hashsalt": "training",  # the same log gives the same bytes
}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The columns step, phase, loss, psnr (NaN between validations), seconds (of each step) of a training's log.

    Each has shape (steps,). A UserError says what is wrong with the file.
    """
    with Path(path).open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        rows = list(reader)
    if lacking := NEEDED - set(reader.fieldnames or ()):
        raise UserError(f"{path}: no column {', '.join(sorted(lacking))}")
    if not rows:
        raise UserError(f"{path}: no steps")
    try:
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in sorted(NEEDED)}
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def summary(log: dict[str, np.ndarray]) -> str:
    """Steps, time, and the best validation, in one sentence."""
    text = f"{int(log['step'][-1])} steps in {duration(float(np.nansum(log['seconds'])))}"
    if np.isfinite(log["psnr"]).any():
        best = int(np.nanargmax(log["psnr"]))
        text += f"; best validation {log['psnr'][best]:.2f} dB, at step {int(log['step'][best])}"
    return f"{text}."


def duration(seconds: float) -> str:
    """A time as a person says it: 4.2 s, 12 min, 3 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def draw(log: dict[str, np.ndarray]) -> bytes:
    """An SVG image with two panels on white: the loss on a logarithmic axis, and the PSNR of the validations."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        width = max(5, len(log["loss"]) // WINDOW)
        points = len(log["loss"]) <= 50
        left.plot(log["step"], log["loss"], "o-" if points else "-", color="#9dc3e6", lw=0.8, ms=3, label="a step")
        if len(log["loss"]) > 2 * width:
            windows = np.lib.stride_tricks.sliding_window_view(log["loss"], width)
            left.plot(log["step"][width - 1 :], np.median(windows, -1), color="#0b4f8a", lw=1.2,
                      label=f"median of {width} steps")  # fmt: skip
            left.legend(frameon=False)
        left.set(yscale="log", xlabel="step", ylabel="training loss")
        tried = np.isfinite(log["psnr"])
        right.plot(log["step"][tried], log["psnr"][tried], "o-", color="#0b4f8a", ms=3, lw=1.2)
        right.set(xlabel="step", ylabel="validation PSNR (dB)")
        for axes in (left, right):
            axes.grid(alpha=0.3)
            for change in log["step"][1:][np.diff(log["phase"]) != 0]:
                axes.axvline(change, color="gray", lw=0.8, ls=":")
        text = io.BytesIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()
