"""Total variation: x = argmin ½‖Ax − y‖² + λ Σ|∇x| over x ≥ 0, isotropic, every channel for itself.

FISTA (Beck, Teboulle, 2009) with step 1/‖A‖² from Aᵀy; each proximal map by 100 steps of the fast gradient projection
on its dual, positivity inside. These begin at the last map's solution: from zero, as in the code behind the paper's MRI
row, they can be too few for the outer iteration to settle. Differences that would leave the image are zero. That code
also drops the last difference of every row and column, which changes border pixels only.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from baselines import Hyperparameter, Method, Operator
from baselines.linear import relative_change, squared_norm

DUAL_STEPS, TOL, MOST = 100, 1e-5, 3000
MRI_START = 6.194895e-4  # where the authors' search for λ begins


def gradient(x: Tensor) -> Tensor:
    """∇x: forward differences along rows and columns, zero at the far border; (…, H, W) → (2, …, H, W)."""
    out = x.new_zeros(2, *x.shape)
    out[0, ..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    out[1, ..., :, :-1] = x[..., :, 1:] - x[..., :, :-1]
    return out


def gradient_adjoint(p: Tensor) -> Tensor:
    """∇ᵀp, (2, …, H, W) → (…, H, W)."""
    out = torch.zeros_like(p[0])
    rows, columns = p[0, ..., :-1, :], p[1, ..., :, :-1]
    out[..., 1:, :] += rows
    out[..., :-1, :] -= rows
    out[..., :, 1:] += columns
    out[..., :, :-1] -= columns
    return out


def total_variation(x: Tensor) -> Tensor:
    """Σ|∇x|, a scalar."""
    return gradient(x).square().sum(0).sqrt().sum()


def prox(v: Tensor, strength: float, dual: Tensor | None = None, steps: int = DUAL_STEPS) -> tuple[Tensor, Tensor]:
    """argmin ½‖x − v‖² + strength·TV(x) over x ≥ 0, to the accuracy of `steps` dual steps; v is (B, C, H, W).

    Also returns the dual variable, (2, B, C, H, W), from which the next call may start.
    """
    p = q = v.new_zeros(2, *v.shape) if dual is None else dual
    if strength == 0:
        return v.clamp(min=0), p
    t = 1.0
    for _ in range(steps):
        new = q + gradient((v - strength * gradient_adjoint(q)).clamp(min=0)) / (8 * strength)
        new = new / new.square().sum(0).sqrt().clamp(min=1)
        t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
        p, q, t = new, new + (t - 1) / t_new * (new - p), t_new
    return (v - strength * gradient_adjoint(p)).clamp(min=0), p


class TV(Method):
    """Isotropic total variation."""

    name = "tv"
    label = "TV"
    tasks = ("denoise_gray", "denoise_color", "superres_color", "deblur_gray", "mri")

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """λ; its default grows with the noise, but for MRI."""
        start = 0.65 * sigma if task.startswith("denoise") else MRI_START if task == "mri" else 3 * sigma**2
        return {"lmbda": Hyperparameter(start, min(1e-6, start), max(1.0, start))}

    def reconstruct(self, y: Tensor, operator: Operator, sigma: float, *, lmbda: float) -> Tensor:
        """The minimiser; every image of a batch stops for itself."""
        x = operator.A_adjoint(y)
        step = 1 / squared_norm(operator, x)
        z, t, dual = x, 1.0, None
        active = torch.ones_like(x[:, :1, :1, :1], dtype=torch.bool)
        iterations = 0
        while iterations < MOST and active.any():
            iterations += 1
            new, dual = prox(z - step * operator.A_adjoint(operator.A(z) - y), lmbda * step, dual)
            t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
            z, t = new + (t - 1) / t_new * (new - x), t_new
            x, change = torch.where(active, new, x), relative_change(new, x)
            active = active & (change >= TOL)
        self.info = {"iterations": iterations, "converged": not active.any().item()}
        return x
