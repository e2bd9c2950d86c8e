"""PnP-DnCNN for MRI (Ryu et al., ICML 2019; run as by Goujon et al., 2022): FISTA with a relaxed DnCNN as proximal map.

z-step x = max(z − (μ/‖A‖²)Aᵀ(Az − y), 0), then x ← p·D(x) + (1 − p)·x, then FISTA's extrapolation. Relaxation p
and step factor μ are tuned. The authors' networks were trained for σ = 5 and 15, and which one the table shows is
not known; 15 is the one left switched on in their script. So both are methods here.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from baselines import Hyperparameter, Method, Operator
from baselines.linear import norm, squared_norm
from baselines.networks.dncnn import load_dncnn

LAYERS = 17
PARAMETERS = {"relaxation": Hyperparameter(0.03, 1e-3, 1.0), "step": Hyperparameter(1.0, 0.1, 2.0)}
VALIDATION_TOL, VALIDATION_ITERATIONS = 1e-5, 2000


class PnPDnCNN(Method):
    """With the spectrally normalised network, for which the iteration converges."""

    name = "pnp_dncnn"
    label = "PnP-DnCNN"
    tasks = ("mri",)
    hyperparameters: ClassVar = PARAMETERS
    level = 15
    """The noise level that the network was trained for, in 0-255 units."""
    tol = 5e-7
    """Stop when x changes by less than this, relatively."""
    max_iterations = 10000

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """The RealSN-DnCNN."""
        return (f"dncnn_realsn_{self.level}",)

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network."""
        super().setup(task, sigma, weights, device)
        (name,) = self.weights_for(task, sigma)
        self.network = load_dncnn(weights[name], 1, LAYERS).to(device)

    def reconstruct(self, y: Tensor, operator: Operator, sigma: float, *, relaxation: float, step: float) -> Tensor:
        """The fixed point, from Aᵀy."""
        tol, most = self.tol, self.max_iterations
        if self.validating:
            tol, most = VALIDATION_TOL, VALIDATION_ITERATIONS
        x, iterations, converged = fista(y, operator, self.network, relaxation, step, tol, most)
        self.info = {"iterations": iterations, "converged": converged}
        return x


class PnPDnCNN5(PnPDnCNN):
    """With the network trained for σ = 5; results/tuning says which of the two is better on the validation volumes."""

    name = "pnp_dncnn_5"
    label = "PnP-DnCNN (σ = 5)"
    level = 5


class PnPDnCNNPlain(PnPDnCNN):
    """With the same authors' plain DnCNN, whose weights can be had. Not in the paper; need not converge.

    So it stops as the authors' script does on validation images.
    """

    name = "pnp_dncnn_plain"
    label = "PnP-DnCNN (plain)"
    tol = VALIDATION_TOL
    max_iterations = VALIDATION_ITERATIONS

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """The DnCNN without spectral normalisation."""
        return (f"dncnn_plain_{self.level}",)


def fista(
    y: Tensor,
    operator: Operator,
    denoise: Callable[[Tensor], Tensor],
    relaxation: float,
    step: float,
    tol: float,
    max_iterations: int,
) -> tuple[Tensor, int, bool]:
    """The estimate, its iterations (of the slowest image), and whether all images met the tolerance."""
    x = operator.A_adjoint(y)
    z, t = x, 1.0
    rate = step / squared_norm(operator, x)
    active = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    iterations = 0
    while iterations < max_iterations and active.any():
        iterations += 1
        new = (z - rate * operator.A_adjoint(operator.A(z) - y)).clamp(min=0)
        new = relaxation * denoise(new) + (1 - relaxation) * new
        last, t = t, 0.5 * (1 + math.sqrt(1 + 4 * t * t))
        z = new + (last - 1) / t * (new - x)
        moved = norm(new - x) > tol * norm(x)
        x = torch.where(active, new, x)
        active = active & moved
    return x, iterations, not bool(active.any())
