"""Linear splines on uniform knots, the learned one-dimensional functions of DEAL (paper, Section 3.1).

Legend: c knot values, t argument, h knot spacing, i segment index.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_CHUNK = 1 << 17  # elements at a time, so that the temporaries stay in the cache


def _segments(t: Tensor, x_min: float, step: float, count: int) -> Tensor:
    """Index of the segment of each t; clamping the index, never t, continues the end segments."""
    return ((t - x_min) / step).floor_().clamp_(0, count - 1).to(torch.int32).clamp_(min=0)  # NaN becomes an index too


def _dense(t: Tensor) -> bool:
    """Whether the elements of t fill one stretch of memory."""
    return t.is_contiguous() or (t.ndim == 4 and t.is_contiguous(memory_format=torch.channels_last))


def _stretches(t: Tensor) -> Sequence[Tensor]:
    """All elements of t as views of one dimension that stay in the cache; none where they lie too far apart."""
    if _dense(t):
        return t.as_strided((t.numel(),), (1,)).split(_CHUNK)
    if t.ndim == 4 and t.stride(1) == 1 and t.stride(3) == t.shape[1]:  # a part of a channels-last image
        return [row.mT.reshape(-1) for sample in t for row in sample.unbind(1)]
    return ()


class _Piecewise(torch.autograd.Function):
    """y = a[i] + b[i]·t with i the segment of t; gradients for t and for the tables a, b."""

    @staticmethod
    def forward(ctx, t: Tensor, a: Tensor, b: Tensor, x_min: float, step: float) -> Tensor:
        ctx.save_for_backward(t, b)
        ctx.grid = (x_min, step, a.numel())
        t = t if _dense(t) else t.contiguous()
        out = torch.empty_like(t)
        flat_t, flat_out = (v.as_strided((v.numel(),), (1,)) for v in (t, out))
        for part, target in zip(flat_t.split(_CHUNK), flat_out.split(_CHUNK), strict=True):
            i = _segments(part, *ctx.grid)
            torch.addcmul(a.index_select(0, i), b.index_select(0, i), part, out=target)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        t, b = ctx.saved_tensors
        i = _segments(t, *ctx.grid).flatten()
        grad_a = torch.bincount(i, grad.flatten(), len(b)).to(b.dtype)
        grad_b = torch.bincount(i, (grad * t).flatten(), len(b)).to(b.dtype)
        return grad * b.index_select(0, i).view_as(t), grad_a, grad_b, None, None


class _Lookup(torch.autograd.Function):
    """The same function of |t| for bfloat16 t, read from a table of all 2¹⁵ magnitudes: exact, and one gather."""

    @staticmethod
    def forward(ctx, t: Tensor, a: Tensor, b: Tensor, x_min: float, step: float) -> Tensor:
        magnitudes = _bfloat16_magnitudes(str(t.device))
        i = _segments(magnitudes, x_min, step, a.numel())
        slopes = b.index_select(0, i)
        ctx.save_for_backward(t, i, slopes)
        ctx.count = a.numel()
        values = torch.addcmul(a.index_select(0, i), slopes, magnitudes).to(t.dtype)
        return values.index_select(0, _codes(t)).as_strided(t.shape, t.stride())

    @staticmethod
    def backward(ctx, grad: Tensor):
        t, i, slopes = ctx.saved_tensors
        codes = _codes(t)
        aligned = torch.empty_strided(t.shape, t.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)
        flat = aligned.as_strided((t.numel(),), (1,))
        per_code = torch.bincount(codes, flat.to(slopes.dtype), len(i)).to(slopes.dtype)
        grad_a = torch.bincount(i, per_code, ctx.count).to(slopes.dtype)
        weighted = per_code * _bfloat16_magnitudes(str(t.device))
        grad_b = torch.bincount(i, weighted, ctx.count).to(slopes.dtype)
        slope = slopes.to(t.dtype).index_select(0, codes).as_strided(t.shape, t.stride())
        return aligned * slope * t.sign(), grad_a, grad_b, None, None


def _codes(t: Tensor) -> Tensor:
    """Bit patterns of |t| in storage order, int32."""
    return (t.as_strided((t.numel(),), (1,)).view(torch.int16) & 0x7FFF).to(torch.int32)


@functools.cache
def _bfloat16_magnitudes(device: str) -> Tensor:
    """The value of every non-negative bfloat16 bit pattern as float32 (infinities and NaN as the largest one)."""
    values = torch.arange(1 << 15, dtype=torch.int16, device=device).view(torch.bfloat16).float()
    return values.nan_to_num(nan=3.3e38, posinf=3.3e38)


class LinearSpline(nn.Module):
    """`count` linear splines that share their knots; the coefficients are the values at the knots.

    Args:
        count: number of splines (one for φ1, φ2, φ3 and κ; one a channel for the noise scaling).
        knots: number of knots, at least 2.
        x_min, x_max: first and last knot; beyond them the end segments are continued.
        init: values at the knots, a function of their positions.
        non_decreasing: project the slopes to ≥ 0 at every evaluation, keeping the mean coefficient.
    """

    def __init__(self, count: int, knots: int, x_min: float, x_max: float, init, non_decreasing: bool = False):
        super().__init__()
        if knots < 2 or not x_max > x_min:
            raise ValueError(f"a linear spline needs >= 2 knots and x_max > x_min, got {knots}, [{x_min}, {x_max}]")
        self.x_min, self.x_max, self.step = float(x_min), float(x_max), (x_max - x_min) / (knots - 1)
        self.non_decreasing = non_decreasing
        positions = torch.linspace(x_min, x_max, knots)
        self.coefficients = nn.Parameter(init(positions).expand(count, knots).clone())

    def values(self) -> Tensor:
        """Coefficients in force, (count, knots): the raw ones, or their projection to non-decreasing ones."""
        raw = self.coefficients
        if not self.non_decreasing:
            return raw
        rise = raw.diff(dim=1).clamp(min=0).cumsum(1)
        monotone = torch.cat([raw[:, :1], raw[:, :1] + rise], dim=1)
        return monotone + (raw - monotone).mean(1, keepdim=True)

    def forward(self, t: Tensor) -> Tensor:
        """The (single) spline at |t|, element by element: any shape; same shape and dtype."""
        values = self.values()[0]
        slopes = values.diff() / self.step
        starts = self.x_min + self.step * torch.arange(slopes.numel(), device=t.device, dtype=values.dtype)
        tables = values[:-1] - slopes * starts, slopes
        if t.dtype == torch.bfloat16:
            return _Lookup.apply(t if _dense(t) else t.contiguous(), *tables, self.x_min, self.step)
        return _Piecewise.apply(t.abs(), *tables, self.x_min, self.step)

    def bind(self):
        """The (single) spline of |t| as a function that overwrites its argument; without gradients."""
        if self.coefficients.dtype not in (torch.float32, torch.float64):
            return self
        with torch.no_grad():
            values = self.values()[0]
            slopes = values.diff() / self.step
            starts = self.x_min + self.step * torch.arange(len(slopes), device=slopes.device, dtype=slopes.dtype)
            table = torch.complex(values[:-1] - slopes * starts, slopes)  # one gather for both

        def evaluate(t: Tensor) -> Tensor:
            parts = () if t.dtype != slopes.dtype or t.is_cuda else _stretches(t)
            if not parts:
                return self(t)
            for part in parts:
                part.abs_()
                segment = ((part - self.x_min) if self.x_min else part) * (1 / self.step)
                index = segment.clamp_(0, len(slopes) - 1).to(torch.int32).clamp_(min=0)  # NaN becomes an index too
                pairs = torch.view_as_real(table.index_select(0, index))
                torch.addcmul(pairs[:, 0], pairs[:, 1], part, out=part)
            return t

        return evaluate

    def at(self, t: Tensor) -> Tensor:
        """All splines at the points `t` of shape (B,); returns (B, count)."""
        values = self.values()
        position = (t.to(values.dtype) - self.x_min) / self.step
        index = position.floor().clamp(0, values.shape[1] - 2).long()
        fraction = (position - index)[:, None]
        left, right = values[:, index].T, values[:, index + 1].T
        return left + fraction * (right - left)

    def second_order_variation(self) -> Tensor:
        """TV⁽²⁾ summed over the splines: Σ |second differences of the knot values| / h (paper, eq. 12)."""
        return self.values().diff(n=2, dim=1).abs().sum() / self.step


def identity(positions: Tensor) -> Tensor:
    """Initial values of φ1, φ2 and κ."""
    return positions


def gaussian(positions: Tensor) -> Tensor:
    """Initial values of φ3: exp(−t²)."""
    return torch.exp(-positions.square())


def constant(value: float):
    """Initial values of the noise-scaling splines."""
    if not math.isfinite(value):
        raise ValueError(f"a spline cannot start from {value}")
    return lambda positions: torch.full_like(positions, value)
