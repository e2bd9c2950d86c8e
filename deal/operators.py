"""Forward operators of y = A x + noise, on real images x of shape (B, C, H, W).

What they can do is said in `deal.linear`. Dtype and device are those of the argument.

Legend: K̂ transfer function of the blur, S the sampling [0::s, 0::s] or the coils' sensitivities, m mask, k frequency.
"""

import torch
from torch import Tensor

from deal.linear import Identity, LinearOperator, Operator, column, divide, lasting

__all__ = ["MRI", "Blur", "Downsampling", "Identity", "LinearOperator", "Operator"]


class Blur(Operator):
    """A x = k ∗ x, circular convolution of each channel; as `scipy.ndimage.convolve(x, k, mode="wrap")` for odd sizes.

    Args:
        kernel: (h, w), its centre at [h//2, w//2]; it may be larger than the image.

    ‖A‖² is exact for a non-negative kernel, whose largest gain is that of constants; otherwise (Σ|k|)² is a bound.
    """

    def __init__(self, kernel: Tensor):
        kernel = torch.as_tensor(kernel, dtype=torch.float64)
        if kernel.ndim != 2 or not torch.isfinite(kernel).all() or not kernel.any():
            raise ValueError(f"a blur kernel is a finite matrix other than 0, not {tuple(kernel.shape)}")
        self.kernel = kernel
        self.squared_norm = float(kernel.abs().sum() ** 2)
        self._cache: dict[tuple, Tensor] = {}

    def transfer(self, shape: torch.Size, device: torch.device | None, dtype: torch.dtype = torch.float64) -> Tensor:
        """K̂ on the grid of `rfft2`, (H, W//2 + 1), complex: the FFT of the kernel with its centre moved to [0, 0]."""
        key = (tuple(shape[-2:]), str(device), dtype)
        if key not in self._cache:
            (h, w), (height, width) = self.kernel.shape, shape[-2:]
            rows = (torch.arange(h) - h // 2) % height
            columns = (torch.arange(w) - w // 2) % width
            grid = torch.zeros(height, w, dtype=torch.float64).index_add_(0, rows, self.kernel.cpu())
            grid = torch.zeros(height, width, dtype=torch.float64).index_add_(1, columns, grid)
            self._cache[key] = lasting(torch.fft.rfft2(grid).to(device=device, dtype=dtype.to_complex()))
        return self._cache[key]

    def A(self, x: Tensor) -> Tensor:
        """k ∗ x."""
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.transfer(x.shape, x.device, x.dtype), s=x.shape[-2:])

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Correlation of y with k."""
        return torch.fft.irfft2(torch.fft.rfft2(y) * self.transfer(y.shape, y.device, y.dtype).conj(), s=y.shape[-2:])

    def _spectrum(self, shape: torch.Size, device: torch.device | None) -> Tensor:
        return self.transfer(shape, device).abs().square()


class Downsampling(Operator):
    """A x = S (k ∗ x): circular blur, then every s-th pixel from the upper left one on, [0::s, 0::s].

    Args:
        kernel: (h, w) as for `Blur`.
        factor: s.
        shape: (…, H, W) of the images, multiples of s (‖A‖² depends on it).
    """

    def __init__(self, kernel: Tensor, factor: int, shape: torch.Size):
        height, width = shape[-2:]
        if factor < 1 or not height or not width or height % factor or width % factor:
            raise ValueError(f"images of {height}×{width} pixels cannot be decimated by {factor}: not a multiple")
        self.blur, self.factor, self.size = Blur(kernel), factor, (height, width)
        # AAᵀ = S K Kᵀ Sᵀ is circulant: |K̂|² averaged over the s² frequencies that decimation makes one.
        power = torch.fft.fft2(torch.fft.irfft2(self.blur._spectrum(shape, None), s=self.size)).real
        power = power.reshape(factor, height // factor, factor, width // factor).mean((0, 2))
        self.squared_norm = float(power.max())
        self._outer = power[:, : power.shape[1] // 2 + 1]

    def A(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H/s, W/s)."""
        if tuple(x.shape[-2:]) != self.size:
            raise ValueError(f"this operator takes images of {self.size[0]}×{self.size[1]}, not {tuple(x.shape)}")
        return self.blur.A(x)[..., :: self.factor, :: self.factor]

    def A_adjoint(self, y: Tensor) -> Tensor:
        """(B, C, H/s, W/s) → (B, C, H, W)."""
        x = y.new_zeros(*y.shape[:-2], *self.size)
        x[..., :: self.factor, :: self.factor] = y
        return self.blur.A_adjoint(x)

    def prox(self, v: Tensor, y: Tensor, rho: float | Tensor) -> Tensor:
        """v + Aᵀ(AAᵀ + ρ)⁻¹(y − Av), the closed form of Zhao et al. (2016) without its division by ρ."""
        outer = self._outer.to(device=v.device, dtype=v.dtype)
        return v + self.A_adjoint(divide(y - self.A(v), outer + column(rho, v)))

    def aliased_transfer(self, shape: torch.Size, device: torch.device | None = None) -> tuple[Tensor, int]:
        """k and s with (AᵀA x)^ = k̄ Σ k x̂, the sum over the s² frequencies that decimation makes one.

        k = K̂/s on the grid of `rfft2`, (H, W//2 + 1) and complex64; those frequencies lie H/s and W/s apart.
        """
        return (self.blur.transfer(shape, device) / self.factor).to(torch.complex64), self.factor

    def approximate_normal_spectrum(self, shape: torch.Size, device: torch.device | None = None) -> Tensor:
        """|K̂|²/s²."""
        return (self.blur._spectrum(shape, device) / self.factor**2).float()


class MRI(Operator):
    """y = m · F(S_c x): Cartesian MRI of a real image by one coil (S = 1) or several, F the orthonormal FFT, unshifted.

    Args:
        mask: (H, W) or (B, 1, H, W), real, ≥ 0, zero frequency at [0, 0].
        smaps: (C, H, W) or (B, C, H, W), complex sensitivities of the coils; None: one coil, S = 1.

    x is (B, 1, H, W) and real, y (B, C, H, W) and complex. With one coil AᵀA multiplies the spectrum of x by
    (m²(k) + m²(−k))/2, since x is real. With several, `squared_norm` is the bound max m² · max Σ|S_c|².
    """

    def __init__(self, mask: Tensor, smaps: Tensor | None = None):
        self.mask = _four(torch.as_tensor(mask), "mask")
        self.smaps = None if smaps is None else _four(torch.as_tensor(smaps), "smaps")
        if self.mask.is_complex() or not torch.isfinite(self.mask).all() or (self.mask < 0).any():
            raise ValueError("an MRI mask is real, finite and not negative")
        if not self.mask.any():
            raise ValueError("an MRI mask must not be zero everywhere")
        gain = 1.0
        if self.smaps is not None:
            if self.smaps.shape[-2:] != self.mask.shape[-2:]:
                raise ValueError(f"mask {tuple(self.mask.shape)} and maps {tuple(self.smaps.shape)} differ in size")
            gain = float(self.smaps.abs().square().sum(1).max())
            self.squared_norm = float(self.mask.max() ** 2) * gain
        else:
            self.squared_norm = float(self._symmetric(self.mask.double().square()).max())
        self._cache: dict[tuple, tuple[Tensor, Tensor | None]] = {}
        self._nearest: Tensor | None = None

    def A(self, x: Tensor) -> Tensor:
        """(B, 1, H, W), real → (B, C, H, W), complex."""
        mask, smaps = self._parts(x)
        return mask * torch.fft.fft2(x if smaps is None else smaps * x, norm="ortho")

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Re Σ_c conj(S_c) F⁻¹(m y_c): (B, C, H, W), complex → (B, 1, H, W), real."""
        mask, smaps = self._parts(y)
        x = torch.fft.ifft2(mask * y, norm="ortho")
        return x.real if smaps is None else (smaps.conj() * x).real.sum(1, keepdim=True)

    def approximate_normal_spectrum(self, shape: torch.Size, device: torch.device | None = None) -> Tensor:
        """The spectrum itself for one coil; for several m² smeared by the power spectrum of the maps."""
        if self.smaps is None:
            return self._spectrum(shape, device).float()
        if self._nearest is None:
            height, width = self.mask.shape[-2:]
            smear = torch.fft.fft2(self.smaps).abs().square().sum(1, keepdim=True) / (height * width) ** 2
            found = torch.fft.ifft2(torch.fft.fft2(self.mask.to(smear) ** 2) * torch.fft.fft2(smear).conj()).real
            self._nearest = lasting(self._half(self._symmetric(found).clamp(min=0)).float())
        return self._nearest.to(device)

    def _spectrum(self, shape: torch.Size, device: torch.device | None) -> Tensor | None:
        if self.smaps is not None:
            return None
        return self._half(self._symmetric(self.mask.double().square())).to(device)

    def _half(self, spectrum: Tensor) -> Tensor:
        """The half of (B, 1, H, W) that `rfft2` keeps; one for all images becomes (H, W//2 + 1)."""
        spectrum = spectrum[..., : spectrum.shape[-1] // 2 + 1]
        return spectrum[0, 0] if len(spectrum) == 1 else spectrum

    @staticmethod
    def _symmetric(m: Tensor) -> Tensor:
        """(m(k) + m(−k))/2."""
        return (m + m.flip((-2, -1)).roll((1, 1), (-2, -1))) / 2

    def _parts(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mask and maps on the device and in the precision of `like`."""
        key = (str(like.device), like.dtype)
        if key not in self._cache:
            mask, smaps = lasting(self.mask.to(device=like.device, dtype=like.real.dtype)), self.smaps
            smaps = None if smaps is None else lasting(smaps.to(like.device, like.dtype.to_complex()))
            self._cache[key] = mask, smaps
        return self._cache[key]


def _four(x: Tensor, name: str) -> Tensor:
    """(H, W) or (C, H, W) as (1, C, H, W)."""
    if not 2 <= x.ndim <= 4:
        raise ValueError(f"{name} must have 2 to 4 dimensions, not the shape {tuple(x.shape)}")
    return x[(None,) * (4 - x.ndim)]
