"""The multi-convolution block W = W₃W₂W₁ and its adjoint (paper, Section 3.1; Appendix A for the sizes).

Three 9×9 cross-correlations with zero padding 4 at each, so the composite support is 25×25 and an image keeps its
size. The first kernels have zero mean, hence W annihilates constants away from the borders.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Grid on which the authors estimate ‖WᵀW‖: a 49×49 impulse response zero-padded by (256−1)//2 − 12 on each side, for
# three 9×9 kernels, which reach 12 pixels far. Other kernels shift these numbers by their reach.
_SUPPORT, _GRID_PADDING, _REACH = 49, 115, 12
_LANES = 16  # output channels from which a convolution fills the vector units by itself


class Filters:
    """W with fixed kernels: call it for W x, `adjoint` for Wᵀ z. Kernels are cast and laid out once.

    `plain` applies PyTorch's own convolutions and transposed convolutions, as the authors' code does: the yardstick.
    Otherwise both directions are convolutions that fill the vector units (`_Wide`).
    """

    def __init__(self, kernels: Sequence[Tensor], dtype: torch.dtype | None = None, plain: bool = False):
        self.dtype = dtype or kernels[0].dtype
        self.kernels = [k.to(self.dtype) for k in kernels]
        self.plain = plain
        if not plain:
            self._forward = [_Wide(k) for k in self.kernels]
            # The transposed convolution of stride 1 is a convolution with the flipped kernel, channels exchanged.
            self._adjoint = [_Wide(k.flip(2, 3).transpose(0, 1)) for k in reversed(self.kernels)]

    def __call__(self, x: Tensor) -> Tensor:
        """W x: (B, C, H, W) → (B, N, H, W) in the filters' dtype."""
        if self.plain:
            out = x.to(self.dtype)
            for kernel in self.kernels:
                out = F.conv2d(out, kernel, padding=kernel.shape[-1] // 2)
            return out
        return self._forward[-1](self.narrow(x))

    def adjoint(self, z: Tensor) -> Tensor:
        """Wᵀ z: (B, N, H, W) → (B, C, H, W) in the filters' dtype."""
        if self.plain:
            for kernel in reversed(self.kernels):
                z = F.conv_transpose2d(z, kernel, padding=kernel.shape[-1] // 2)
            return z
        return self.narrow_adjoint(self._adjoint[0](z))

    def narrow(self, x: Tensor) -> Tensor:
        """All layers but the last, the wide one."""
        out = x.to(self.dtype)
        for layer in self._forward[:-1]:
            out = layer(out)
        return out

    def narrow_adjoint(self, z: Tensor) -> Tensor:
        """The adjoint of `narrow`."""
        for layer in self._adjoint[1:]:
            z = layer(z)
        return z


class _Wide:
    """A convolution of stride 1 whose few output channels are computed for several neighbouring pixels at once.

    With s kernels shifted by 0 … s−1 pixels and a stride of s, the s·out channels of a pixel in channels-last layout
    are the `out` channels of s neighbours: the same image seen with another shape, without a copy.
    """

    def __init__(self, kernel: Tensor):
        self.outputs, self.pad = kernel.shape[0], kernel.shape[-1] // 2
        self.pixels = max(1, _LANES // self.outputs)
        wide = [F.pad(kernel, (i, self.pixels - 1 - i)) for i in range(self.pixels)] if self.pixels > 1 else [kernel]
        self.kernel = torch.cat(wide).contiguous(memory_format=torch.channels_last)

    def __call__(self, x: Tensor) -> Tensor:
        pixels, width = self.pixels, x.shape[-1]
        if pixels == 1:
            return F.conv2d(x, self.kernel, padding=self.pad)
        missing = -width % pixels
        out = F.conv2d(F.pad(x, (0, missing)) if missing else x, self.kernel, stride=(1, pixels), padding=self.pad)
        rows = out.permute(0, 2, 3, 1).contiguous().view(len(x), x.shape[-2], width + missing, self.outputs)
        return (rows[:, :, :width] if missing else rows).permute(0, 3, 1, 2)


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

    @property
    def reach(self) -> int:
        """Pixels from the centre of the composite kernels to their edge."""
        return sum(weight.shape[-1] // 2 for weight in self.weights)

    def kernels(self) -> list[Tensor]:
        """Kernels in force: the first with its mean over (input channel, row, column) removed."""
        first, *rest = self.weights
        return [first - first.mean(dim=(1, 2, 3), keepdim=True), *rest]

    def bind(self, scale: Tensor | None = None, dtype: torch.dtype | None = None, plain: bool = False) -> Filters:
        """Freeze the present kernels, optionally multiplied by `scale`, for repeated application."""
        first, *rest = self.kernels()
        return Filters([first if scale is None else first * scale, *rest], dtype, plain)

    def squared_norm(self) -> Tensor:
        """L, the authors' estimate of ‖WᵀW‖ (scalar, differentiable).

        The impulse response of WᵀW to a Dirac in the second channel of a colour image (the only one of a gray image)
        is transformed on a 279×279 grid (kernels 9×9); L sums the largest magnitudes over the output channels. For
        colour this is a heuristic, but it is part of the trained model: λ is relative to it.
        """
        filters, further = self.bind(), self.reach - _REACH
        side, padding = _SUPPORT + 4 * further, max(_GRID_PADDING - further, 0)
        dirac = self.weights[0].new_zeros(1, self.channels[0], side, side)
        dirac[0, min(1, self.channels[0] - 1), side // 2, side // 2] = 1
        response = filters.adjoint(filters(dirac))
        return torch.fft.fft2(F.pad(response, (padding,) * 4)).abs().amax(dim=(-2, -1)).sum()

    @torch.no_grad()
    def effective_kernels(self) -> Tensor:
        """The composite convolution kernels (impulse responses), (N, C, 25, 25) of 9×9; Figures 13, 14 of the paper."""
        reach = self.reach
        size = 4 * reach + 1
        dirac = self.weights[0].new_zeros(self.channels[0], self.channels[0], size, size)
        dirac[range(self.channels[0]), range(self.channels[0]), size // 2, size // 2] = 1
        crop = slice(reach, size - reach)
        return self.bind()(dirac)[:, :, crop, crop].transpose(0, 1).contiguous()
