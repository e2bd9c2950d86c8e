"""WCRR and CRR: ridge regularisers learned for denoising (Goujon, Neumayer, Unser, 2024; 2023).

x = argmin ½‖Ax − y‖² + λR(x; σ). Denoising: λ = 1 and σ that of the noise, by accelerated gradient descent with
restart. Other problems: λ and σ are tuned, x ≥ 0, by the authors' safeguarded accelerated gradient descent (SAGD).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from baselines import Hyperparameter, Method, Operator
from baselines.linear import dot, norm, relative_change, squared_norm
from baselines.networks.crr import RidgeRegulariser, load_ridge
from baselines.networks.readers import read_state_dict

Gradient = Callable[[Tensor], Tensor]

MRI_TUNED = {
    "single4_pd": (6.6234e-3, 9.9351),
    "single4_pdfs": (7.5984e-3, 15.0),
    "multi8_pd": (2.2078e-3, 13.0753),
    "multi8_pdfs": (2.2078e-3, 13.0753),
}
"""Setting of MRI → (λ, σ in 0-255 units), tuned on validation images by Neumayer and Altekrüger (2024)."""
DEBLUR_LEVEL = 15.0
MOST, MOST_VALIDATING = 4000, 3000  # steps of SAGD on test images and on validation images


def starting_point(task: str, sigma: float, setting: str = "") -> tuple[float, float] | None:
    """(λ, σ of the regulariser in 0-255 units) from which tuning starts; None for denoising, where nothing is tuned.

    For deblurring λ = (σ_n/15)²: the weight at noise level σ_n of a prior that is right, with weight 1, at level 15.
    Settings of MRI that the authors did not tune take the values of single-coil 4-fold PD.
    """
    if task == "mri":
        return MRI_TUNED.get(setting, MRI_TUNED["single4_pd"])
    return ((sigma * 255 / DEBLUR_LEVEL) ** 2, DEBLUR_LEVEL) if task == "deblur_gray" else None


def denoise(
    y: Tensor, gradient: Gradient, mu: float, lmbda: float = 1.0, tol: float = 1e-4, most: int = 500
) -> tuple[Tensor, int, bool]:
    """argmin ½‖x − y‖² + λR(x): accelerated gradient descent with restart, every image of y for itself.

    Args:
        gradient: ∇R, which is mu-Lipschitz.
        tol: an image is finished when a step changes it by less than this, relatively.
        most: iterations at most.

    Returns:
        The estimate, the iterations, and whether all images finished.
    """
    x, z, t = y, y, torch.ones_like(y[:, :1, :1, :1])
    active = torch.ones_like(t, dtype=torch.bool)
    for k in range(most):
        step = (z - y + lmbda * gradient(z)) / (1 + lmbda * mu)
        new = z - step
        move = new - x
        t_new = (1 + (1 + 4 * t**2).sqrt()) / 2
        restart = dot(step, move) > 0
        z = torch.where(active, torch.where(restart, new, new + (t - 1) / t_new * move), z)
        t = torch.where(restart, 1, t_new)
        x = torch.where(active, new, x)
        if k > 0:
            active = active & (norm(move) > tol * norm(new))
            if not active.any():
                return x, k + 1, True
    return x, most, False


def sagd(
    y: Tensor,
    operator: Operator,
    gradient: Gradient,
    mu: float,
    lmbda: float,
    start: Tensor | None = None,
    tol: float = 5e-6,
    most: int = MOST,
) -> tuple[Tensor, int, bool]:
    """argmin ½‖Ax − y‖² + λR(x) over x ≥ 0, from `start` (by default Aᵀy); arguments and results as of `denoise`.

    A step is taken back, and momentum dropped, where it may have passed a minimum along its direction.
    """
    x = operator.A_adjoint(y) if start is None else start
    bound = lmbda * mu + squared_norm(operator, x)

    def slope(v: Tensor) -> Tensor:
        return operator.A_adjoint(operator.A(v) - y) + lmbda * gradient(v)

    x_old, z_old = x, x
    t = t_old = torch.ones_like(x[:, :1, :1, :1])
    active = torch.ones_like(t, dtype=torch.bool)
    for k in range(most):
        z = x + (t_old - 1) / t * (x - x_old)
        g = slope(z)
        restart = dot(g, z - z_old) + 0.5005 * lmbda * norm(z - z_old) ** 2 > 0
        if (restart & active).any():
            z = torch.where(restart, x, z)
            g = torch.where(restart, slope(z), g)
            t = torch.where(restart, 1, t)
        t_old, t, z_old = t, (1 + (1 + 4 * t**2).sqrt()) / 2, z
        x_old, x = x, torch.where(active, (z - g / bound).clamp(min=0), x)
        active = active & ~(relative_change(x, x_old) < tol)
        if not active.any():
            return x, k + 1, True
    return x, most, False


class WCRR(Method):
    """The weakly convex ridge regulariser."""

    name = "wcrr"
    label = "WCRR"
    tasks = ("denoise_gray", "deblur_gray", "mri")
    tuned_tasks = ("deblur_gray", "mri")
    weakly_convex = True

    def __init__(self) -> None:
        super().__init__()
        self.task = ""
        self.regulariser: RidgeRegulariser | None = None

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """One model for all noise levels and tasks."""
        return (self.name,)

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """None for denoising; else λ and the noise level that R is for, in 0-255 units."""
        if (start := starting_point(task, sigma, self.setting)) is None:
            return {}
        lmbda, level = start
        return {"lmbda": Hyperparameter(lmbda, 1e-6, 10), "sigma_255": Hyperparameter(level, 0.1, 50)}

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load the regulariser and find ‖W‖."""
        super().setup(task, sigma, weights, device)
        self.task = task
        (name,) = self.weights_for(task, sigma)
        self.regulariser = load_ridge(read_state_dict(weights[name]), weights[name], self.weakly_convex, device)

    def reconstruct(
        self,
        y: Tensor,
        operator: Operator,
        sigma: float,
        *,
        lmbda: float | None = None,
        sigma_255: float | None = None,
    ) -> Tensor:
        """The minimiser, unclipped; `info` holds iterations and convergence."""
        if self.regulariser is None:
            raise RuntimeError("setup has not been called")
        if (start := starting_point(self.task, sigma, self.setting)) is not None:
            r = self.regulariser.at(start[1] if sigma_255 is None else sigma_255)
            strength = start[0] if lmbda is None else lmbda
            most = MOST_VALIDATING if self.validating else MOST
            x, iterations, converged = sagd(y, operator, r.gradient, r.mu, strength, most=most)
        else:
            r = self.regulariser.at(sigma * 255)
            x, iterations, converged = denoise(y, r.gradient, r.mu)
        self.info = {"iterations": iterations, "converged": converged}
        return x


class CRR(WCRR):
    """The convex ridge regulariser, of the same architecture and training; its tuning starts from the same values."""

    name = "crr"
    label = "CRR"
    weakly_convex = False
