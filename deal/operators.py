"""Forward operators of y = H x + noise.

DEAL asks of an operator only `A(x)` and `A_adjoint(y)` on (B, C, H, W) tensors, the names of
`deepinv.physics.LinearPhysics`, whose objects therefore work unchanged. An operator may also know
`normal_spectrum(shape)`: the eigenvalues of AᵀA when the 2-D FFT diagonalises it, which the fast solver uses.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LinearOperator(Protocol):
    """What `DEAL.solve` needs of a forward operator."""

    def A(self, x: Tensor) -> Tensor:
        """H x."""

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Hᵀ y."""


class Identity:
    """H = I: denoising."""

    def A(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """y itself."""
        return y

    def normal_spectrum(self, shape: torch.Size, device=None) -> Tensor:
        """Ones, (H, W//2 + 1)."""
        return torch.ones(shape[-2], shape[-1] // 2 + 1, device=device)
