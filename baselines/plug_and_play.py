"""Half-quadratic splitting with a denoiser, as DPIR and IRCNN do it, and its parts.

HQS alternates x ← argmin_x ‖Ax − y‖² + ρ_k‖x − z‖² with z ← D(x, σ_k), for σ_k falling along a schedule.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from baselines import Operator

Denoiser = Callable[[Tensor, float], Tensor]
"""(x, σ) → denoised x; x of shape (B, C, H, W), σ in [0, 1]."""
FIRST_255 = 49.0  # σ_1, in 0-255 units
FLOOR_255 = 0.255  # least noise level assumed of a measurement


def schedule(last: float, count: int) -> list[float]:
    """`count` levels σ_k, evenly spaced in the logarithm from 49/255 to `last` (in [0, 1])."""
    first, last = math.log(FIRST_255 / 255), math.log(last)
    return [math.exp(first + (last - first) * k / max(count - 1, 1)) for k in range(count)]


def dpir(y: Tensor, operator: Any, sigma: float, denoise: Denoiser) -> tuple[Tensor, int]:
    """DPIR's loop: the estimate and its number of iterations.

    σ_k goes down to the noise level σ in 8 steps for deblurring and in 24 for super-resolution, and
    ρ_k = 0.23 σ²/σ_k² (Zhang et al., TPAMI 2021).
    """
    sigma = max(sigma, FLOOR_255 / 255)
    x, factor = start(y, operator)
    sigmas = schedule(sigma, 8 if factor == 1 else 24)
    rhos = [0.23 * sigma**2 / level**2 for level in sigmas]
    return half_quadratic_splitting(x, y, operator, denoise, sigmas, rhos, ensemble=True), len(sigmas)


def half_quadratic_splitting(
    x: Tensor,
    y: Tensor,
    operator: Any,
    denoise: Denoiser,
    sigmas: Sequence[float],
    rhos: Sequence[float],
    ensemble: bool,
) -> Tensor:
    """The splitting from x on; `ensemble`: the k-th denoising sees the image in the (k mod 8)-th pose."""
    for k, (sigma, rho) in enumerate(zip(sigmas, rhos, strict=True)):
        x = operator.prox(x, y, rho)
        pose = k % 8 if ensemble else 0
        x = posed(denoise(posed(x, pose).contiguous(), sigma), INVERSE[pose]).contiguous()
    return x


INVERSE = (0, 1, 2, 5, 4, 3, 6, 7)
TURNS = (0, 1, 0, 3, 2, 1, 2, 3)  # quarter turns, then for the poses of FLIPPED a flip of the rows
FLIPPED = (1, 2, 4, 7)


def posed(x: Tensor, pose: int) -> Tensor:
    """One of the eight symmetries of the square, numbered as in DPIR; `INVERSE` has their inverses."""
    x = torch.rot90(x, TURNS[pose], (2, 3)) if TURNS[pose] else x
    return x.flip(2) if pose in FLIPPED else x


def start(y: Tensor, operator: Operator) -> tuple[Tensor, int]:
    """Where the splitting starts, and the factor s of super-resolution: y itself for s = 1.

    Else bicubic interpolation (a = −0.75, pixel centres aligned, border repeated: that of OpenCV) and a shift
    by (s − 1)/2 pixels to the upper left, since A keeps the upper left pixel of each block.
    """
    factor = operator.A_adjoint(y).shape[-1] // y.shape[-1]
    if factor == 1:
        return y, 1
    x = interpolate(y, scale_factor=factor, mode="bicubic", align_corners=False)
    for axis in (2, 3):
        x = _shifted(x, (factor - 1) / 2, axis)
    return x, factor


def _shifted(x: Tensor, by: float, axis: int) -> Tensor:
    """x at the coordinates i + `by` of `axis`, linearly interpolated, clipped at the far border."""
    last = x.shape[axis] - 1
    place = (torch.arange(last + 1, device=x.device, dtype=x.dtype) + by).clamp(max=last)
    low = place.floor().long()
    weight = (place - low).reshape(-1, *[1] * (3 - axis))
    near, far = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=last))
    return near + weight * (far - near)
