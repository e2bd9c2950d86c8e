"""Figure 15: the learned splines."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import style

TITLE = "Learned splines"
CAPTION = """Learned functions of the {kind} model ({weights} weights): φ1 and φ2, continued as even functions as in
the network; below, how a channel turns the last response t of the mask network into its weight, clip(φ3(α_c(σ) |t|),
0.01, 1), for three noise levels and the channels {channels}."""
ALT = "Curves of φ1 and φ2, and of the mask's last function for three channels and three noise levels."
DATA = "filters_gray"
LINES = ("-", "--", ":")


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """φ1 and φ2 in the upper row, φ_σ of three channels in the lower one."""
    figure = style.figure(3.1)
    grid = figure.add_gridspec(2, 6)
    for n, name in enumerate(("phi1", "phi2")):
        axes = figure.add_subplot(grid[0, 3 * n : 3 * n + 3])
        axes.plot(data["t_small"], np.abs(data["t_small"]), color="0.7", linewidth=0.8, label="|t|, the start")
        axes.plot(data["t_small"], data[name], color=style.COLOURS[0], label=("φ1", "φ2")[n])
        axes.set(xlabel="t", ylabel=("φ1(|t|)", "φ2(|t|)")[n])
        axes.legend()
    for n, channel in enumerate(meta["channels"]):
        axes = figure.add_subplot(grid[1, 2 * n : 2 * n + 2])
        for level, sigma in enumerate(meta["sigmas_255"]):
            colour, line = style.COLOURS[level], LINES[level]
            axes.plot(data["t_wide"], data["phi_sigma"][level, channel], line, color=colour, label=f"σ = {sigma}")
        axes.set(xlabel="t", ylim=(0, 1.05), title=f"channel {channel}")
        if n == 0:
            axes.set_ylabel("weight")
            axes.legend(loc="center left", handlelength=2.2)
    return figure
