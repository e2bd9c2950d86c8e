"""Figure 12: relative change of DEAL's iterates from five initialisations; drawn from the data of Figure 5."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import style

TITLE = "Super-resolution, convergence from five initialisations"
DATA = "fig05"
CAPTION = """Relative change ‖x_k − x_(k−1)‖/‖x_(k−1)‖ of DEAL's k-th update in the super-resolution of Figure 5
({images}, {setting}), from five initialisations x_0; dotted: the tolerance. DEAL {ends}.{notes}"""
ALT = "Five curves of relative change falling with the number of updates, one for each initialisation."


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """One curve a start."""
    figure = style.figure(2.1, style.COLUMN)
    axes = figure.subplots()
    for j, label in enumerate(meta["starts"]):
        change = data[f"change{j}"]
        style.curve(axes, np.arange(1, len(change) + 1), change, j, label)
    axes.axhline(meta["tol"], color="black", linewidth=0.6, linestyle=":")
    axes.set(yscale="log", xlabel="update k", ylabel="relative change")
    style.log_ticks(axes.yaxis)
    style.whole(axes.xaxis)
    axes.legend(title="$x_0$", title_fontsize=style.SIZE)
    return figure
