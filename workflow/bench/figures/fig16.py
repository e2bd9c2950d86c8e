"""Figure 16: averages over the channels, before and after denoising."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import style

TITLE = "Averages over the channels, before and after"
CAPTION = """For the noisy y (above) and the denoised x (below) of {images} ({dataset}, {setting}), left to right: the
summed squared responses Σ_c (W_c ·)², the mean of the masks m_c, and the summed masked ones, Σ_c (m_c ⊙ W_c ·)². The
mask is that of the same image; a column has one scale, ending at the 99.5th percentile of the responses of y.{notes}"""
ALT = "Summed squared filter responses, mean mask and masked responses of the noisy and of the denoised image."
DATA = "castle"
LABELS = ("Σ_c (W_c {})²", "mean of m_c({})", "Σ_c (m_c ⊙ W_c {})²")


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Two rows, three columns."""
    rows, columns = data["x"].shape
    width = (style.PAGE - 0.9) / 3
    figure = style.figure(2 * (width * rows / columns + 0.2))
    axes = figure.subplots(2, 3)
    for column, label in enumerate(LABELS):
        top = 1.0 if column == 1 else float(np.percentile(data["averages"][0, column], 99.5))
        for row, name in enumerate("yx"):
            drawn = style.image(axes[row, column], data["averages"][row, column], label.format(name), vmax=top)
        style.scale(figure, drawn, axes[:, column], aspect=40)
    return figure
