"""DEAL: the learned filters W, the attention mask M(x, σ) and the regularisation strength λ(σ).

Paper: "DEALing with Image Reconstruction: Deep Attentive Least Squares", ICML 2025, Sections 3.1 and 4.
Legend: x image, y data, W filters, M mask (m its entries), κ(σ) = λ, α_c(σ) noise scaling, L = ‖WᵀW‖.
Where the paper and the authors' code differ (φ3 unconstrained, κ with 53 knots) the code is followed: its weights
then load unchanged.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from deal.engine import MASK_MIN
from deal.filters import MultiConv
from deal.operators import Identity, LinearOperator
from deal.solver import Solution, solve
from deal.splines import LinearSpline, constant, gaussian, identity

N_FILTERS = 128
LAYERS = {"gray": (1, 4, 8), "color": (3, 12, 24)}
"""Channels of W and W_mask from the image on; the last layer has as many as there are filters."""


@dataclass(frozen=True)
class Architecture:
    """What the ablations vary (paper, Appendix A); the defaults are the published model.

    Attributes:
        filters: N_C, filters of the last layer of W and of W_mask, and so channels of the mask.
        kernel_size: side of the kernels of W and of W_mask, odd and at least 3.
        non_decreasing: whether φ1 and φ2 are kept non-decreasing.
    """

    filters: int = N_FILTERS
    kernel_size: int = 9
    non_decreasing: bool = True

    def __post_init__(self):
        if type(self.filters) is not int or self.filters < 1:
            raise ValueError(f"filters must be a positive whole number, not {self.filters!r}")
        if type(self.kernel_size) is not int or self.kernel_size < 3 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 3, not {self.kernel_size!r}")
        if type(self.non_decreasing) is not bool:
            raise ValueError(f"non_decreasing must be true or false, not {self.non_decreasing!r}")

    def __str__(self) -> str:
        splines = "non-decreasing" if self.non_decreasing else "unconstrained"
        return f"{self.filters} filters, {self.kernel_size}×{self.kernel_size} kernels, {splines} φ1 and φ2"

    def build(self, kind: str) -> "DEAL":
        """A new model."""
        return DEAL(kind, **asdict(self))


PUBLISHED = Architecture()


class DEAL(nn.Module):
    """The DEAL model; reconstruct with `denoise` or `solve`.

    Args:
        kind: "gray" (468 570 parameters) or "color" (847 002).
        filters, kernel_size, non_decreasing: see `Architecture`.
    """

    def __init__(self, kind: str = "gray", filters: int = N_FILTERS, kernel_size: int = 9, non_decreasing: bool = True):
        super().__init__()
        if kind not in LAYERS:
            raise ValueError(f"DEAL comes as 'gray' or 'color', not {kind!r}")
        self.kind, self.channels = kind, LAYERS[kind][0]
        self.architecture = Architecture(filters, kernel_size, non_decreasing)
        self.W = MultiConv((*LAYERS[kind], filters), kernel_size)
        self.W_mask = MultiConv((*LAYERS[kind], filters), kernel_size)
        self.M2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.M3 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.phi1 = LinearSpline(1, 31, 0, 3, identity, non_decreasing)
        self.phi2 = LinearSpline(1, 31, 0, 3, identity, non_decreasing)
        self.phi3 = LinearSpline(1, 31, 0, 3, gaussian)
        self.kappa = LinearSpline(1, 53, -1, 51, identity)
        self.scaling = LinearSpline(filters, 14, -1, 51, constant(3.0))

    def lmbda(self, sigma: Tensor) -> Tensor:
        """λ = κ(σ), (B,) → (B,); σ as a standard deviation of images in [0, 1]."""
        return self.kappa.at(255 * sigma)[:, 0]

    def alpha(self, sigma: Tensor) -> Tensor:
        """Noise scaling α_c(σ) = exp(s_c(σ))/(σ + 1e−5) with σ in 0-255 units, (B,) → (B, N)."""
        sigma_255 = 255 * sigma
        return torch.exp(self.scaling.at(sigma_255)) / (sigma_255 + 1e-5)[:, None]

    def mask(self, x: Tensor, sigma: Tensor, filters=None, dtype: torch.dtype | None = None) -> Tensor:
        """M(x) = clip(φ3(α_c |M3 φ2(|M2 φ1(|W_mask x|)|)|), 0.01, 1): (B, C, H, W) → (B, N, H, W).

        `filters` may hold `W_mask.bind(…)` made once for many masks; `dtype` lowers the precision of the convolutions.
        """
        filters = filters or self.W_mask.bind(dtype=dtype)
        out = self.phi1(filters(x))  # the splines take |·| themselves
        out = self.phi2(nn.functional.conv2d(out, self.M2.weight.to(out.dtype), padding=1))
        out = nn.functional.conv2d(out, self.M3.weight.to(out.dtype), padding=1)
        alpha = self.alpha(sigma)[:, :, None, None].to(out.dtype)
        return self.phi3(out * alpha).clamp(MASK_MIN, 1)

    def solve(
        self,
        y: Tensor,
        operator: LinearOperator,
        sigma: float | Tensor,
        lmbda: float | Tensor | None = None,
        tol: float = 1e-4,
        algorithm: str = "fast",
        x0: Tensor | None = None,
        **options,
    ) -> Solution:
        """Fixed point of x ← argmin ‖Hx − y‖² + λ‖M(x) W x‖² (paper, eq. 6); see `deal.solver.solve`."""
        return solve(self, y, operator, sigma, lmbda, tol=tol, algorithm=algorithm, x0=x0, **options)

    def denoise(self, y: Tensor, sigma: float | Tensor, **options) -> Tensor:
        """Denoise images y = x + n, (B, C, H, W) in [0, 1], n of standard deviation `sigma` (25/255, say)."""
        return self.solve(y, Identity(), sigma, **options).x
