"""The multi-convolution block W = W₃W₂W₁ and its adjoint (paper, Section 3.1; Appendix A for the sizes).

Three 9×9 cross-correlations with zero padding 4 at each, so the composite support is 25×25 and an image keeps its
size. The first kernels have zero mean, hence W annihilates constants away from the borders.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Grid on which the authors estimate ‖WᵀW‖: a 49×49 impulse response zero-padded by (256−1)//2 − 12 on each side.
_SUPPORT, _GRID_PADDING = 49, 115


class Filters:
    """W with fixed kernels: call it for W x, `adjoint` for Wᵀ z. Kernels are cast and laid out once."""

    def __init__(self, kernels: Sequence[Tensor], dtype: torch.dtype | None = None):
        self.dtype = dtype or kernels[0].dtype
        last = torch.channels_last
        self._forward = [k.to(self.dtype).contiguous(memory_format=last) for k in kernels]
        # The transposed convolution of stride 1 is a convolution with the flipped kernel, channels exchanged.
        flipped = [k.to(self.dtype).flip(2, 3).transpose(0, 1) for k in reversed(kernels)]
        # The widest adjoint has few outputs: computing two neighbouring pixels as channels fills the vector units.
        wide = torch.cat([F.pad(flipped[0], (0, 1)), F.pad(flipped[0], (1, 0))])
        self._adjoint = [k.contiguous(memory_format=last) for k in (wide, *flipped[1:])]

    def __call__(self, x: Tensor) -> Tensor:
        """W x: (B, C, H, W) → (B, N, H, W) in the filters' dtype."""
        out = x.to(self.dtype)
        for kernel in self._forward:
            out = F.conv2d(out, kernel, padding=kernel.shape[-1] // 2)
        return out

    def adjoint(self, z: Tensor) -> Tensor:
        """Wᵀ z: (B, N, H, W) → (B, C, H, W) in the filters' dtype."""
        wide, *rest = self._adjoint
        width, pad = z.shape[-1], (wide.shape[-1] - 1) // 2
        out = F.conv2d(F.pad(z, (0, 1)) if width % 2 else z, wide, stride=(1, 2), padding=pad)
        left, right = out.chunk(2, dim=1)
        out = torch.stack([left, right], dim=-1).flatten(-2)[..., :width]
        for kernel in rest:
            out = F.conv2d(out, kernel, padding=kernel.shape[-1] // 2)
        return out


class MultiConv(nn.Module):
    """Learnable multi-convolution block.

    Args:
        channels: channel counts from image to filters, e.g. (1, 4, 8, 128).
        size: odd kernel size of every layer.
    """

    def __init__(self, channels: Sequence[int], size: int = 9):
        super().__init__()
        self.channels = tuple(channels)
        layers = [nn.Conv2d(i, o, size, bias=False) for i, o in itertools.pairwise(channels)]
        self.weights = nn.ParameterList([layer.weight for layer in layers])

    def kernels(self) -> list[Tensor]:
        """Kernels in force: the first with its mean over (input channel, row, column) removed."""
        first, *rest = self.weights
        return [first - first.mean(dim=(1, 2, 3), keepdim=True), *rest]

    def bind(self, scale: Tensor | None = None, dtype: torch.dtype | None = None) -> Filters:
        """Freeze the present kernels, optionally multiplied by `scale`, for repeated application."""
        first, *rest = self.kernels()
        return Filters([first if scale is None else first * scale, *rest], dtype)

    def squared_norm(self) -> Tensor:
        """L, the authors' estimate of ‖WᵀW‖ (scalar, differentiable).

        The impulse response of WᵀW to a Dirac in the second channel of a colour image (the only one of a gray image)
        is transformed on a 279×279 grid; L sums the largest magnitudes over the output channels. For colour this is a
        heuristic, but it is part of the trained model: λ is relative to it.
        """
        filters = self.bind()
        dirac = self.weights[0].new_zeros(1, self.channels[0], _SUPPORT, _SUPPORT)
        dirac[0, min(1, self.channels[0] - 1), _SUPPORT // 2, _SUPPORT // 2] = 1
        response = filters.adjoint(filters(dirac))
        return torch.fft.fft2(F.pad(response, (_GRID_PADDING,) * 4)).abs().amax(dim=(-2, -1)).sum()

    @torch.no_grad()
    def effective_kernels(self) -> Tensor:
        """The composite convolution kernels (impulse responses), (N, C, 25, 25); Figures 13 and 14 of the paper."""
        reach = sum(k.shape[-1] // 2 for k in self.weights)
        size = 4 * reach + 1
        dirac = self.weights[0].new_zeros(self.channels[0], self.channels[0], size, size)
        dirac[range(self.channels[0]), range(self.channels[0]), size // 2, size // 2] = 1
        crop = slice(reach, size - reach)
        return self.bind()(dirac)[:, :, crop, crop].transpose(0, 1).contiguous()
