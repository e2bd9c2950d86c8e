"""SAFI and MMR: ℓ₁ regularisation of filter responses with a mask refined from the solution itself.

x_{k+1} = argmin ½‖Ax − y‖² + λ‖Λ(x_k) ⊙ W x‖₁ over [0, 1], Λ = 1 at first (Pourya, Neumayer, Unser, 2024). Ten such
problems with falling tolerances; for denoising each is solved on its dual by accelerated projected gradients, otherwise
by FISTA with that solver as proximal map. SAFI has a learned mask network; MMR, an extra row here, averages |W x|.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from baselines import Hyperparameter, Method, Operator
from baselines.levels import at_level
from baselines.linear import norm, relative_change, squared_norm
from baselines.networks.readers import read_state_dict
from baselines.networks.safi import MmrModel, SafiModel

TOLERANCES = tuple(10 ** (-3 - 0.4 * k) for k in range(5)) + (1e-5,) * 5
DUAL_STEPS = {"denoise": 100, "other": 500}
OUTER_STEPS, RAMP = 1000, 50  # FISTA's; its inner tolerances fall from 3·tol to tol/3 over the first RAMP
VALIDATION_STEPS = 500  # FISTA's on validation images
SIGMAS_255 = (5, 15, 25)
MRI_MODEL = 15

# Noise level in 0-255 units → λ tuned by the authors on their validation images.
SAFI_TUNED = {5: 8.5154e-4, 15: 1.6158e-3, 25: 2.2938e-3}
MMR_TUNED = {5: 5.341746e-4, 15: 5.889985e-4, 25: 1.109447e-3}
# Setting of MRI → λ tuned by SAFI's authors; of the others only where their search starts is known.
MRI_TUNED, MRI_START = {"single4_pdfs": 1.7208e-5}, 5e-6

Solution = tuple[Tensor, int, bool]
"""x, the steps taken (of the slowest image), and whether all images met the tolerance."""


def prox(
    model: SafiModel | MmrModel,
    y: Tensor,
    start: Tensor,
    mask: Tensor | None,
    bound: float,
    step: float,
    most: int,
    tol: float,
) -> Solution:
    """argmin ½‖x − y‖² + bound·‖Λ ⊙ W x‖₁ over [0, 1], by accelerated projected gradients on the dual.

    Args:
        start: the first dual point is Λ ⊙ W start.
        mask: Λ, (B, 64, H, W), or None for 1.
        step: at most 1/‖W‖².
        tol: an image is finished when a step changes it by less than this, relatively, after more than five steps;
            masked problems of MMR instead when the value of the problem changes by less than this, relatively.
    """

    def forward(x: Tensor) -> Tensor:
        z = model.filters(x)
        return z if mask is None else z.mul_(mask)

    def back(u: Tensor) -> Tensor:
        return model.filters.adjoint(u if mask is None else u * mask)

    def value(x: Tensor) -> Tensor:
        return norm(y - x) ** 2 / 2 + bound * forward(x).abs().sum(dim=(1, 2, 3), keepdim=True)

    by_value = model.loss_based_stop and mask is not None
    u = forward(start)
    u_back = back(u)
    v, v_back, t = u, u_back, 1.0 if by_value else 5 / 3
    x = (y - u_back).clamp(0, 1)
    old = value(x) if by_value else None
    active = torch.ones_like(x[:, :1, :1, :1], dtype=torch.bool)
    for k in range(most):
        new = forward((y - v_back).clamp(0, 1)).mul_(step).add_(v).clamp_(-bound, bound)
        new_back = back(new)
        t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2 if by_value else (k + 6) / 3
        momentum = (t - 1) / t_new
        v, v_back = torch.lerp(u, new, 1 + momentum), torch.lerp(u_back, new_back, 1 + momentum)
        u, u_back, t = new, new_back, t_new
        x_new = torch.where(active, (y - u_back).clamp(0, 1), x)
        if by_value:
            now = value(x_new)
            active = active & ~((now - old).abs() < tol * old)
            old = now
        elif k > 5:
            active = active & ~(relative_change(x_new, x) < tol)
        x = x_new
        if not active.any():
            return x, k + 1, True
    return x, most, False


class SAFI(Method):
    """Spatially adaptive filters: the mask is a small network's."""

    name = "safi"
    label = "SAFI"
    tasks = ("denoise_gray", "mri")
    kind = SafiModel
    tuned: Mapping[float, float] = SAFI_TUNED

    def __init__(self) -> None:
        super().__init__()
        self.task = ""
        self.model: SafiModel | MmrModel | None = None
        self.step = 0.0

    def unavailable(self, task: str, sigma: float) -> str | None:
        """Trained for three noise levels."""
        trained = task == "mri" or any(abs(sigma * 255 - level) < 1e-6 for level in SIGMAS_255)
        return None if trained else f"trained for noise levels 5, 15 and 25, not {sigma * 255:g}"

    def weights_for(self, task: str, sigma: float) -> tuple[str, ...]:
        """The model of this noise level; for MRI that of 15."""
        level = MRI_MODEL if task == "mri" else round(sigma * 255)
        return () if self.unavailable(task, sigma) else (f"{self.name}_{level}",)

    def hyperparameters_for(self, task: str, sigma: float) -> Mapping[str, Hyperparameter]:
        """λ, from the authors' value on; interpolated for other noise levels, which a method may be told."""
        start = MRI_TUNED.get(self.setting, MRI_START) if task == "mri" else at_level(self.tuned, sigma * 255)
        return {"lmbda": Hyperparameter(start, 1e-8, 1.0)}

    def setup(self, task: str, sigma: float, weights: Mapping[str, Path], device: torch.device) -> None:
        """Load filters and mask and find ‖W‖²."""
        super().setup(task, sigma, weights, device)
        self.task = task
        (name,) = self.weights_for(task, sigma)
        try:
            self.model = self.kind(read_state_dict(weights[name]), device)
        except ValueError as error:
            raise ValueError(f"{weights[name]}: {error}") from None
        self.step = 1 / self.model.filters.squared_norm()

    def reconstruct(self, y: Tensor, operator: Operator, sigma: float, *, lmbda: float) -> Tensor:
        """The last of the ten solutions, in [0, 1]; `info` sums their steps: dual ones for denoising, else FISTA's."""
        if self.model is None:
            raise RuntimeError("setup has not been called")
        if self.task.startswith("denoise"):
            solve = self._denoise
            x = y
        else:
            solve = self._invert
            x = operator.A_adjoint(y)
        iterations, converged = 0, True
        for k, tol in enumerate(TOLERANCES):
            mask = self.model.mask(x) if k > 0 else None
            x, steps, settled = solve(y, operator, x, mask, lmbda, tol)
            iterations, converged = iterations + steps, converged and settled
        self.info = {"iterations": iterations, "converged": converged}
        return x

    def _denoise(
        self, y: Tensor, operator: Operator, x: Tensor, mask: Tensor | None, lmbda: float, tol: float
    ) -> Solution:
        return prox(self.model, y, x, mask, lmbda, self.step, DUAL_STEPS["denoise"], tol)

    def _invert(
        self, y: Tensor, operator: Operator, x: Tensor, mask: Tensor | None, lmbda: float, tol: float
    ) -> Solution:
        """FISTA from x, every image of a batch stopping for itself after more than ten steps.

        Proximal maps that hit their cap do not count against it: they are inexact anyway.
        """
        most = VALIDATION_STEPS if self.validating else OUTER_STEPS
        step = 1 / squared_norm(operator, x)
        z, t = x, 1.0
        active = torch.ones_like(x[:, :1, :1, :1], dtype=torch.bool)
        for k in range(most):
            inner = tol * 3 ** (1 - 2 * min(k / RAMP, 1))
            data = z - step * operator.A_adjoint(operator.A(z) - y)
            new, _, _ = prox(self.model, data, x, mask, lmbda * step, self.step, DUAL_STEPS["other"], inner)
            t_new = (k + 3) / 3
            z, t = new + (t - 1) / t_new * (new - x), t_new
            change = relative_change(new, x)
            x = torch.where(active, new, x)
            if k > 10:
                active = active & ~(change < tol)
            if not active.any():
                return x, k + 1, True
        return x, most, False


class MMR(SAFI):
    """Majorisation-minimisation: the mask is a decreasing function of averaged responses. Not in the paper.

    For denoising only: on MRI its stopping rule takes hundreds of thousands of dual steps for one image.
    """

    name = "mmr"
    label = "MMR (extra)"
    tasks = ("denoise_gray",)
    kind = MmrModel
    tuned: Mapping[float, float] = MMR_TUNED
