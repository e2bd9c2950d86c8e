"""Figure 13: the effective kernels of W, whose responses are penalised."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import kernel_tiles

TITLE = "Kernels of W, gray model"
CAPTION = """Impulse responses (25×25) of the 128 channels of W, divided by √L, {kind} model with {weights} weights,
in the order of the channels: row label plus column label is the channel. One scale for all, ending at the 99.5th
percentile of the magnitudes; middle gray is 0. Channels {channels} (framed) are those of the other figures."""
ALT = "128 tiles, each the 25×25 effective kernel of one channel of W."
DATA = "filters_gray"


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """The tiles."""
    return kernel_tiles.draw(data["W"], meta["channels"])
