"""Filters and masks of SAFI and MMR (Pourya, Neumayer, Unser, 2024).

Both penalise λ‖Λ ⊙ W x‖₁. W is two 7×7 convolutions, 1 → 64 → 64 channels, with zero padding 3 at each and slices of
zero mean. The mask Λ comes from an image: for SAFI, Λ = σ(S₃ W₃ S₂ W₂ S₁ W₄ x) with 7×7 convolutions and one linear
spline a channel; for MMR, Λ = Vᵀ φ(V |W x|) with V two depthwise 7×7 averages and φ decreasing from 1.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.linear import power_iteration
from baselines.networks.crr import tensor

CHANNELS, SIZE = 64, 7
REACH = SIZE // 2  # of one layer; the two together reach 2·REACH pixels
SMALL = 48 * 48  # images of fewer pixels pass the two layers as they are, which is quicker there
_WIDE = 8  # neighbouring pixels that the adjoint computes as channels, to fill the vector units


def _same(t: Tensor) -> Tensor:
    return t


def _flip(t: Tensor) -> Tensor:
    return t.flip(-2)


def _swap(t: Tensor) -> Tensor:
    return t.transpose(-2, -1)


# Dimension, first row or column, padding along the side, how it becomes the upper side, and back.
_SIDES = (
    (2, lambda n: 0, 2 * REACH, _same, _same),
    (2, lambda n: n - REACH, 2 * REACH, _flip, _flip),
    (3, lambda n: 0, REACH, _swap, _swap),
    (3, lambda n: n - REACH, REACH, lambda t: _flip(_swap(t)), lambda t: _swap(_flip(t))),
)


class Filters:
    """W and Wᵀ, as one 13×13 convolution and a correction for what the second layer must not see beyond the border.

    The first layer's output beyond the image counts as zero; one convolution would take it as it comes. So the
    contribution of a frame of 3 pixels around the image is subtracted, at a tenth of the cost of two full layers.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second = first, second
        self.learned = first.numel() + second.numel()
        side = 4 * SIZE - 3
        dirac = first.new_zeros(1, 1, side, side)
        dirac[..., side // 2, side // 2] = 1
        response = F.conv2d(F.conv2d(dirac, first, padding=REACH), second, padding=REACH)
        crop = slice(side // 2 - 2 * REACH, side // 2 + 2 * REACH + 1)
        turned = response[:, :, crop, crop]
        self.kernel = turned.transpose(0, 1).flip(2, 3).contiguous()
        wide = [F.pad(turned, (i, _WIDE - 1 - i)) for i in range(_WIDE)]
        self.adjoint_kernel = torch.cat(wide).contiguous(memory_format=torch.channels_last)
        # The four sides as the upper one, by flips and transpositions. Upper and lower side own the corners.
        self._sides = [(*side, *(side[3](k).contiguous() for k in (first, second))) for side in _SIDES]

    def __call__(self, x: Tensor) -> Tensor:
        """W x: (B, 1, H, W) → (B, 64, H, W)."""
        _check(x)
        if x.shape[-2] * x.shape[-1] < SMALL:
            return F.conv2d(F.conv2d(x, self.first, padding=REACH), self.second, padding=REACH)
        out = F.conv2d(x, self.kernel, padding=2 * REACH)
        for dim, start, pad, to, back, first, second in self._sides:
            rest = 2 * REACH - pad
            middle = F.conv2d(F.pad(to(x.narrow(dim, start(x.shape[dim]), REACH)), (pad, pad, 2 * REACH, 0)), first)
            edge = F.conv2d(F.pad(middle, (rest, rest, 0, 2 * REACH)), second)
            out.narrow(dim, start(x.shape[dim]), REACH).sub_(back(edge))
        return out

    def adjoint(self, z: Tensor) -> Tensor:
        """Wᵀ z: (B, 64, H, W) → (B, 1, H, W)."""
        _check(z)
        if z.shape[-2] * z.shape[-1] < SMALL:
            return F.conv_transpose2d(F.conv_transpose2d(z, self.second, padding=REACH), self.first, padding=REACH)
        width, pad = z.shape[-1], 2 * REACH
        out = F.conv2d(F.pad(z, (pad, pad + _WIDE - 1, pad, pad)), self.adjoint_kernel, stride=(1, _WIDE))
        out = out.permute(0, 2, 3, 1).flatten(2)[:, None, :, :width].contiguous()
        for dim, start, margin, to, back, first, second in self._sides:
            rest = 2 * REACH - margin
            middle = F.conv_transpose2d(to(z.narrow(dim, start(z.shape[dim]), REACH)), second)[..., :REACH, :]
            middle = middle[..., rest : middle.shape[-1] - rest]
            edge = F.conv_transpose2d(middle, first)[..., 2 * REACH :, :]
            edge = edge[..., margin : edge.shape[-1] - margin]
            out.narrow(dim, start(z.shape[dim]), REACH).sub_(back(edge))
        return out

    def squared_norm(self, side: int = 40, steps: int = 100) -> float:
        """‖W‖² by power iteration on side × side images; the authors take 1000 steps, which gives 0.2 % more."""
        v = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)).to(self.first)
        return power_iteration(lambda v: self.adjoint(self(v)), v, steps)


