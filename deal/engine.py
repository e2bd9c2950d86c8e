"""How M(x)² and Wᵀ(m² ⊙ W x) are computed: three engines with one interface and one result, without gradients.

`Plain` is PyTorch's convolutions as the authors' code calls them: the yardstick. `Direct` lays kernels out for speed
and is for GPUs and lower precisions. `Tiled` needs several times fewer operations and is for CPUs.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from deal.tiles import LARGEST, TiledGram
from deal.winograd import Winograd

MASK_MIN = 0.01  # ε_M


class Direct:
    """Kernels bound once in channels-last layout.

    Args:
        model: a `deal.DEAL`.
        sigma: noise levels (B,) seen by the mask, images in [0, 1].
        norm: L = ‖WᵀW‖.
        dtype: of the convolutions; None: that of the model.
    """

    plain = False

    @torch.no_grad()
    def __init__(self, model, sigma: Tensor, norm: Tensor, dtype: torch.dtype | None = None):
        self.model = model
        self.W = model.W.bind(norm.rsqrt(), dtype, self.plain)
        self.W_mask = model.W_mask.bind(dtype=dtype, plain=self.plain)
        self.dtype = self.W.dtype
        self._alpha = model.alpha(sigma)[:, :, None, None].to(self.dtype)
        self._M2, self._M3 = (self._layer(m.weight.to(self.dtype)) for m in (model.M2, model.M3))
        self._splines = [s.bind() for s in (model.phi1, model.phi2, model.phi3)]

    @torch.no_grad()
    def mask_squared(self, x: Tensor) -> Tensor:
        """M(x)² (B, N, H, W) in the dtype of the convolutions."""
        phi1, phi2, phi3 = self._splines
        out = phi2(self._M2(phi1(self.W_mask(x))))
        return phi3(self._M3(out).mul_(self._alpha)).clamp_(MASK_MIN, 1).square_()

    def weight(self, m2: Tensor):
        """m² in the form that `gram` takes."""
        return m2

    @torch.no_grad()
    def gram(self, x: Tensor, weight) -> Tensor:
        """Wᵀ(m² ⊙ W x), (B, C, H, W) in the dtype of `x`."""
        return self.W.adjoint(self.W(x).mul_(weight)).to(x.dtype)

    def _layer(self, kernel: Tensor):
        kernel = kernel if self.plain else kernel.contiguous(memory_format=torch.channels_last)
        return lambda x: F.conv2d(x, kernel, padding=1)


class Plain(Direct):
    """The convolutions of the published algorithm."""

    plain = True


class Tiled(Direct):
    """The last layer of W in the Fourier domain of tiles, the 3×3 layers of the mask by Winograd's filtering."""

    @torch.no_grad()
    def __init__(self, model, sigma: Tensor, norm: Tensor, dtype: torch.dtype | None = None):
        super().__init__(model, sigma, norm, dtype)
        self._last = TiledGram(self.W.kernels[-1])
        self._last_mask = TiledGram(self.W_mask.kernels[-1])

    @torch.no_grad()
    def mask_squared(self, x: Tensor) -> Tensor:
        """M(x)² (B, N, H, W)."""
        phi1, phi2, phi3 = self._splines
        out = phi1(self._last_mask.forward(self.W_mask.narrow(x)))
        out = phi2(self._M2(out))
        return phi3(self._M3(out).mul_(self._alpha)).clamp_(MASK_MIN, 1).square_()

    def weight(self, m2: Tensor) -> list[Tensor]:
        """m² cut into tiles."""
        return self._last.weight(m2)

    @torch.no_grad()
    def gram(self, x: Tensor, weight: list[Tensor]) -> Tensor:
        """Wᵀ(m² ⊙ W x), (B, C, H, W)."""
        return self.W.narrow_adjoint(self._last(self.W.narrow(x), weight))

    def _layer(self, kernel: Tensor):
        return Winograd(kernel)


def engine(model, sigma: Tensor, norm: Tensor, dtype: torch.dtype | None = None, plain: bool = False) -> Direct:
    """The engine for this model, device and precision."""
    if plain:
        return Plain(model, sigma, norm, dtype)
    full = dtype in (None, torch.float32, torch.float64)
    tiled = full and not sigma.is_cuda and model.W.weights[-1].shape[-1] <= LARGEST
    return (Tiled if tiled else Direct)(model, sigma, norm, dtype)
