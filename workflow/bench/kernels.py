"""Blur kernels: DPIR's files, or kernels made here, so that a run without a network has some.

Kernels are float64 arrays of odd sides, non-negative with sum 1, their centre in the middle, in MATLAB's orientation.
"""

from pathlib import Path

import h5py
import numpy as np
import scipy.io
import scipy.signal
from numpy.typing import NDArray

from bench import datasets
from bench.config import LEVIN_SIZES
from bench.errors import UserError
from bench.fetch import mismatch

KERNEL = NDArray[np.float64]
GAUSSIAN_SIDE = 25
GAUSSIAN_SIGMAS = (0.7, 1.2, 1.6, 2.0)


def gaussian(index: int, source: str, cache: Path) -> KERNEL:
    """Kernel `index` of 0 … 3 for super-resolution: 25×25, from kernels_12.mat or computed."""
    if source == "generated":
        return matlab_gaussian(GAUSSIAN_SIDE, GAUSSIAN_SIGMAS[index])
    path = _file(source, "kernels_12.mat", cache)
    try:
        found = scipy.io.loadmat(path)["kernels"]
        kernel = np.asarray(found[0, index], dtype=np.float64)
    except Exception as error:  # scipy raises whatever its parser stumbles on
        raise UserError(f"{path}: cannot be read as the 12 kernels of DPIR: {error}") from error
    return _checked(path, index, kernel, GAUSSIAN_SIDE)


def motion(index: int, source: str, cache: Path) -> KERNEL:
    """Kernel `index` of 0 … 7 for deblurring, from Levin09.mat or a random camera shake of the same size."""
    if source == "generated":
        return shake(LEVIN_SIZES[index], seed=index)
    path = _file(source, "Levin09.mat", cache)
    try:
        with h5py.File(path) as handle:
            references = np.asarray(handle["kernels"]).ravel()
            kernel = np.asarray(handle[references[index]], dtype=np.float64).T  # HDF5 holds MATLAB's columns as rows
    except Exception as error:  # h5py raises whatever a damaged file makes it stumble on
        raise UserError(f"{path}: cannot be read as the kernels of Levin et al.: {error}") from error
    return _checked(path, index, kernel, LEVIN_SIZES[index])


def matlab_gaussian(side: int, sigma: float) -> KERNEL:
    """MATLAB's fspecial('gaussian', side, sigma)."""
    offsets = np.arange(side) - (side - 1) / 2
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * sigma**2))
    kernel[kernel < np.finfo(np.float64).eps * kernel.max()] = 0
    return kernel / kernel.sum()


def shake(side: int, seed: int) -> KERNEL:
    """The path of a shaking camera: a random walk with a slowly changing velocity.

    Its points are shared out to the four pixels around them.
    """
    steps = np.random.RandomState(seed).normal(size=(400, 2))
    walk = np.cumsum(scipy.signal.lfilter([1.0], [1.0, -0.97], steps, axis=0), axis=0)
    low, high = walk.min(axis=0), walk.max(axis=0)
    walk = (walk - (low + high) / 2) / (high - low).max() * (side - 3) + (side - 1) / 2
    kernel = np.zeros((side, side))
    corner = np.floor(walk).astype(int)
    part = walk - corner
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
            np.add.at(kernel, (corner[:, 0] + down, corner[:, 1] + right), weight)
    return kernel / kernel.sum()


def _file(source: str, name: str, cache: Path) -> Path:
    """The path of a fetched file of the data set `source`."""
    file = next(file for file in datasets.get(source).files if file.name == name)
    path = file.path(cache)
    if not path.is_file():
        raise UserError(f"{source} has not been fetched (python -m bench fetch {source}): {path} is missing")
    if wrong := mismatch(file, path):
        raise UserError(f"{path} is damaged: {wrong}. Mend: python -m bench fetch {source}")
    return path


def _checked(path: Path, index: int, kernel: KERNEL, side: int) -> KERNEL:
    if kernel.shape != (side, side) or not np.isfinite(kernel).all() or abs(kernel.sum() - 1) > 1e-3:
        raise UserError(f"{path}: kernel {index} has the shape {kernel.shape} and the sum {kernel.sum():g}")
    return kernel
