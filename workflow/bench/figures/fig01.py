"""Figure 1: how DEAL reconstructs, as a drawing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import boxes, style

TITLE = "How DEAL reconstructs"
CAPTION = """Each update computes the mask M(x_k) of the present image, which says where filter responses are
penalised, and solves the quadratic problem with that mask by conjugate gradients. The image goes back into the
mask until it no longer changes. W, the mask network and λ(σ) are learned, {parameters} numbers for the {kind}
model; the forward operator H is given and can be exchanged without new training."""
ALT = """A loop: the image goes to the mask network, mask and data to a least-squares problem, whose solution is
the next image."""
DATA = "filters_gray"


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Data, mask network, least squares, and the way back."""
    figure, axes = boxes.canvas(1.95)
    y = 1.28
    boxes.box(axes, (0.62, y), (0.95, 0.5), "image x_k\n(x₀ = 0)", "data")
    boxes.box(axes, (2.05, y), (1.1, 0.5), "mask network\nM(x_k, σ)", "nonlinear")
    text = "argmin ‖H x − y‖² + λ(σ) ‖M(x_k) W x‖²\nsolve (HᵀH + λ WᵀM(x_k)²W) x = Hᵀy"
    boxes.box(axes, (4.27, y), (2.35, 0.68), text, "solve")
    boxes.box(axes, (6.22, y), (0.78, 0.5), "image\nx_k+1", "data")
    boxes.box(axes, (3.35, 0.3), (0.95, 0.36), "data y, operator H", "data")
    boxes.box(axes, (4.57, 0.3), (1.0, 0.36), "filters W", "linear")
    boxes.box(axes, (2.05, 0.3), (1.1, 0.36), "noise level σ", "data")
    boxes.arrow(axes, (1.1, y), (1.5, y))
    boxes.arrow(axes, (2.6, y), (3.09, y), text="M")
    boxes.arrow(axes, (5.45, y), (5.83, y))
    boxes.arrow(axes, (2.05, 0.48), (2.05, y - 0.25))
    boxes.arrow(axes, (2.6, 0.3), (2.78, 0.3), (2.78, 0.72), (3.6, 0.72), (3.6, y - 0.34))
    axes.text(2.84, 0.75, "λ(σ)", fontsize=style.SMALL, va="bottom")
    boxes.arrow(axes, (3.72, 0.48), (3.72, y - 0.34))
    boxes.arrow(axes, (4.57, 0.48), (4.57, y - 0.34))
    boxes.arrow(axes, (6.22, y + 0.25), (6.22, 1.8), (0.62, 1.8), (0.62, y + 0.25))
    axes.text(3.4, 1.82, "repeat until ‖x_k+1 − x_k‖ / ‖x_k‖ is small", ha="center", va="bottom", fontsize=style.SMALL)
    return figure
