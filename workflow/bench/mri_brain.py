"""A small real acquisition without ground truth: 8-coil k-space of a head, of which 12 % was measured."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bench import datasets
from bench.errors import UserError
from bench.figure_config import BRAIN
from bench.mri_prepare import espirit
from bench.phantom import centred_ifft, kspace

CALIBRATION_WIDTH = 24


@dataclass(frozen=True)
class Acquisition:
    """What a reconstruction is given; zero frequency at [0, 0], the FFT orthonormal and without a shift of the image.

    y (C, H, W) complex64, mask (H, W) uint8, smaps (C, H, W) complex64, sigma the noise in each part of y.
    """

    y: NDArray[np.complex64]
    mask: NDArray[np.uint8]
    smaps: NDArray[np.complex64]
    sigma: float


def load(cache: Path, mirror: str | None = None) -> Acquisition:
    """Fetch and prepare the acquisition; the image that explains it is real, ≥ 0, about 1 where brightest."""
    (path,) = datasets.fetch(BRAIN, cache, mirror, progress=False)
    try:
        kspace = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable .npy file ({error})") from None
    if not isinstance(kspace, np.ndarray):
        kspace.close()
        raise UserError(f"{path}: holds several arrays, expected a .npy file with one")
    if kspace.ndim != 3 or not np.iscomplexobj(kspace) or not np.isfinite(kspace).all() or not kspace.any():
        raise UserError(f"{path}: expected finite complex k-space (coils, H, W), found {kspace.dtype} {kspace.shape}")
    return prepare(kspace.astype(np.complex64))


def phantom(coils: int, height: int, width: int, seed: int) -> Acquisition:
    """One that needs no download: a phantom, measured in the calibration square and at random, less often far out."""
    full = kspace((1, coils, height, width), "pd", seed)[0]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    chance = np.exp(-2 * (x**2 + y**2)) / 3
    sampled = (np.random.default_rng(seed).random((height, width)) < chance) | (_window((height, width)) > 0)
    return prepare((full * sampled).astype(np.complex64))


def prepare(kspace: NDArray[np.complex64]) -> Acquisition:
    """The acquisition from k-space (C, H, W) with zero frequency in the centre and zeros where nothing was measured.

    ESPIRiT leaves the phase of the image open. It is smooth, so that of a picture from the central k-space is put into
    the sensitivities, which makes the unknown image real. The unit of intensity is the maximum of the picture from all
    k-space, weighted against its uneven density. The noise is judged by the measured values farthest from zero
    frequency, which hold little else.
    """
    sampled = (kspace != 0).any(0)
    maps = espirit(kspace, CALIBRATION_WIDTH)
    low = (maps.conj() * centred_ifft(kspace * _window(kspace.shape[1:]))).sum(0)
    maps = (maps * np.exp(1j * np.angle(low))).astype(np.complex64)
    density = np.maximum(gaussian_filter(sampled.astype(np.float32), 4), 0.02)
    unit = np.abs((maps.conj() * centred_ifft(kspace / density)).sum(0)).max()
    # from centred images to images that begin at [0, 0]: the same pixels, other phases in k-space
    images = centred_ifft(kspace) / unit
    mask = np.fft.ifftshift(sampled).astype(np.uint8)
    y = (np.fft.fft2(images, norm="ortho") * mask).astype(np.complex64)
    radius = np.fft.ifftshift(np.hypot(*np.meshgrid(*(np.linspace(-1, 1, n) for n in sampled.shape), indexing="ij")))
    measured = np.sort(radius[mask == 1])
    outer = (mask == 1) & (radius >= measured[int(0.95 * len(measured))])
    sigma = float(np.sqrt((np.abs(y[:, outer]) ** 2).mean() / 2))
    return Acquisition(y, mask, maps, sigma)


def _window(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Hann window over the central k-space, (H, W)."""
    window = np.zeros(shape, np.float32)
    sizes = [min(CALIBRATION_WIDTH, n) for n in shape]
    begin = [(n - s) // 2 for n, s in zip(shape, sizes, strict=True)]
    hann = [np.hanning(s + 2)[1:-1] for s in sizes]
    window[begin[0] : begin[0] + sizes[0], begin[1] : begin[1] + sizes[1]] = np.outer(*hann)
    return window
