"""Curves of a training, from its log: loss, PSNR, updates, λ, whatever was recorded."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures import style, ticks

TITLE = "Training"
CAPTION = """Training of {kinds}: what its log recorded, against the step. Of long curves single steps are thin,
the running mean over {window} rows of the log is thick; dashed lines separate phases. {last}"""
ALT = "Curves of loss, PSNR, number of updates and λ against the training step."


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """A row for each model, a panel for each group of recorded quantities."""
    groups = [
        g for g in meta["groups"] if any(f"{kind}_{name}" in data for kind in meta["kinds"] for name in g["names"])
    ]
    kinds = meta["kinds"]
    across = min(3, len(groups))
    down = -(-len(groups) // across)
    figure = style.figure(1.75 * down * len(kinds))
    panels = figure.subplots(down * len(kinds), across, squeeze=False)
    for k, kind in enumerate(kinds):
        for n in range(down * across):
            axes = panels[k * down + n // across, n % across]
            if n >= len(groups) or not any(f"{kind}_{name}" in data for name in groups[n]["names"]):
                axes.set_axis_off()
                continue
            _panel(axes, data, kind, groups[n], meta)
            axes.set_title(f"{kind.replace('color', 'colour')}: {groups[n]['title']}")
            axes.set_xlabel("step")
    return figure


def _panel(axes: Axes, data: Mapping[str, np.ndarray], kind: str, group: Mapping, meta: Mapping[str, Any]) -> None:
    lines = []
    for name in group["names"]:
        if f"{kind}_{name}" not in data:
            continue
        values, levels = data[f"{kind}_{name}"].T, meta["sigmas_255"][kind].get(name, ())
        labels = [name.replace("_", " ")]
        if len(values) > 1 or levels:
            labels = [f"σ = {s:g}" for s in levels] if len(levels) == len(values) else [*map(str, range(len(values)))]
        lines += [(data[f"{kind}_{name}_step"], row, label) for row, label in zip(values, labels, strict=True)]
    for n, (step, values, label) in enumerate(lines):
        _curve(axes, step, values, label, n, meta["window"], group["smooth"])
    for change in data.get(f"{kind}_phases", ()):
        axes.axvline(change, color="0.5", linewidth=0.7, linestyle="--")
    if group["log"] and all((values > 0).all() for _, values, _ in lines):
        axes.set_yscale("log")
        ticks.logarithmic(axes.yaxis, [value for _, values, _ in lines for value in values])
    axes.set_ylabel(group["unit"])
    if len(lines) > 1 or any(name in meta["sigmas_255"][kind] for name in group["names"]):
        axes.legend()


def _curve(axes: Axes, step: np.ndarray, values: np.ndarray, label: str, n: int, window: int, smooth: bool) -> None:
    """A line, of few values with markers; where it is rough, a thin one and its running mean."""
    colour = style.COLOURS[n % len(style.COLOURS)]
    if not smooth or len(values) <= 2 * window:
        marker = style.MARKERS[n % len(style.MARKERS)] if len(values) <= 2 * window else ""
        axes.plot(step, values, "-" + marker, color=colour, label=label)
        return
    axes.plot(step, values, color=colour, linewidth=0.4, alpha=0.35)
    axes.plot(step[window - 1 :], np.convolve(values, np.ones(window) / window, "valid"), color=colour, label=label)
