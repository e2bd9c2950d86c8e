"""Ridge regularisers with learned filters and profiles: CRR and WCRR (Goujon, Neumayer, Unser, 2024).

R(x) = Σ_c ψ_c(W_c x), hence ∇R(x) = Wᵀ φ(s W x)/s with the channel-wise scales s_c(σ) = exp(spline_c(σ))/(σ + 1e-5)
and φ = e^μ φ₊ − ρ φ₋, φ± linear splines of slopes in [0, 1]; ρ = 1 (weakly convex) or 0 (convex). W = W₃W₂W₁/√L with
5×5 kernels, 1 → 4 → 8 → 60 channels, zero padding 2 at each, the first of zero mean; L = ‖W₃W₂W₁‖², so that ∇R is
e^μ-Lipschitz. σ is in 0-255 units.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.linear import power_iteration

RANGE = 0.1  # the knots of φ± are uniform on [−0.1, 0.1]
SIGMAS_255 = (0.0, 30.0)  # those of the scales on [0, 30]
_LAYERS = ("conv_layer.conv_layers.0.parametrizations.weight.original",)
_LAYERS += ("conv_layer.conv_layers.1.weight", "conv_layer.conv_layers.2.weight")
_LEARNED = (*_LAYERS, "spline_scaling.coefficients", "mu_", "activation_cvx.coefficients")
_LEARNED += ("activation_ccv.coefficients",)
_CHUNK = 1 << 15  # elements at a time on a processor, so that temporaries stay in the cache


def tensor(state: Mapping[str, Tensor], key: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """The entry `key` as float32; ValueError where it is missing or has another shape."""
    if key not in state:
        raise ValueError(f"the checkpoint has no tensor '{key}'")
    found = state[key].detach().float()
    if shape is not None and tuple(found.shape) != shape:
        raise ValueError(f"the checkpoint's '{key}' has the shape {tuple(found.shape)}, expected {shape}")
    return found


def profile(raw: Tensor) -> Tensor:
    """Slopes (knots − 1,) of φ₊ or φ₋ from its raw knot values (1, knots): in [0, 1], even, zero at both ends."""
    slopes = (raw[0].double().diff() * (raw.shape[1] - 1) / (2 * RANGE)).clamp(0, 1)
    slopes[0] = slopes[-1] = 0
    return (slopes + slopes.flip(0)) / 2


def spline_at(values: Tensor, position: float, low: float, high: float) -> Tensor:
    """Linear splines with knots uniform on [low, high], continued linearly: (count, knots) → (count,)."""
    place = (position - low) / (high - low) * (values.shape[1] - 1)
    index = min(max(int(place), 0), values.shape[1] - 2)
    return values[:, index] + (place - index) * (values[:, index + 1] - values[:, index])


class RidgeRegulariser:
    """A learned ridge regulariser, ready for many gradients after `at(sigma_255)`.

    Args:
        state: the checkpoint's `state_dict`.
        weakly_convex: ρ = 1, else 0.
        device: where gradients are computed.
        norm: L if it is known; by default it is computed.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        weakly_convex: bool,
        device: torch.device | str = "cpu",
        norm: float | None = None,
    ) -> None:
        first, *rest = (tensor(state, key) for key in _LAYERS)
        self.learned = sum(state[key].numel() for key in _LEARNED if key in state)
        self.kernels = [k.to(device) for k in (first - first.mean(dim=(1, 2, 3), keepdim=True), *rest)]
        self.scales = tensor(state, "spline_scaling.coefficients")
        self.mu = float(tensor(state, "mu_", ()).exp())
        """e^μ: the Lipschitz constant of ∇R for a normalised W."""
        convex = profile(tensor(state, "activation_cvx.coefficients"))
        concave = profile(tensor(state, "activation_ccv.coefficients"))
        slopes = (self.mu * convex - (concave if weakly_convex else 0))[len(convex) // 2 :]
        # An odd linear spline is a sum of clipped identities, one for each knot where its slope changes.
        steps = slopes - torch.cat([slopes[1:], slopes.new_zeros(1)])
        self.clips = [(float(c), (i + 1) * RANGE / len(slopes)) for i, c in enumerate(steps) if c != 0]
        self.norm = self.squared_norm() if norm is None else norm
        self.at(25.0)

    @torch.no_grad()
    def squared_norm(self, side: int = 128, steps: int = 100) -> float:
        """L = ‖W₃W₂W₁‖² by power iteration on side × side images, boundaries included.

        The authors take side 256 and 200 steps; for WCRR this gives 396.06 and the quicker default 396.17.
        """
        x = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)).to(self.kernels[0].device)
        adjoint = _flipped(self.kernels)
        return power_iteration(lambda v: _chain(_chain(v, self.kernels), adjoint), x, steps)

    def at(self, sigma_255: float) -> "RidgeRegulariser":
        """Fix the noise level that the scales s_c are for. The scales and L move into the kernels."""
        if not sigma_255 > 0:
            raise ValueError(f"the noise level of the regulariser must be positive, got {sigma_255:g}")
        scale = spline_at(self.scales, sigma_255, *SIGMAS_255).exp() / (sigma_255 + 1e-5)
        scale = scale.to(self.kernels[0].device)[:, None, None, None]
        *first, last = self.kernels
        first = [first[0] / self.norm**0.5, *first[1:]]
        self._forward = _channels_last([*first, last * scale])
        self._adjoint = _channels_last(_flipped([*first, last / scale]))
        return self

    def gradient(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Wᵀ(Λ ⊙ φ(s W x)/s) at x, (B, 1, H, W); Λ = `mask`, (B, 60, H, W), or 1."""
        response = self._activate(_chain(x, self._forward))
        return _chain(response if mask is None else response.mul_(mask), self._adjoint)

    def _activate(self, t: Tensor) -> Tensor:
        """φ(t), in place; t is dense in the channels-last order."""
        flat = t.permute(0, 2, 3, 1).reshape(-1)
        for part in [flat] if t.is_cuda else flat.split(_CHUNK):
            terms = [part.clamp(-knot, knot).mul_(c) for c, knot in self.clips]
            part.zero_() if not terms else part.copy_(terms[0])
            for term in terms[1:]:
                part.add_(term)
        return t


def load_ridge(
    state: Mapping[str, Tensor], path: Path, weakly_convex: bool, device: torch.device | str
) -> RidgeRegulariser:
    """The regulariser of a checkpoint's `state_dict`; a ValueError names its file, `path`."""
    try:
        return RidgeRegulariser(state, weakly_convex, device)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _chain(x: Tensor, kernels: list[Tensor]) -> Tensor:
    for kernel in kernels:
        x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
    return x.contiguous(memory_format=torch.channels_last)


def _flipped(kernels: list[Tensor]) -> list[Tensor]:
    """Kernels of the adjoint: turned by 180°, channels exchanged, in reverse order."""
    return [k.flip(2, 3).transpose(0, 1) for k in reversed(kernels)]


def _channels_last(kernels: list[Tensor]) -> list[Tensor]:
    return [k.contiguous(memory_format=torch.channels_last) for k in kernels]
