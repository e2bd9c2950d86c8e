"""Blur kernels from files: PNG, numpy, MATLAB; or a Gaussian by its standard deviation."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deal.cli import arrays
from deal.cli.files import read as read_image

HELP = (
    "file of the blur kernel: .npy, .png (gray values are weights) or .mat; of a MATLAB file that holds several, "
    "number N as FILE:N, from 0; or gaussian:S with the standard deviation S in pixels"
)
KERNEL = NDArray[np.float64]
_UNIT = 1e-3  # how far the sum of a kernel may be from 1 without being mentioned


def read(text: str) -> tuple[KERNEL, list[str]]:
    """A kernel (h, w) with the sum 1, and notes for the user.

    Raises:
        ValueError: the file holds no kernel, or one whose sum is not positive.
    """
    if text.startswith("gaussian:"):
        return gaussian(_number(text)), []
    path, number = _split(text)
    suffix = path.suffix.lower()
    if suffix == ".mat":
        kernel = _mat(path, number)
    elif number is not None:
        raise ValueError(f"{text}: only a .mat file holds several kernels")
    else:
        kernel = arrays.load(path) if suffix == ".npy" else _gray(path)
    kernel = arrays.numbers(text, kernel, np.float64, arrays.REAL, (2,), "a blur kernel, a finite matrix")
    total = float(kernel.sum())
    if not total > 0:
        raise ValueError(f"{text}: the kernel's sum is {total:g}, so that it cannot be scaled to 1")
    notes = [] if (suffix != ".npy" and suffix != ".mat") or abs(total - 1) <= _UNIT else [_scaled(text, total)]
    return kernel / total, notes


def gaussian(sigma: float) -> KERNEL:
    """An isotropic Gaussian, cut off at four standard deviations, of odd side."""
    reach = max(1, int(np.ceil(4 * sigma)))
    offsets = np.arange(-reach, reach + 1)
    line = np.exp(-(offsets**2) / (2 * sigma**2))
    return np.outer(line, line) / line.sum() ** 2


def _scaled(text: str, total: float) -> str:
    return f"{text}: the kernel's sum was {total:g}; it is scaled to 1"


def _number(text: str) -> float:
    try:
        sigma = float(text.partition(":")[2])
    except ValueError:
        sigma = float("nan")
    if not 0.1 <= sigma <= 50:
        raise ValueError(f"{text}: give the standard deviation in pixels, 0.1 to 50, as in gaussian:1.6")
    return sigma


def _split(text: str) -> tuple[Path, int | None]:
    name, colon, number = text.rpartition(":")
    return (Path(name), int(number)) if colon and number.isdecimal() else (Path(text), None)


def _gray(path: Path) -> KERNEL:
    picture = read_image(path)
    pixels = picture.pixels.astype(np.float64)
    if np.ptp(pixels, axis=0).max() > 0:
        raise ValueError(f"{path}: the picture of a kernel is gray, this is colour")
    return pixels[0]


def _mat(path: Path, number: int | None) -> NDArray:
    """Matrices of a MATLAB file, also within cell arrays; version 7.3 by h5py, older ones by scipy."""
    import h5py

    path.open("rb").close()  # tells what is missing or a folder
    found = _mat_hdf5(path) if h5py.is_hdf5(path) else _mat_5(path)
    found = [k for k in found if k.ndim == 2 and min(k.shape) > 1]
    if not found:
        raise ValueError(f"{path}: holds no matrix")
    if number is None and len(found) > 1:
        raise ValueError(f"{path}: holds {len(found)} kernels; say which one, as in {path}:0")
    if (number or 0) >= len(found):
        raise ValueError(f"{path}: has {len(found)} kernels, numbered from 0; there is no number {number}")
    return found[number or 0]


def _mat_hdf5(path: Path) -> list[NDArray]:
    import h5py

    found = []
    with arrays.hdf5(path) as handle:
        for name in handle:
            item = handle[name]
            if not isinstance(item, h5py.Dataset):
                continue
            is_cell_array = item.dtype == h5py.ref_dtype
            cells = [handle[reference] for reference in item[()].ravel() if reference] if is_cell_array else [item]
            cells = [c for c in cells if isinstance(c, h5py.Dataset) and np.issubdtype(c.dtype, np.number)]
            found += [np.asarray(c[()]).T for c in cells]  # HDF5 holds MATLAB's columns as rows
    return found


def _mat_5(path: Path) -> list[NDArray]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ValueError(f"{path}: MATLAB files before version 7.3 need scipy; install it, or save as .npy") from None
    try:
        content = loadmat(path)
    except Exception as error:  # a damaged file can fail in any way
        raise ValueError(
            f"{path}: not a MATLAB file ({str(error).splitlines()[0] if str(error) else error!r})"
        ) from None
    found = []
    for name, value in content.items():
        if not name.startswith("_"):
            cells = value.ravel(order="F") if value.dtype == object else [value]
            found += [np.asarray(c) for c in cells if np.issubdtype(np.asarray(c).dtype, np.number)]
    return found
