"""Figure 13 in colour: the effective kernels of W, whose responses are penalised."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import kernel_tiles

TITLE = "Kernels of W, colour model"
CAPTION = kernel_tiles.CAPTION.format(which=kernel_tiles.W, colours=kernel_tiles.RGB)
ALT = kernel_tiles.ALT.format(which="W")
DATA = "filters_color"


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """The tiles."""
    return kernel_tiles.draw(data["W"])
