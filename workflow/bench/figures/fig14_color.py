"""Figure 14 in colour: the effective kernels of the mask's own filters W_mask."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import kernel_tiles

TITLE = "Kernels of W_mask, colour model"
CAPTION = kernel_tiles.CAPTION.format(which=kernel_tiles.W_MASK, colours=kernel_tiles.RGB)
ALT = kernel_tiles.ALT.format(which="W_mask")
DATA = "filters_color"


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """The tiles."""
    return kernel_tiles.draw(data["W_mask"])
