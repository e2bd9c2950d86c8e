"""Blur, and decimation, of a scene that goes on beyond the edges of the picture.

`deal.Blur` and `deal.Downsampling` are circular, as the benchmark's measurements are; a photograph is not. Here x is
larger than what y shows by the kernel, and what lies outside is estimated with the rest (Almeida and Figueiredo, 2013,
"unknown boundary conditions").
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from deal.linear import Operator
from deal.operators import Blur


class CroppedBlur(Operator):
    """A x = every s-th pixel of the part of k ∗ x that no circular continuation of x enters.

    Args:
        kernel: (h, w) as for `deal.Blur`.
        shape: (…, H, W) of the picture y; x is (B, C, sH + h − 1, sW + w − 1).
        factor: s, 1 for blur alone.

    `squared_norm` is a bound of ‖A‖². `crop` takes the part of x that y shows, `extend` makes a start.
    """

    def __init__(self, kernel: Tensor, shape: torch.Size, factor: int = 1):
        if factor < 1:
            raise ValueError(f"the factor of decimation must be at least 1, got {factor}")
        self.blur, self.factor, self.size = Blur(kernel), factor, (factor * int(shape[-2]), factor * int(shape[-1]))
        h, w = self.blur.kernel.shape
        self.grid = self.size[0] + h - 1, self.size[1] + w - 1
        self._start = h - 1 - h // 2, w - 1 - w // 2
        self.squared_norm = self.blur.squared_norm

    def crop(self, x: Tensor) -> Tensor:
        """(B, C, sH + h − 1, sW + w − 1) → (B, C, sH, sW)."""
        (top, left), (height, width) = self._start, self.size
        return x[..., top : top + height, left : left + width]

    def extend(self, y: Tensor) -> Tensor:
        """y, interpolated where s > 1, continued by its outermost pixels: the `x0` of a solve, of the size of x.

        Aᵀy is dark at the edges, a border that the mask would take for one of the scene.
        """
        if self.factor > 1:
            last = [1 + self.factor * (side - 1) for side in y.shape[-2:]]  # from the first to the last measured one
            y = F.interpolate(y, last, mode="bilinear", align_corners=True)
            y = F.pad(y, (0, self.factor - 1, 0, self.factor - 1), mode="replicate")
        (top, left), (height, width) = self._start, self.grid
        bottom, right = height - self.size[0] - top, width - self.size[1] - left
        return F.pad(y, (left, right, top, bottom), mode="replicate")

    def A(self, x: Tensor) -> Tensor:
        """(B, C, sH + h − 1, sW + w − 1) → (B, C, H, W)."""
        if tuple(x.shape[-2:]) != self.grid:
            raise ValueError(f"this operator takes images of {self.grid[0]}×{self.grid[1]}, not {tuple(x.shape)}")
        return self.crop(self.blur.A(x))[..., :: self.factor, :: self.factor]

    def A_adjoint(self, y: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, sH + h − 1, sW + w − 1)."""
        x = y.new_zeros(*y.shape[:-2], *self.grid)
        self.crop(x)[..., :: self.factor, :: self.factor] = y
        return self.blur.A_adjoint(x)

    def approximate_normal_spectrum(self, shape: torch.Size, device: torch.device | None = None) -> Tensor:
        """|K̂|² times the part of the pixels of x that are measured."""
        share = self.size[0] * self.size[1] / (self.grid[0] * self.grid[1] * self.factor**2)
        return (self.blur._spectrum(shape, device) * share).float()
