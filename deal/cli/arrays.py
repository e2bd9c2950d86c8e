"""Arrays of numbers from .npy and HDF5 files: what is asked for, or one line that says what is there instead."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

REAL, COMPLEX = "biuf", "c"  # kinds of dtypes


def load(path: Path) -> NDArray:
    """The array of a .npy file.

    Raises:
        ValueError: another file, an .npz archive and pickled objects included.
        OSError: the file cannot be read.
    """
    with path.open("rb") as handle:
        try:
            return np.lib.format.read_array(handle, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: not a numpy array of numbers, as numpy.save writes it ({error})") from None


@contextlib.contextmanager
def hdf5(path: Path) -> Iterator:
    """The HDF5 file, open for reading.

    Raises:
        ValueError: not HDF5, or h5py stumbles on it within the block.
        OSError: the file cannot be read.
    """
    import h5py

    path.open("rb").close()  # tells what is missing, a folder or forbidden; is_hdf5 says no to all of them
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path}: not an HDF5 file")
    try:
        with h5py.File(path, "r") as handle:
            yield handle
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None


def dataset(path: Path, handle, key: str):
    """The data set `key` of the HDF5 file `path`, not yet read; ValueError if it is missing or something else."""
    import h5py

    if key not in handle:
        raise ValueError(f"{path}: the key {key} is missing; there are {', '.join(sorted(handle)) or 'none'}")
    found = handle[key]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{path}: {key} is a {type(found).__name__.lower()}, expected an array")
    return found


def numbers(where: str, found, dtype: DTypeLike, kinds: str, dimensions: tuple[int, ...], wanted: str, part=()):
    """[part] of an array or data set, converted to `dtype`; of a data set no more is read.

    Args:
        where: file and key, for messages.
        kinds: of its dtype: REAL, COMPLEX or both.
        dimensions: the numbers of axes that it may have.
        wanted: what it should be, for messages.

    Raises:
        ValueError: other than that, empty, or values that are not finite as `dtype`.
    """
    shape = found.shape or ()  # None for HDF5's null
    if found.dtype.kind not in kinds or len(shape) not in dimensions or 0 in shape:
        raise ValueError(f"{where}: found {found.dtype} {shape}, expected {wanted}{' and not empty' * (0 in shape)}")
    with np.errstate(over="ignore"):  # told below
        values = np.asarray(found[part]).astype(dtype, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: contains NaN, infinite or too large values, expected {wanted}")
    return values
