"""Figure 14 in colour: the effective kernels of the mask's own filters W_mask."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import kernel_tiles

TITLE = "Kernels of W_mask, colour model"
CAPTION = """Impulse responses (25×25) of the 128 channels of W_mask, as learned, {kind} model with {weights} weights,
in the order of the channels: row label plus column label is the channel. One scale for all, ending at the 99.5th
percentile of the magnitudes; red, green and blue are the three input channels, middle gray is 0."""
ALT = "128 tiles, each the 25×25 effective kernel of one channel of W_mask."
DATA = "filters_color"


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """The tiles."""
    return kernel_tiles.draw(data["W_mask"])
