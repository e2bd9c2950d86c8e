"""A cheap approximate inverse of A(x) = HᵀH + λ Wᵀ M² W: Fourier multipliers, blended over two kinds of regions.

Legend: S the spectrum of HᵀH, w_c mean squared mask of channel c, C(w) = S + λ Σ_c w_c |Ŵ_c|² (circulant model of A),
φ_j² a partition of unity of the image into regions of weak and of strong regularisation, w_j its mean masks.

P⁻¹ = L [Σ_j φ_j (L⁻¹ C_j⁻¹ L⁻ᴴ) φ_j] Lᴴ with L Lᴴ = C(w)⁻¹, C_j = C(w_j): symmetric positive, exact for a constant
mask. It costs a few FFTs of the image, little beside one application of W. Exact inverses are not needed, only close.

Mostly C is a Fourier multiplier and L = C^-½ (`_Multiplier`). Super-resolution mixes the s² frequencies that decimation
makes one: its C has a block of rank one for each such group (`_Aliased`). Both know the same operations.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_REGION = 9  # pixels a side over which the local strength of regularisation is averaged
_PROBES = 8
_FLOOR = 1e-3


class Preconditioner:
    """P⁻¹ of the normal equations `system` for images of `shape` (B, C, H, W); `update` first, then call."""

    # Colour is rotated to an opponent basis whose three components are treated as uncorrelated.
    _BASIS = ((1, 1, 1), (1, 0, -1), (1, -2, 1))

    def __init__(self, system, shape: torch.Size):
        kernels = system.model.W.effective_kernels() * system.norm.rsqrt()
        self.shape, self.lmbda = shape, system.lmbda
        self.basis = None
        if shape[1] == 3:
            basis = torch.tensor(self._BASIS, dtype=kernels.dtype, device=kernels.device)
            self.basis = basis / basis.norm(dim=1, keepdim=True)
            kernels = torch.einsum("uc,nchw->nuhw", self.basis, kernels)
        reach = kernels.shape[-1] - 1
        grid = 2 ** math.ceil(math.log2(2 * reach + 1))
        self._power = torch.fft.rfft2(kernels, s=(grid, grid)).abs().square()
        energy = kernels.square().sum(dim=(1, 2, 3))
        self._energy = energy / energy.sum()
        offsets = torch.arange(-reach, reach + 1, device=kernels.device)
        self._near = (offsets % grid, offsets % grid)
        self._rows, self._cols = offsets % shape[-2], offsets % shape[-1]
        aliases = getattr(system.operator, "aliased_transfer", None)
        self._aliases = None if aliases is None else aliases(shape, kernels.device)
        if self._aliases is None:
            self._data, self._exact = data_spectrum(system.operator, shape, kernels)

    def update(self, m2: Tensor) -> "Preconditioner":
        """Adapt to a new squared mask (B, N, H, W)."""
        phi2 = self._weak(m2)
        total = m2.mean(dim=(2, 3), dtype=torch.float32)
        share = phi2.mean(dim=(2, 3))
        weak = torch.einsum("bnhw,bhw->bn", m2, phi2[:, 0].to(m2.dtype)).float() / phi2.shape[-1] / phi2.shape[-2]
        strong = (total - weak).clamp(min=0) / (1 - share).clamp(min=1e-6)
        weak = weak / share.clamp(min=1e-6)
        self._whole = self._circulant(total)
        self._regions = [
            (phi2.sqrt(), self._whole.relative(self._circulant(weak))),
            ((1 - phi2).sqrt(), self._whole.relative(self._circulant(strong))),
        ]
        return self

    def __call__(self, r: Tensor) -> Tensor:
        """P⁻¹ r."""
        return self._rotated(self._blended, r)

    def starting_point(self, b: Tensor, weight: float = 0.1) -> Tensor:
        """(HᵀH + λ weight WᵀW)⁻¹ b, a Wiener estimate for the price of an FFT; b where that inverse is too coarse."""
        if self._aliases is None and not self._exact:
            return b
        weights = torch.full((len(b), len(self._energy)), weight, dtype=b.dtype, device=b.device)
        return self._rotated(self._circulant(weights).solve, b)

    def _rotated(self, function, r: Tensor) -> Tensor:
        """`function` in the opponent basis, for colour."""
        if self.basis is None:
            return function(r)
        return torch.einsum("uc,buhw->bchw", self.basis, function(torch.einsum("uc,bchw->buhw", self.basis, r)))

    def _blended(self, r: Tensor) -> Tensor:
        c = self._whole
        r = c.image(c.root_adjoint(c.spectrum(r)))
        r = sum(phi * c.image(relative(c.spectrum(phi * r))) for phi, relative in self._regions)
        return c.image(c.root(c.spectrum(r)))

    def _weak(self, m2: Tensor) -> Tensor:
        """φ² of the weakly regularised region: 1 below the lower quartile of the local strength, 0 above the upper."""
        strength = torch.einsum("bnhw,n->bhw", m2, self._energy.to(m2.dtype)).to(self._power.dtype)[:, None]
        strength = box_mean(strength, _REGION).clamp(min=1e-8).log()
        sample = strength.flatten(1)[:, :: max(1, strength[0].numel() // 65536)]
        low, high = torch.quantile(sample, sample.new_tensor([0.25, 0.75]), dim=1)[:, :, None, None, None]
        return ((high - strength) / (high - low).clamp(min=1e-3)).clamp(0, 1)

    def _circulant(self, weight: Tensor) -> "_Multiplier | _Aliased":
        """C(w) from mean squared masks (B, N)."""
        kernel = self._autocorrelation(weight)
        if self._aliases is None:
            regular = self.lmbda * torch.fft.rfft2(kernel).real.clamp(min=0)
            return _Multiplier((self._data + regular).clamp(min=_FLOOR), self.shape)
        regular = self.lmbda * torch.fft.fft2(kernel).real
        return _Aliased(regular.clamp(min=_FLOOR), *self._aliases)

    def _autocorrelation(self, weight: Tensor) -> Tensor:
        """The kernel of Σ_c w_c W_cᵀ W_c on the periodic grid of the image, (B, C, H, W)."""
        power = torch.tensordot(weight.to(self._power.dtype), self._power, dims=1)
        grid = power.shape[-2]
        autocorrelation = torch.fft.irfft2(power, s=(grid, grid))[..., self._near[0], :][..., self._near[1]]
        kernel = autocorrelation.new_zeros(*autocorrelation.shape[:2], self.shape[-2], autocorrelation.shape[-1])
        kernel.index_add_(2, self._rows, autocorrelation)
        return kernel.new_zeros(*kernel.shape[:3], self.shape[-1]).index_add_(3, self._cols, kernel)


class _Multiplier:
    """C as a multiplier of real images of `shape`, (B, C, H, W//2 + 1) on the grid of `rfft2`."""

    def __init__(self, multiplier: Tensor, shape: torch.Size):
        self._c, self._root, self._size = multiplier, multiplier.rsqrt(), shape[-2:]

    def spectrum(self, x: Tensor) -> Tensor:
        """Spectrum of an image."""
        return torch.fft.rfft2(x)

    def image(self, spectrum: Tensor) -> Tensor:
        """Image of a spectrum."""
        return torch.fft.irfft2(spectrum, s=self._size)

    def solve(self, x: Tensor) -> Tensor:
        """The image C⁻¹ x."""
        return self.image(self.spectrum(x) / self._c)

    def root(self, x: Tensor) -> Tensor:
        """L x on spectra, with L Lᴴ = C⁻¹."""
        return x * self._root

    def root_adjoint(self, x: Tensor) -> Tensor:
        """Lᴴ x on spectra."""
        return x * self._root

    def relative(self, other: "_Multiplier") -> Callable[[Tensor], Tensor]:
        """L⁻¹ C_other⁻¹ L⁻ᴴ on spectra: how the inverse of the other differs from this one's."""
        ratio = self._c / other._c
        return lambda x: x * ratio


class _Aliased:
    """C = D + k̄ kᵀ in the Fourier domain, kᵀ a sum over each group of s² frequencies that decimation makes one.

    D is the regulariser's multiplier, (B, C, H, W), and k the transfer function of the data, (H, W), with HᵀH = k̄ kᵀ.
    With u = D^-½ k̄ and n = uᴴu, C = D^½ (1 + u uᴴ) D^½; all functions of 1 + u uᴴ are 1 + (f(1 + n) − f(1))/n · u uᴴ.
    Spectra are held as (B, C, s, H/s, s, W/s), a group along dimensions 2 and 4. For the rest see `_Multiplier`.
    """

    def __init__(self, diagonal: Tensor, transfer: Tensor, factor: int):
        self._split = (factor, diagonal.shape[-2] // factor, factor, diagonal.shape[-1] // factor)
        self._d = self._groups(diagonal.sqrt())
        self._u = self._groups(transfer.conj()) / self._d
        n = self._u.abs().square().sum((-4, -2), keepdim=True).clamp(min=1e-12)
        self._inverse = -1 / (1 + n)
        self._less = ((1 + n).rsqrt() - 1) / n
        self._more = ((1 + n).sqrt() - 1) / n

    def spectrum(self, x: Tensor) -> Tensor:
        return self._groups(torch.fft.fft2(x))

    def image(self, spectrum: Tensor) -> Tensor:
        across, height, along, width = self._split
        return torch.fft.ifft2(spectrum.reshape(*spectrum.shape[:2], across * height, along * width)).real

    def solve(self, x: Tensor) -> Tensor:
        return self.image(self._solve(self.spectrum(x)))

    def root(self, x: Tensor) -> Tensor:  # L = D^-½ (1 + u uᴴ)^-½
        return self._plus(x, self._less) / self._d

    def root_adjoint(self, x: Tensor) -> Tensor:
        return self._plus(x / self._d, self._less)

    def relative(self, other: "_Aliased") -> Callable[[Tensor], Tensor]:
        return lambda x: self._plus(other._solve(self._plus(x, self._more) * self._d) * self._d, self._more)

    def _solve(self, x: Tensor) -> Tensor:
        return self._plus(x / self._d, self._inverse) / self._d

    def _plus(self, x: Tensor, factor: Tensor) -> Tensor:
        """x + factor · u uᴴ x."""
        return x + factor * (self._u.conj() * x).sum((-4, -2), keepdim=True) * self._u

    def _groups(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-2], *self._split)


def box_mean(x: Tensor, side: int) -> Tensor:
    """Mean over the square of odd `side` around every pixel of (B, C, H, W); smaller, if the image is."""
    pad = min(side // 2, min(x.shape[-2:]) - 1)
    return F.avg_pool2d(F.pad(x, (pad,) * 4, mode="reflect"), 2 * pad + 1, 1)


def data_spectrum(operator, shape: torch.Size, like: Tensor) -> tuple[Tensor, bool]:
    """Eigenvalues of HᵀH on the grid of `rfft2`, or the diagonal of HᵀH in the Fourier basis; and whether the former.

    Of an operator that knows neither the diagonal is estimated from white noise.
    """
    for name in ("normal_spectrum", "approximate_normal_spectrum"):
        known = getattr(operator, name, None)
        spectrum = None if known is None else known(shape, like.device)
        if spectrum is not None:
            return spectrum.to(like.dtype), name == "normal_spectrum"
    generator = torch.Generator().manual_seed(0)
    total = 0
    for _ in range(_PROBES):
        noise = torch.randn(shape, generator=generator).to(like)
        images = torch.fft.rfft2(noise), torch.fft.rfft2(operator.A_adjoint(operator.A(noise)).to(like))
        total = total + (images[0].conj() * images[1]).real / (shape[-2] * shape[-1] * _PROBES)
    rows = torch.cat([total[..., -1:, :], total, total[..., :1, :]], dim=-2)
    return F.avg_pool2d(F.pad(rows, (1, 1, 0, 0), mode="reflect"), 3, 1).clamp(min=0), False
