"""Prox-DRUNet (Hurault, Leclaire, Papadakis, ICML 2022): plug-and-play with a denoiser that is a proximal map.

D_σ = I − ∇g_σ; one application denoises. For other tasks Douglas-Rachford splitting with the data term
f = ½‖Ax − y‖²: y = (1 − α)x + αD_σ(x), z = prox_{λf}(2y − x), x ← x + z − y, output y. Only a colour network
is published; a gray image is given to it in three equal channels, whose outputs are averaged. That is this
project's substitute, since where the paper's gray rows come from is not known.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from baselines import Hyperparameter, Method, Operator
from baselines.levels import at_level
from baselines.networks.drunet import load_prox_drunet
from baselines.plug_and_play import start

ALPHA = 0.5
MAX_ITERATIONS = 1000
TOL = 1e-8  # of the relative change of the Lyapunov function Ψ
# For super-resolution, by noise level in 0-255 units: λ, and the denoiser's level relative to the noise's.
SUPERRES = {2.55: (5.0, 2.0), 7.65: (1.5, 1.0), 12.75: (1.0, 0.75)}


def superres(sigma_255: float) -> tuple[float, float]:
    """Super-resolution's λ and relative level, each interpolated between the authors' noise levels."""
    lmbda, ratio = ({level: pair[i] for level, pair in SUPERRES.items()} for i in (0, 1))
    return at_level(lmbda, sigma_255), at_level(ratio, sigma_255)


class ProxDRUNet(Method):
    """A denoiser's one step, or Douglas-Rachford splitting."""

    name = "prox_drunet"
    label = "Prox-DRUNet"
    tasks = ("denoise_gray", "denoise_color", "superres_color", "mri")
    remarks: ClassVar = {"denoise_gray": "the published colour network on three equal channels"}
    tuned_tasks = ("mri",)

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """`prox_drunet`, the colour network, whatever the task."""
        return ("prox_drunet",)

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """For MRI `denoiser_255`, the denoiser's level in 0-255 units, and `lmbda`, the weight of the data; else none.

        The values behind the paper's table are not published.
        """
        if task != "mri":
            return {}
        return {
            "denoiser_255": Hyperparameter(5.0, 0.5, 50.0),
            "lmbda": Hyperparameter(50.0, 0.1, 1e4),
        }

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the network."""
        super().setup(task, sigma, weights, device)
        self.task = task
        self.network = load_prox_drunet(weights["prox_drunet"]).to(device)

    def reconstruct(self, y: Tensor, operator: Operator, sigma: float, **hyperparameters: float) -> Tensor:
        """D_σ(y), or the splitting's y of the last iteration."""
        if self.task.startswith("denoise"):
            return self.denoise(y, sigma)[0]
        if self.task == "mri":
            defaults = {name: p.default for name, p in self.hyperparameters_for("mri", sigma).items()}
            values = defaults | hyperparameters
            x, lmbda, level = operator.A_adjoint(y), values["lmbda"], values["denoiser_255"] / 255
        else:
            (x, _), (lmbda, ratio) = start(y, operator), superres(255 * sigma)
            level = ratio * sigma
        x, iterations, converged = douglas_rachford(x, y, operator, lambda v: self.denoise(v, level), lmbda)
        self.info = {"iterations": iterations, "converged": converged}
        return x

    def denoise(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """D_σ(x) and the potential g_σ(x), (B,), the gray case by three channels."""
        channels = x.shape[1]
        denoised, potential = self.network(x.expand(-1, 3, -1, -1), sigma)
        if channels == 1:  # three copies of one image have three times its squared distances
            denoised, potential = denoised.mean(1, keepdim=True), potential / 3
        return denoised, potential


def douglas_rachford(
    x: Tensor, y: Tensor, operator: Any, denoise: Any, lmbda: float, alpha: float = ALPHA
) -> tuple[Tensor, int, bool]:
    """The estimate, its iterations (of the slowest image), and whether all images met the tolerance.

    Stops, image by image, when Ψ = f(z) + (1/λ)(g(x) − ½‖x − y‖² + ⟨y − x, y − z⟩ + ½‖y − z‖²) changes by
    less than 10⁻⁸, relatively. Ψ is summed in float64.

    Args:
        x: Where to start, (B, C, H, W).
        denoise: x → D(x) and g(x).
        lmbda: λ, the weight of the data term.
    """
    estimate = x
    active = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    psi = torch.ones(len(x), dtype=torch.float64, device=x.device)
    iterations = 0
    while iterations < MAX_ITERATIONS and active.any():
        iterations += 1
        denoised, potential = denoise(x)
        new = (1 - alpha) * x + alpha * denoised
        z = operator.prox(2 * new - x, y, 1 / lmbda)
        misfit = 0.5 * _squared(operator.A(z) - y)
        coupling = _inner(new - x, new - z) + 0.5 * _squared(new - z)
        previous, psi = psi, misfit + (potential - 0.5 * _squared(x - new) + coupling) / lmbda
        estimate = torch.where(active, new, estimate)
        x = torch.where(active, x + z - new, x)
        active = active & ((psi - previous).abs() > TOL * previous.abs()).reshape(-1, 1, 1, 1)
    return estimate, iterations, not bool(active.any())


def _squared(a: Tensor) -> Tensor:
    """‖a‖² of each image, (B,), in float64; a may be complex."""
    return torch.view_as_real(a).double().square().sum((1, 2, 3, 4)) if a.is_complex() else _inner(a, a)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() * b.double()).sum((1, 2, 3))
