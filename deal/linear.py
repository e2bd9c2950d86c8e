"""What every forward operator of y = A x + noise can do, and the simplest one.

DEAL asks of an operator only `A(x)` and `A_adjoint(y)` on (B, C, H, W) tensors, the names of
`deepinv.physics.LinearPhysics`, whose objects therefore work unchanged. Those of this package know more: `squared_norm`
(‖A‖² or a bound of it), the data-proximal map `prox` that plug-and-play methods need, and the spectrum of AᵀA where the
2-D FFT diagonalises it, which the fast solver uses.
"""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from deal.cg import conjugate_gradients


@runtime_checkable
class LinearOperator(Protocol):
    """What `DEAL.solve` needs of a forward operator."""

    def A(self, x: Tensor) -> Tensor:
        """A x."""

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y."""


class Operator(ABC):
    """What the operators here share: the proximal map, from the spectrum of AᵀA or by conjugate gradients."""

    squared_norm: float
    """‖A‖², or a bound of it where said."""

    @abstractmethod
    def A(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def A_adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y, of the shape of x."""

    def normal_spectrum(self, shape: torch.Size, device: torch.device | None = None) -> Tensor | None:
        """Eigenvalues of AᵀA on the grid of `rfft2`, (…, H, W//2 + 1) for images (…, H, W), or None.

        None where the FFT does not diagonalise AᵀA; float32.
        """
        spectrum = self._spectrum(shape, device)
        return None if spectrum is None else spectrum.float()

    def approximate_normal_spectrum(self, shape: torch.Size, device: torch.device | None = None) -> Tensor | None:
        """As `normal_spectrum`; where that is None, the spectrum of the circulant matrix nearest to AᵀA (Frobenius)."""
        return self.normal_spectrum(shape, device)

    def prox(self, v: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """argmin_x ½‖Ax − y‖² + ½ρ‖x − v‖².

        Args:
            v: (B, C, H, W).
            y: what `A` returns.
            rho: positive; a number or (B,).
        """
        rho = column(rho, v)
        b = self.A_adjoint(y - self.A(v))  # (AᵀA + ρ)(x − v) = b: no cancellation for small ρ
        spectrum = self._spectrum(v.shape, v.device)
        if spectrum is not None:
            return v + divide(b, spectrum.to(v.dtype) + rho)
        nearest = self.approximate_normal_spectrum(v.shape, v.device)
        P = None if nearest is None else lambda r: divide(r, nearest.to(v.dtype) + rho)

        def apply(x: Tensor) -> Tensor:
            return self.A_adjoint(self.A(x)) + rho * x

        return v + conjugate_gradients(apply, b, torch.zeros_like(v), 1e-6, 300, relative=True, P=P)[0]

    def _spectrum(self, shape: torch.Size, device: torch.device | None) -> Tensor | None:
        """`normal_spectrum` in float64."""
        return None


class Identity(Operator):
    """A = I: denoising."""

    squared_norm = 1.0

    def A(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """y itself."""
        return y

    def prox(self, v: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """(y + ρv)/(1 + ρ)."""
        rho = column(rho, v)
        return (y + rho * v) / (1 + rho)

    def _spectrum(self, shape: torch.Size, device: torch.device | None) -> Tensor:
        return torch.ones(shape[-2], shape[-1] // 2 + 1, dtype=torch.float64, device=device)


def lasting(x: Tensor) -> Tensor:
    """x to be kept: an ordinary tensor even where it was made in inference mode, as autograd may need it later."""
    with torch.inference_mode(False):
        return x.clone() if x.is_inference() else x


def column(rho: float | Tensor, like: Tensor) -> Tensor:
    """ρ as (1 or B, 1, 1, 1); a ValueError unless it is positive."""
    rho = torch.as_tensor(rho, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)
    if not (rho > 0).all():
        raise ValueError(f"rho must be positive, got {rho.flatten().tolist()}")
    return rho


def divide(x: Tensor, spectrum: Tensor) -> Tensor:
    """The real image whose `rfft2` is that of x divided by `spectrum`."""
    return torch.fft.irfft2(torch.fft.rfft2(x) / spectrum, s=x.shape[-2:])
