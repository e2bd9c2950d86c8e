"""A cheap approximate inverse of A(x) = HᵀH + λ Wᵀ M² W: Fourier multipliers, blended over regions of the image.

Legend: S the spectrum of HᵀH, w_c mean squared mask of channel c, C(w) = S + λ Σ_c w_c |Ŵ_c|² (circulant model of A),
φ_j² a partition of unity of the image into regions of similar masks, w_j their mean masks.

P⁻¹ = L [Σ_j φ_j (L⁻¹ C_j⁻¹ L⁻ᴴ) φ_j] Lᴴ with L Lᴴ = C(w)⁻¹, C_j = C(w_j): symmetric positive, exact for a constant
mask. It costs a few FFTs of the image, little beside one application of W. Exact inverses are not needed, only close.

Mostly C is a Fourier multiplier and L = C^-½ (`_Multiplier`). Super-resolution mixes the s² frequencies that decimation
makes one: its C has a block of rank one for each such group (`_Aliased`). Both know the same operations, on spectra of
real images (…, H, W//2 + 1).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_REGIONS = 8
_BLOCK = 4  # side in pixels of the blocks that are sorted into regions
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
            self._data = self._data[:, None] if self._data.ndim == 4 else self._data
        self._centres = None

    def update(self, m2: Tensor) -> "Preconditioner":
        """Adapt to a new squared mask (B, N, H, W)."""
        blocks = F.avg_pool2d(m2, _BLOCK, ceil_mode=True, count_include_pad=False).to(self._power.dtype)
        self._whole = self._circulant(blocks.mean((2, 3))[:, None])
        share, weights = self._sorted(blocks.flatten(2).mT)
        share = share.mT.unflatten(2, blocks.shape[2:])
        size = [_BLOCK * n for n in blocks.shape[2:]]
        share = F.interpolate(share, size, mode="bilinear")[..., : self.shape[-2], : self.shape[-1]]
        self._phi = share.sqrt()[:, :, None]
        self._relative = self._whole.relative(self._circulant(weights))
        return self

    def __call__(self, r: Tensor) -> Tensor:
        """P⁻¹ r."""
        return self._rotated(self._blended, r)

    def starting_point(self, b: Tensor, weight: float = 0.1) -> Tensor:
        """(HᵀH + λ weight WᵀW)⁻¹ b, a Wiener estimate for the price of an FFT; b where that inverse is too coarse."""
        if self._aliases is None and not self._exact:
            return b
        weights = torch.full((len(b), 1, len(self._energy)), weight, dtype=b.dtype, device=b.device)
        return self._rotated(self._circulant(weights).solve, b)

    def _rotated(self, function, r: Tensor) -> Tensor:
        """`function` of (B, 1, C, H, W), in the opponent basis for colour."""
        if self.basis is None:
            return function(r[:, None])[:, 0]
        rotated = torch.einsum("uc,bchw->buhw", self.basis, r)[:, None]
        return torch.einsum("uc,buhw->bchw", self.basis, function(rotated)[:, 0])

    def _blended(self, r: Tensor) -> Tensor:
        c = self._whole
        r = c.image(c.root_adjoint(c.spectrum(r)))
        r = (self._phi * c.image(self._relative(c.spectrum(self._phi * r)))).sum(1, keepdim=True)
        return c.image(c.root(c.spectrum(r)))

    def _sorted(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Shares (B, P, J) that blocks with squared masks (B, P, N) have in regions, whose means (B, J, N) come second.

        By k-means on the masks, channels weighted by the energy of their filters, from where the last call ended; first
        from equal parts in the order of the strength of regularisation.
        """
        points = masks * self._energy.sqrt()
        steps = 1
        if self._centres is None:
            rank = (masks @ self._energy).argsort(1).argsort(1)
            self._centres = _means(F.one_hot(rank * _REGIONS // masks.shape[1], _REGIONS).to(masks), points)
            steps = 3
        for _ in range(steps):
            nearest = F.one_hot(_distances(points, self._centres).argmin(2), _REGIONS).to(masks)
            means = _means(nearest, points)
            # Of a step that exploded, and is undone, nothing may stay.
            known = (nearest.sum(1)[..., None] > 0) & means.isfinite().all(2, keepdim=True)
            self._centres = torch.where(known, means, self._centres)
        distances = _distances(points, self._centres)
        soft = 0.5 * distances.amin(2, keepdim=True).mean(1, keepdim=True)
        share = torch.softmax(-distances / soft.clamp(min=1e-12), dim=2)
        return share, _means(share, masks)

    def _circulant(self, weight: Tensor) -> "_Multiplier | _Aliased":
        """C(w) from mean squared masks (B, J, N)."""
        kernel = self._autocorrelation(weight)
        regular = self.lmbda[:, None] * torch.fft.rfft2(kernel).real.clamp(min=0)
        if self._aliases is None:
            return _Multiplier((self._data + regular).clamp(min=_FLOOR), self.shape)
        return _Aliased(regular.clamp(min=_FLOOR), *self._aliases, self.shape)

    def _autocorrelation(self, weight: Tensor) -> Tensor:
        """The kernel of Σ_c w_c W_cᵀ W_c on the periodic grid of the image, (B, J, C, H, W)."""
        power = torch.tensordot(weight.to(self._power.dtype), self._power, dims=1)
        grid = power.shape[-2]
        autocorrelation = torch.fft.irfft2(power, s=(grid, grid))[..., self._near[0], :][..., self._near[1]]
        kernel = autocorrelation.new_zeros(*autocorrelation.shape[:3], self.shape[-2], autocorrelation.shape[-1])
        kernel.index_add_(3, self._rows, autocorrelation)
        return kernel.new_zeros(*kernel.shape[:4], self.shape[-1]).index_add_(4, self._cols, kernel)


def _means(share: Tensor, points: Tensor) -> Tensor:
    """Means (B, J, N) of `points` (B, P, N) by their shares (B, P, J)."""
    return share.mT @ points / share.sum(1)[..., None].clamp(min=1e-12)


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (B, P, J)."""
    squares = points.square().sum(2)[..., None] + centres.square().sum(2)[:, None]
    return (squares - 2 * points @ centres.mT).clamp(min=0)


class _Multiplier:
    """C as a multiplier of the spectra of real images of `shape`, (…, H, W//2 + 1)."""

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

    D is the regulariser's multiplier, (…, H, W//2 + 1), and k the transfer function of the data, (H, W//2 + 1), with
    HᵀH = k̄ kᵀ. With u = D^-½ k̄ and n = uᴴu, C = D^½ (1 + u uᴴ) D^½; functions of 1 + u uᴴ are
    1 + (f(1 + n) − f(1))/n · u uᴴ. Inside, the rows of spectra are split, (…, s, H/s, W//2 + 1), and numbers of a group
    are spectra of the decimated image, (…, H/s, W/s//2 + 1). For the rest see `_Multiplier`.
    """

    def __init__(self, diagonal: Tensor, transfer: Tensor, factor: int, shape: torch.Size):
        self._size, (height, width), half = shape[-2:], (shape[-2] // factor, shape[-1] // factor), diagonal.shape[-1]
        self._split = (factor, height)
        # Columns beyond the half are conjugates: of the sums over rows, and of the decimated image's spectrum.
        device = diagonal.device
        self._mirrored = -torch.arange(height, device=device) % height
        self._beyond = shape[-1] - torch.arange(half, shape[-1], device=device)
        self._kept, self._narrow = width // 2 + 1, (factor, width)
        self._beyond_narrow = width - torch.arange(self._kept, width, device=device)
        self._columns = torch.arange(half, device=device) % width
        self._d = self._rows(diagonal.sqrt())
        self._u = self._rows(transfer.conj()) / self._d
        n = self._sum(self._u.abs().square()).clamp(min=1e-12)
        self._inverse = -1 / (1 + n)
        self._less = ((1 + n).rsqrt() - 1) / n
        self._more = ((1 + n).sqrt() - 1) / n

    def spectrum(self, x: Tensor) -> Tensor:
        return self._rows(torch.fft.rfft2(x))

    def image(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfft2(spectrum.flatten(-3, -2), s=self._size)

    def solve(self, x: Tensor) -> Tensor:
        return self.image(self._plus(self.spectrum(x) / self._d, self._inverse) / self._d)

    def root(self, x: Tensor) -> Tensor:  # L = D^-½ (1 + u uᴴ)^-½
        return self._plus(x, self._less) / self._d

    def root_adjoint(self, x: Tensor) -> Tensor:
        return self._plus(x / self._d, self._less)

    def relative(self, other: "_Aliased") -> Callable[[Tensor], Tensor]:
        # C_other⁻¹ between the D^½ of this one: q − q u (uᴴ q ·)/(1 + n_other) with q = D/D_other.
        q = (self._d / other._d).square()
        qu, inverse = q * self._u, other._inverse

        def apply(x: Tensor) -> Tensor:
            x = self._plus(x, self._more)
            x = q * x + self._spread(inverse * self._sum(qu.conj() * x)) * qu
            return self._plus(x, self._more)

        return apply

    def _plus(self, x: Tensor, factor: Tensor) -> Tensor:
        """x + factor · u uᴴ x."""
        return x + self._spread(factor * self._sum(self._u.conj() * x)) * self._u

    def _rows(self, x: Tensor) -> Tensor:
        return x.unflatten(-2, self._split)

    def _sum(self, x: Tensor) -> Tensor:
        """Sums over the groups, (…, H/s, W/s//2 + 1)."""
        x = x.sum(-3)
        x = torch.cat([x, self._conjugates(x, self._beyond)], -1)
        return x.unflatten(-1, self._narrow).sum(-2)[..., : self._kept]

    def _spread(self, x: Tensor) -> Tensor:
        """A group's number for each of its frequencies, (…, 1, H/s, W//2 + 1)."""
        x = torch.cat([x, self._conjugates(x, self._beyond_narrow)], -1)
        return x[..., None, :, self._columns]

    def _conjugates(self, x: Tensor, columns: Tensor) -> Tensor:
        """Of a real image's spectrum the values at −k for rows k and `columns` that are −k already."""
        return x[..., self._mirrored, :][..., columns].conj()


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