def _check(x: Tensor) -> None:
    if min(x.shape[-2:]) < REACH:
        raise ValueError(f"images must be at least {REACH} pixels wide and high, not {tuple(x.shape[-2:])}")


def splines(t: Tensor, values: Tensor, low: float, high: float) -> Tensor:
    """One linear spline a channel, knots uniform on [low, high], continued linearly; values (C, knots)."""
    channels, knots = values.shape
    position = (t - low) * ((knots - 1) / (high - low))
    index = position.floor().clamp(0, knots - 2)
    rows = torch.arange(channels, device=t.device).view(1, -1, 1, 1) * knots
    place = (index.long() + rows).flatten()
    table = values.flatten()
    left, right = table[place].view_as(t), table[place + 1].view_as(t)
    return left + (position - index) * (right - left)


class SafiModel:
    """W and Λ of one SAFI ("relaxed") checkpoint. Its λ is not read: the authors tuned it afterwards."""

    loss_based_stop = False

    def __init__(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self.filters = _filters(state, device)
        shapes = {"W4": (CHANNELS, 1), "W2": (CHANNELS, CHANNELS), "W3": (CHANNELS, CHANNELS)}
        kernels = {k: tensor(state, f"{k}.W1.weight", (*shape, SIZE, SIZE)).to(device) for k, shape in shapes.items()}
        self.layers = [
            (kernels[layer], tensor(state, f"phigrad_spline{number}.coefficients").to(device))
            for number, layer in enumerate(("W4", "W2", "W3"), 1)
        ]
        self.learned = self.filters.learned + sum(kernel.numel() + values.numel() for kernel, values in self.layers)

    def mask(self, x: Tensor) -> Tensor:
        """Λ from the image x: (B, 64, H, W), in (0, 1)."""
        for kernel, values in self.layers:
            x = splines(F.conv2d(x, kernel, padding=REACH), values, -1.0, 1.0)
        return torch.sigmoid(x.clamp(min=-30))  # smaller ones would be denormal numbers, which are slow


class MmrModel:
    """W and Λ of one MMR ("mm") checkpoint. Its λ is not read: the authors tuned it afterwards."""

    loss_based_stop = True

    def __init__(self, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self.filters = _filters(state, device)
        shape = (CHANNELS, 1, SIZE, SIZE)
        averages = (tensor(state, key, shape).abs() for key in ("W2.W1.weight", "W2.W1s.0.weight"))
        self.averages = [(k / k.sum((2, 3), keepdim=True)).to(device) for k in averages]
        self.scale = tensor(state, "cs", (1, CHANNELS, 1, 1)).abs().to(device)
        raw = tensor(state, "phigrad_spline.coefficients")
        self.learned = self.filters.learned + 2 * CHANNELS * SIZE**2 + self.scale.numel() + raw.numel()
        falling = raw.diff(dim=1).clamp(max=0).cumsum(1)
        self.values = (1 + torch.cat([torch.zeros_like(raw[:, :1]), falling], dim=1)).to(device)

    def mask(self, x: Tensor) -> Tensor:
        """Λ from the image x: (B, 64, H, W), in [0, 1]."""
        z = self.filters(x).abs()
        for kernel in self.averages:
            z = F.conv2d(z, kernel, padding=REACH, groups=CHANNELS)
        z = splines(self.scale * z, self.values, 0.0, 1.0).clamp(0, 1)
        for kernel in reversed(self.averages):
            z = F.conv_transpose2d(z, kernel, padding=REACH, groups=CHANNELS)
        return z


def _filters(state: Mapping[str, Tensor], device: torch.device | str) -> Filters:
    first = tensor(state, "W1.W1.weight", (CHANNELS, 1, SIZE, SIZE))
    second = tensor(state, "W1.W1s.0.weight", (CHANNELS, CHANNELS, SIZE, SIZE))
    return Filters(*((k - k.mean((2, 3), keepdim=True)).to(device) for k in (first, second)))
