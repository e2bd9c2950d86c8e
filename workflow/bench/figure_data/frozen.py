"""The quadratic problem of one mask, and the fixed-point map around a reconstruction.

Legend: A = HᵀH + λ Wᵀ M(x)² W with the mask of one image x, T(x) = A(x)⁻¹ Hᵀy the fixed-point map, J its Jacobian at a
fixed point, N = H·W·C the size of an image. All is done without automatic differentiation: the derivative of the mask
is written out from the slopes of its splines, and so is its transpose.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigs, eigsh, svds
from torch import Tensor

from deal.cg import conjugate_gradients
from deal.model import DEAL, MASK_MIN


class Frozen:
    """A(x) with the mask of `x`.

    Args:
        model: a `deal.DEAL` in evaluation mode.
        operator: forward operator H with `A` and `A_adjoint`.
        x: (1, C, H, W), in the model's dtype.
        sigma: noise level that the mask is told, for images in [0, 1].
        lmbda: λ; None: κ(σ), the denoising value.
    """

    def __init__(self, model: DEAL, operator, x: Tensor, sigma: float, lmbda: float | None = None) -> None:
        self.model, self.operator, self.x = model, operator, x
        self.sigma = torch.full((1,), sigma, dtype=x.dtype, device=x.device)
        self.lmbda = float(model.lmbda(self.sigma)) if lmbda is None else float(lmbda)
        self.W = model.W.bind(model.W.squared_norm().rsqrt())
        self.m = model.mask(x, self.sigma)

    def cropped(self, rows: slice, columns: slice) -> "Frozen":
        """The same on a part of the image, with the mask of the whole one; for operators that act on each pixel."""
        part = copy.copy(self)
        part.x, part.m = self.x[..., rows, columns], self.m[..., rows, columns]
        return part

    @torch.no_grad()
    def apply(self, u: Tensor) -> Tensor:
        """A u, (B, C, H, W)."""
        regular = self.W.adjoint(self.m.square() * self.W(u))
        return self.operator.A_adjoint(self.operator.A(u)) + self.lmbda * regular

    @torch.no_grad()
    def solve(self, b: Tensor, tol: float = 1e-6, max_iter: int = 3000) -> Tensor:
        """A⁻¹ b to a relative residual of `tol`, (B, C, H, W)."""
        return conjugate_gradients(self.apply, b, torch.zeros_like(b), tol, max_iter, relative=True)[0]

    def extreme_eigenvalues(self, tol: float = 1e-6) -> tuple[float, float]:
        """(λ_min, λ_max) of A by Lanczos."""
        A = self._matrix(self.apply, self.apply)
        start = np.random.default_rng(0).standard_normal(A.shape[0])
        basis = min(A.shape[0] - 1, 80)
        found = [eigsh(A, 1, which=end, tol=tol, v0=start, ncv=basis, maxiter=4000)[0][0] for end in ("SA", "LA")]
        return float(found[0]), float(found[1])

    def _matrix(self, forward: Callable, adjoint: Callable) -> LinearOperator:
        """A map of images, and its transpose, as scipy sees it: on vectors (N,) of float64."""

        def flat(apply: Callable) -> Callable:
            def applied(v: np.ndarray) -> np.ndarray:
                return apply(torch.from_numpy(v).to(self.x).view_as(self.x)).double().cpu().numpy().ravel()

            return applied

        size = self.x.numel()
        return LinearOperator((size, size), matvec=flat(forward), rmatvec=flat(adjoint), dtype=np.float64)


class Linearised(Frozen):
    """J = −2λ A⁻¹ Wᵀ diag(m ⊙ Wx) M′(x) at a fixed point x, where T(x) = x; arguments as for `Frozen`."""

    def __init__(self, model: DEAL, operator, x: Tensor, sigma: float, lmbda: float | None = None) -> None:
        super().__init__(model, operator, x, sigma, lmbda)
        self.W_mask = model.W_mask.bind()
        with torch.no_grad():
            self.response = self.W(x)
            first = self.W_mask(x)
            second = F.conv2d(model.phi1(first), model.M2.weight, padding=1)
            third = F.conv2d(model.phi2(second), model.M3.weight, padding=1)
            alpha = model.alpha(self.sigma)[:, :, None, None]
            inside = model.phi3(alpha * third)
            inside = (inside > MASK_MIN) & (inside < 1)
            self._slopes = (
                slope(model.phi1, first),
                slope(model.phi2, second),
                slope(model.phi3, alpha * third) * alpha * inside,
            )

    @torch.no_grad()
    def mask_derivative(self, v: Tensor) -> Tensor:
        """M′(x) v, (B, C, H, W) → (B, 128, H, W)."""
        first, second, third = self._slopes
        out = F.conv2d(first * self.W_mask(v), self.model.M2.weight, padding=1)
        return third * F.conv2d(second * out, self.model.M3.weight, padding=1)

    @torch.no_grad()
    def mask_derivative_adjoint(self, z: Tensor) -> Tensor:
        """M′(x)ᵀ z, (B, 128, H, W) → (B, C, H, W)."""
        first, second, third = self._slopes
        out = F.conv_transpose2d(third * z, self.model.M3.weight, padding=1)
        out = F.conv_transpose2d(second * out, self.model.M2.weight, padding=1)
        return self.W_mask.adjoint(first * out)

    @torch.no_grad()
    def jacobian(self, v: Tensor) -> Tensor:
        """J v, (1, C, H, W)."""
        return self.solve(-2 * self.lmbda * self.W.adjoint(self.m * self.response * self.mask_derivative(v)))

    @torch.no_grad()
    def jacobian_adjoint(self, u: Tensor) -> Tensor:
        """Jᵀ u, (1, C, H, W)."""
        weighted = self.m * self.response * self.W(self.solve(u))
        return -2 * self.lmbda * self.mask_derivative_adjoint(weighted)

    def contraction(self, tol: float = 1e-2) -> tuple[float, float, Tensor]:
        """‖J‖₂, the spectral radius of J, and the direction (1, C, H, W), of norm 1, that J stretches most."""
        J = self._matrix(self.jacobian, self.jacobian_adjoint)
        start = np.random.default_rng(0).standard_normal(J.shape[0])
        _, values, right = svds(J, 1, tol=tol, v0=start, random_state=0)
        radius = np.abs(eigs(J, 1, which="LM", tol=tol, v0=start, return_eigenvectors=False)).max()
        return float(values[0]), float(radius), torch.from_numpy(right[0].copy()).to(self.x).view_as(self.x)


def slope(spline, t: Tensor) -> Tensor:
    """Derivative of φ(|t|) with respect to t, element by element; 0 at t = 0."""
    values = spline.values()[0]
    slopes = values.diff() / spline.step
    segment = ((t.abs() - spline.x_min) / spline.step).floor().clamp(0, len(slopes) - 1).long()
    return slopes[segment] * t.sign()
