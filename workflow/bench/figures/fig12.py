"""Figure 12: relative change of DEAL's iterates from five initialisations; drawn from the data of Figure 5."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import paths, style

TITLE = "Super-resolution, convergence from five initialisations"
DATA = "fig05"
CAPTION = """Relative change ‖xₖ − xₖ₋₁‖/‖xₖ₋₁‖ of DEAL's k-th update in the super-resolution of Figure 5
({images}, {setting}), from five initialisations x₀; dotted: the tolerance. DEAL {ends}.{notes}"""
ALT = "Five curves of relative change falling with the number of updates, one for each initialisation."


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """One curve a start."""
    figure = style.figure(2.1, style.COLUMN)
    axes = figure.subplots()
    starts = meta["starts"]
    paths.changes(axes, [data[f"change{j}"] for j in range(len(starts))], starts, meta["tol"])
    axes.legend(title="x₀", title_fontsize=style.SIZE, loc="upper right")
    return figure
