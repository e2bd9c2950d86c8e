"""Prepared MRI samples: one HDF5 file an image, whatever it was made from; a strict reader of them.

    x                 (H, W) float32, real image ≥ 0 with maximum 1
    smaps             (C, H, W) complex64, coil sensitivities S_c with Σ|S_c|² = 1
    <sampling>/mask   (H, W) uint8, 1 where k-space is measured; zero frequency at [0, 0]
    <sampling>/y      (1 or C, H, W) complex64, measured k-space; absent where the measurement is simulated
    attributes        format, volume, contrast (pd | pdfs), split (validation | test), source

`<sampling>` is a name like `single4` or `multi8`: single coil (S = 1) or multi-coil, and the acceleration.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError
from bench.files import atomic
from bench.provenance import sha256

FORMAT = "deal-bench MRI sample 1"
CONTRASTS = ("pd", "pdfs")
SPLITS = ("validation", "test")
PEAK_TOLERANCE = 1e-3  # of the maximum 1


@dataclass(frozen=True)
class Sample:
    """One prepared image; arrays as in the module's docstring."""

    volume: str
    contrast: str
    split: str
    source: str
    x: NDArray[np.float32]
    smaps: NDArray[np.complex64]
    masks: Mapping[str, NDArray[np.uint8]]
    measured: Mapping[str, NDArray[np.complex64]] = field(default_factory=dict)

    def sensitivities(self, sampling: str) -> NDArray[np.complex64] | None:
        """The maps of a multi-coil sampling, None for a single coil."""
        return None if is_single(sampling) else self.smaps


def content(sample: Sample) -> str:
    """Sixteen hex digits of what a sample is, whatever made it and wherever it lies."""
    arrays = {"x": sample.x, "smaps": sample.smaps}
    arrays |= {f"{name}/mask": mask for name, mask in sample.masks.items()}
    arrays |= {f"{name}/y": y for name, y in sample.measured.items()}
    found = hashlib.sha256(f"{sample.volume} {sample.contrast} {sample.split} {sample.source}".encode())
    for key, values in sorted(arrays.items()):
        found.update(f" {key} {values.dtype} {values.shape} ".encode())
        found.update(np.ascontiguousarray(values))
    return found.hexdigest()[:16]


def is_single(sampling: str) -> bool:
    """Whether a sampling's name (`single4`, `multi8`) is that of a single coil."""
    return sampling.startswith("single")


def write_sample(path: Path, sample: Sample, **attributes: Any) -> None:
    """Write a sample atomically, after the checks of `read_sample`."""
    check(sample, str(path))
    with atomic(path) as partial, h5py.File(partial, "w") as handle:
        handle["x"], handle["smaps"] = sample.x, sample.smaps
        for name, mask in sample.masks.items():
            handle.create_dataset(f"{name}/mask", data=mask, compression="gzip")
        for name, y in sample.measured.items():
            handle[f"{name}/y"] = y
        about = {key: getattr(sample, key) for key in ("volume", "contrast", "split", "source")}
        handle.attrs.update({"format": FORMAT, **about, "content": content(sample), **attributes})


def read_sample(path: Path, samplings: Sequence[str] | None = None) -> Sample:
    """Read and check a sample.

    Args:
        samplings: the masks and measurements wanted; None: all that the file has.

    Raises:
        UserError: naming the file, the key and what is wrong with it.
    """
    with open_hdf5(path) as handle, reading(path):
        _text(handle, "format", (FORMAT,), path)
        about = {key: _text(handle, key, None, path) for key in ("volume", "source")}
        about["contrast"] = _text(handle, "contrast", CONTRASTS, path)
        about["split"] = _text(handle, "split", SPLITS, path)
        names = [name for name in handle if isinstance(handle[name], h5py.Group)] if samplings is None else samplings
        masks = {name: array(handle, f"{name}/mask", np.uint8, 2, path) for name in names}
        measured = {n: array(handle, f"{n}/y", np.complex64, 3, path) for n in names if f"{n}/y" in handle}
        x, smaps = array(handle, "x", np.float32, 2, path), array(handle, "smaps", np.complex64, 3, path)
    sample = Sample(x=x, smaps=smaps, masks=masks, measured=measured, **about)
    check(sample, str(path))
    return sample


