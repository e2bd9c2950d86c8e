"""A multi-coil MRI phantom in the file layout of fastMRI's knee data, so that code for one reads the other.

Not anatomy: ellipses after Shepp and Logan (with higher contrasts), shaken, bent and textured at random,
seen by coils around them. All is a function of the seed.
"""

import hashlib
import math
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bench.files import atomic

# intensity, semi-axes along x and y, centre x and y, degrees; on [−1, 1]², y upwards
ELLIPSES = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0),
    (-0.6, 0.6624, 0.874, 0.0, -0.0184, 0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0),
)
ACQUISITIONS = {"pd": "CORPD_FBK", "pdfs": "CORPDFS_FBK"}
RIM = {"pd": 1.0, "pdfs": 0.45}  # the outer ellipse is fat, which PDFS suppresses
NOISE = {
    "pd": 0.004,
    "pdfs": 0.008,
}  # of each coil's k-space, relative to the brightest pixel; fat suppression costs SNR
SCALE = 1e-4  # brightest pixel; fastMRI's values are of this order
HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>{height}</x><y>{width}</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>{side}</x><y>{side}</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
</kspace_encoding_step_1></encodingLimits></encoding></ismrmrdHeader>
"""


def image(height: int, width: int, contrast: str, rng: np.random.RandomState) -> NDArray[np.float64]:
    """A slice, (H, W), ≥ 0 with maximum 1; the object fills the central square."""
    u, v = _coordinates(height, width)
    bend = 0.03 * np.stack([_smooth(height, width, 0.15, rng) for _ in range(2)])
    u, v = u + bend[0], v + bend[1]
    x = np.zeros((height, width))
    for n, (value, a, b, x0, y0, degrees) in enumerate(ELLIPSES):
        jitter = rng.uniform(-1, 1, 6) * (n > 1)  # the two outer ones keep to each other
        angle = math.radians(degrees + 12 * jitter[0])
        du, dv = u - x0 - 0.05 * jitter[1], v - y0 - 0.05 * jitter[2]
        along, across = du * math.cos(angle) + dv * math.sin(angle), dv * math.cos(angle) - du * math.sin(angle)
        radius = np.hypot(along / (a * (1 + 0.2 * jitter[3])), across / (b * (1 + 0.2 * jitter[4])))
        soft = np.clip((1 - radius) * min(a, b) * min(height, width) / 2 + 0.5, 0, 1)  # edge of one pixel
        x += value * (RIM[contrast] if n == 0 else 1 + 0.3 * jitter[5]) * soft
        if n == 1:
            x += (1.0 - RIM[contrast]) * soft  # the inside is as without suppression
    texture = 1 + 0.12 * _smooth(height, width, 0.012, rng) + 0.1 * _smooth(height, width, 0.2, rng)
    x = np.clip(x * texture, 0, None)
    return x / x.max()


def sensitivities(height: int, width: int, coils: int, rng: np.random.RandomState) -> NDArray[np.complex128]:
    """Smooth complex sensitivities of `coils` coils on a circle around the object, (C, H, W), Σ|S_c|² = 1."""
    u, v = _coordinates(height, width)
    maps = []
    for n in range(coils):
        angle = 2 * math.pi * (n + 0.2 * rng.uniform(-1, 1)) / coils
        du, dv = u - 1.3 * math.cos(angle), v - 1.3 * math.sin(angle)
        phase = 0.8 * (du * math.sin(angle) - dv * math.cos(angle)) + rng.uniform(0, 2 * math.pi)
        maps.append(np.exp(1j * phase) / (0.3 + du**2 + dv**2))
    stacked = np.stack(maps)
    return stacked / np.sqrt((np.abs(stacked) ** 2).sum(0))


def kspace(shape: tuple[int, int, int, int], contrast: str, seed: int) -> NDArray[np.complex64]:
    """K-space of a volume, (slices, coils, H, W), zero frequency in the centre as in fastMRI's files."""
    slices, coils, height, width = shape
    rng = np.random.RandomState(seed)
    maps = sensitivities(height, width, coils, rng)
    phase = np.exp(1j * _smooth(height, width, 0.3, rng))  # of the object, the same for all coils
    full = np.empty(shape, np.complex64)
    for n in range(slices):
        x = image(height, width, contrast, rng) * phase
        noise = rng.normal(0, NOISE[contrast], (2, coils, height, width))
        full[n] = SCALE * (centred_fft(maps * x) + noise[0] + 1j * noise[1])
    return full


def write_volume(path: Path, shape: tuple[int, int, int, int], contrast: str, seed: int) -> None:
    """Write a volume as a fastMRI multi-coil file: kspace, reconstruction_rss, ismrmrd_header and attributes."""
    _, _, height, width = shape
    full = kspace(shape, contrast, seed)
    rss = np.sqrt((np.abs(centred_ifft(full)) ** 2).sum(1))
    side = min(320, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    rss = rss[:, top : top + side, left : left + side].astype(np.float32)
    with atomic(path) as partial, h5py.File(partial, "w") as handle:
        handle["kspace"], handle["reconstruction_rss"] = full, rss
        sizes = {"height": height, "width": width, "side": side, "last": width - 1, "centre": width // 2}
        handle["ismrmrd_header"] = HEADER.format(**sizes)
        handle.attrs["acquisition"] = ACQUISITIONS[contrast]
        handle.attrs["max"], handle.attrs["norm"] = rss.max(), np.linalg.norm(rss)
        handle.attrs["patient_id"] = hashlib.sha256(f"phantom {seed}".encode()).hexdigest()


def write_volumes(folder: Path, count: int, shape: tuple[int, int, int, int], seed: int) -> list[Path]:
    """`count` volumes of each contrast, alternating, as file1000000.h5 and so on; what is there stays."""
    paths = [folder / f"file{1000000 + n}.h5" for n in range(2 * count)]
    for n, path in enumerate(paths):
        if not path.is_file():
            write_volume(path, shape, ("pd", "pdfs")[n % 2], seed + n)
    return paths


def centred_fft(x: NDArray) -> NDArray:
    """Orthonormal 2-D FFT of (…, H, W) with the origin of both domains in the centre."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), norm="ortho"), axes)


def centred_ifft(k: NDArray) -> NDArray:
    """Inverse of `centred_fft`."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, axes), norm="ortho"), axes)


def _coordinates(height: int, width: int) -> tuple[NDArray, NDArray]:
    """u to the right and v upwards, [−1, 1] on the central square."""
    half = min(height, width) / 2
    u = (np.arange(width) - (width - 1) / 2) / half
    v = -(np.arange(height) - (height - 1) / 2) / half
    return np.broadcast_to(u, (height, width)), np.broadcast_to(v[:, None], (height, width))


def _smooth(height: int, width: int, scale: float, rng: np.random.RandomState) -> NDArray[np.float64]:
    """Gaussian random field of unit variance; `scale` is its correlation length relative to the smaller side."""
    field = gaussian_filter(rng.normal(size=(height, width)), scale * min(height, width), mode="wrap")
    return (field - field.mean()) / field.std()