def read_listing(output: Path) -> dict[str, Any]:
    """What `bench.mri_prepare.prepare` wrote: source, digest, and the samples with their files."""
    if not output.is_file():
        raise UserError(f"{output}: no such file; make it: snakemake mri_samples")
    try:
        listing = json.loads(output.read_text(encoding="utf-8"))
        listing["digest"], listing["samples"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{output}: not a list of samples; delete it and run snakemake mri_samples") from None
    return listing


def samples(output: Path, contrast: str, split: str) -> list[tuple[str, Path]]:
    """(volume, file) of the prepared samples, by volume; `output` is as for `read_listing`.

    Raises UserError for a file that is not the one which was listed, by its sha256.
    """
    listed = read_listing(output)["samples"]
    found = []
    for about in listed:
        if (about["contrast"], about["split"]) != (contrast, split):
            continue
        path = output.with_suffix("") / about["file"]
        if not path.is_file() or sha256(path) != about["sha256"]:
            raise UserError(f"{path}: is gone or not the file that {output} lists; snakemake --forcerun prepare_mri")
        found.append((about["volume"], path))
    return sorted(found)


def check(sample: Sample, where: str) -> None:
    """UserError unless the arrays are what the format says and fit each other; `where` names the file."""

    def demand(sound: bool, key: str, complaint: str) -> None:
        if not sound:
            raise UserError(f"{where}: {key} {complaint}")

    x, smaps, shape = sample.x, sample.smaps, sample.x.shape
    _demand_array(x, "x", np.float32, 2, where)
    demand(bool((x >= 0).all()), "x", "has negative values; it is the root of a sum of squares")
    peak = float(x.max())
    demand(abs(peak - 1) <= PEAK_TOLERANCE, "x", f"has the maximum {peak:g}, expected 1")
    _demand_array(smaps, "smaps", np.complex64, 3, where)
    demand(smaps.shape[1:] == shape, "smaps", f"are maps of {_size(smaps.shape[1:])}, but x has {_size(shape)}")
    demand(bool(smaps.any()), "smaps", "are all zero")
    for name, mask in sample.masks.items():
        key = f"{name}/mask"
        _demand_array(mask, key, np.uint8, 2, where)
        demand(mask.shape == shape, key, f"is a mask of {_size(mask.shape)}, but x has {_size(shape)}")
        demand(int(mask.max()) <= 1, key, "has values other than 0 and 1")
        demand(bool(mask.any()), key, "is all zero: nothing would be measured")
    for name, y in sample.measured.items():
        key, coils = f"{name}/y", 1 if is_single(name) else len(smaps)
        _demand_array(y, key, np.complex64, 3, where)
        demand(len(y) == coils, key, f"has {len(y)} coils, expected {coils}")
        demand(y.shape[1:] == shape, key, f"is k-space of {_size(y.shape[1:])}, but x has {_size(shape)}")
        demand(not y[:, sample.masks[name] == 0].any(), key, "has samples where its mask is 0")


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading; UserError for a file that is absent or no HDF5."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; make the samples again (snakemake mri_samples)")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file ({str(error).splitlines()[0]})") from None


def get(handle: h5py.File, key: str, path: Path) -> h5py.Dataset | h5py.Group | None:
    """What is at `key`, or None; UserError for what lies in other files, which no one has checked."""
    try:
        where = ""
        for part in key.split("/"):
            where = f"{where}/{part}"
            if isinstance(handle.get(where, getlink=True), h5py.ExternalLink):
                raise UserError(f"{path}: {key} is a link to another file: refused")
        found = handle.get(key)
        if isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
            raise UserError(f"{path}: {key} is stored in other files: refused")
    except (KeyError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{path}: {key} cannot be read ({_first_line(error)}); the file is damaged") from None
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what h5py stumbles on in a damaged file into a UserError that names it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise UserError(f"{path}: cannot be read ({_first_line(error)}); the file is damaged") from None


def array(handle: h5py.File, key: str, dtype: type, ndim: int, path: Path) -> NDArray[Any]:
    """The whole data set `key`, checked for dtype, dimensions and finite values."""
    found = get(handle, key, path)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{path}: the key {key} is missing; there are {', '.join(sorted(handle)) or 'none'}")
    _demand_layout(found.dtype, found.ndim, key, dtype, ndim, str(path))
    try:
        values = found[()]
    except OSError as error:
        raise UserError(f"{path}: {key} cannot be read ({error}); the file is damaged") from None
    _demand_array(values, key, dtype, ndim, str(path))
    return values


def _demand_layout(found: np.dtype, dimensions: int, key: str, dtype: type, ndim: int, where: str) -> None:
    if found != np.dtype(dtype):
        raise UserError(f"{where}: {key} has the dtype {found}, expected {np.dtype(dtype)}")
    if dimensions != ndim:
        raise UserError(f"{where}: {key} has {dimensions} dimensions, expected {ndim}")


def _demand_array(values: NDArray[Any], key: str, dtype: type, ndim: int, where: str) -> None:
    _demand_layout(values.dtype, values.ndim, key, dtype, ndim, where)
    if values.size == 0:
        raise UserError(f"{where}: {key} is empty")
    if not np.isfinite(values).all():
        raise UserError(f"{where}: {key} contains NaN or infinite values")


def _text(handle: h5py.File, key: str, allowed: tuple[str, ...] | None, path: Path) -> str:
    """The attribute `key`, one of `allowed`."""
    if key not in handle.attrs:
        raise UserError(f"{path}: the attribute {key} is missing")
    value = str(handle.attrs[key])
    if allowed is not None and value not in allowed:
        raise UserError(f"{path}: the attribute {key} is '{value}', expected {' or '.join(allowed)}")
    return value


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
