"""K-space from HDF5 files: fastMRI's, this project's samples, the user's own; sensitivities where there are none.

    kspace            (slices, C, H, W), (slices, H, W) of one coil in fastMRI's single-coil files, (C, H, W) or (H, W)
    mask              (W,) or (H, W), 1 where k-space is measured; without it what is zero is not measured
    smaps             (C, H, W) or (slices, C, H, W), complex coil sensitivities; may be missing

with the zero frequency in the centre. Samples of `python -m bench prepare_mri` have it at [0, 0], as `deal.MRI` has,
and hold `x`, `smaps` and for each sampling `mask` and perhaps `y`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLE_FORMAT = "deal-bench MRI sample 1"
_AXES = (-2, -1)
_CALIBRATION, _FEWEST = 32, 4  # rows and columns of the centre that are used at most and at least


@dataclass
class Measurement:
    """y = mask · F(S x) as `deal.MRI` takes it: zero frequency at [0, 0], x not shifted.

    Attributes:
        y: (C, H, W) complex64, scaled so that x has a maximum of about 1; None where it is to be simulated.
        mask: (H, W) float32.
        smaps: (C, H, W) complex64, or None for one coil with S = 1.
        scale: x · scale is in the units of the file.
        truth: (H, W) float32 where the file holds it, else None.
        side: of the central square that fastMRI's reconstructions keep, or None.
        notes: lines to tell the user.
    """

    y: NDArray[np.complex64] | None
    mask: NDArray[np.float32]
    smaps: NDArray[np.complex64] | None
    scale: float = 1.0
    truth: NDArray[np.float32] | None = None
    side: int | None = None
    notes: list[str] = field(default_factory=list)


def read(path: Path, slice_: int | None, sampling: str | None, mask: Path | None, maps: Path | None) -> Measurement:
    """The measurement in an HDF5 file, of whichever layout.

    Args:
        slice_: of a volume; None takes the middle one.
        sampling: name of one of the samplings of a sample, like multi8; None: the only one.
        mask, maps: .npy files instead of what the file has.

    Raises:
        ValueError: no HDF5, no k-space in it, or shapes that do not fit each other.
    """
    import h5py

    if not path.is_file():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path}: not an HDF5 file")
    try:
        with h5py.File(path, "r") as handle:
            if handle.attrs.get("format") == SAMPLE_FORMAT:
                if slice_ is not None or mask or maps:
                    raise ValueError(f"{path}: a prepared sample; --slice, --mask and --maps are for raw k-space")
                return _sample(path, handle, sampling)
            if sampling is not None:
                raise ValueError(f"{path}: raw k-space, which has no samplings; leave --sampling out")
            return _raw(path, handle, slice_, mask, maps)
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None


def _sample(path: Path, handle, sampling: str | None) -> Measurement:
    names = sorted(name for name in handle if f"{name}/mask" in handle)
    if sampling is None and len(names) != 1:
        raise ValueError(f"{path}: has the samplings {', '.join(names) or '(none)'}; choose one by --sampling")
    name = sampling or names[0]
    if name not in names:
        raise ValueError(f"{path}: has no sampling {name}; there is {', '.join(names) or 'none'}")
    x, mask = np.asarray(handle["x"][()], np.float32), np.asarray(handle[f"{name}/mask"][()], np.float32)
    smaps = None if name.startswith("single") else np.asarray(handle["smaps"][()], np.complex64)
    y = np.asarray(handle[f"{name}/y"][()], np.complex64) if f"{name}/y" in handle else None
    for what, found in (("mask", mask), ("smaps", smaps), ("y", y)):
        if found is not None and (found.shape[-2:] != x.shape or not np.isfinite(found).all()):
            raise ValueError(f"{path}: {what} is {found.shape}, or not finite; x is {x.shape}")
    return Measurement(y, mask, smaps, truth=x)


def _raw(path: Path, handle, slice_: int | None, mask_file: Path | None, maps_file: Path | None) -> Measurement:
    if "kspace" not in handle:
        raise ValueError(f"{path}: the key kspace is missing; there are {', '.join(sorted(handle)) or 'none'}")
    data = handle["kspace"]
    if not hasattr(data, "dtype"):
        raise ValueError(f"{path}: kspace is a group, expected an array")
    if data.dtype.kind != "c" or not 2 <= data.ndim <= 4:
        raise ValueError(f"{path}: kspace is {data.dtype} {data.shape}; expected complex numbers (slices, coils, H, W)")
    volume = data.ndim == 4 or (data.ndim == 3 and _is_single(path, handle))
    number = _number(path, data.shape[0] if volume else None, slice_)
    kspace = np.asarray(data[number] if volume else data[()], np.complex64)
    kspace = kspace[None] if kspace.ndim == 2 else kspace
    if not np.isfinite(kspace).all() or not kspace.any():
        raise ValueError(f"{path}: kspace contains NaN or infinite values, or is all zero")
    shape = kspace.shape[-2:]
    notes = []
    given = _array(mask_file) if mask_file else handle["mask"][()] if "mask" in handle else None
    mask = _mask(mask_file or path, given, kspace, notes)
    kspace = kspace * mask
    if not kspace.any():
        raise ValueError(f"{path}: kspace is zero where the mask is 1; is its zero frequency in the centre?")
    given = _array(maps_file) if maps_file else handle["smaps"][()] if "smaps" in handle else None
    if given is not None:
        if given.ndim == 4 and len(given) <= (number or 0):
            raise ValueError(f"{maps_file or path}: sensitivities of {len(given)} slices, slice {number} is wanted")
        smaps = np.asarray(given[number] if given.ndim == 4 else given, np.complex64)
        if smaps.shape != kspace.shape or not np.isfinite(smaps).all() or not smaps.any():
            raise ValueError(f"{maps_file or path}: sensitivities are {smaps.shape}, kspace is {kspace.shape}")
    else:
        smaps = low_resolution_maps(kspace, mask)
        notes.append(f"{path}: sensitivities estimated from the centre of k-space; --maps takes better ones (ESPIRiT)")
    coils = centred_ifft(kspace)
    scale = float(np.abs((smaps.conj() * coils).sum(0)).max())
    rss = handle.get("reconstruction_rss", handle.get("reconstruction_esc"))
    side = min(rss.shape[-1], *shape) if rss is not None and rss.ndim == 3 else None
    # fft2 of the centred image: the same samples times (−1)^k, so that x need not be shifted
    y = np.fft.fft2(coils, norm="ortho") / scale
    return Measurement(y.astype(np.complex64), np.fft.ifftshift(mask), smaps, scale, None, side, notes)


def low_resolution_maps(kspace: NDArray[np.complex64], mask: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Sensitivities (C, H, W) with Σ|S_c|² = 1: images of the centre, each divided by their root sum of squares.

    The centre is cut out by a Hann window (Pruessmann et al., 1999; McKenzie et al., 2002). For one coil this is the
    phase of the image, which x, being real, does not have.

    Raises:
        ValueError: fewer than 4 rows or columns around the zero frequency are measured.
    """
    sides = [min(_centre(line > 0), _CALIBRATION) for line in (mask[:, mask.shape[1] // 2], mask[mask.shape[0] // 2])]
    while min(sides) >= _FEWEST and not mask[_central(mask.shape, sides)].all():
        sides = [side - 1 for side in sides]
    if min(sides) < _FEWEST:
        raise ValueError("the centre of k-space is not fully measured, so that sensitivities are needed: --maps")
    window = np.zeros(mask.shape)
    window[_central(mask.shape, sides)] = np.outer(*(np.hanning(side + 2)[1:-1] for side in sides))
    images = centred_ifft(kspace * window)
    return (images / np.maximum(np.sqrt((np.abs(images) ** 2).sum(0)), 1e-12 * np.abs(images).max())).astype(
        np.complex64
    )


def centred_ifft(k: NDArray) -> NDArray:
    """Orthonormal inverse 2-D FFT of (…, H, W) with the origin of both domains in the centre."""
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, _AXES), norm="ortho"), _AXES)


def _centre(full: NDArray[np.bool_]) -> int:
    """Number of true values in a row around the middle one, as far as both sides go."""
    middle, reach = len(full) // 2, 0
    while reach <= min(middle, len(full) - 1 - middle) and full[middle - reach] and full[middle + reach]:
        reach += 1
    return max(0, 2 * reach - 1)


def _central(shape: tuple[int, ...], sides: list[int]) -> tuple[slice, ...]:
    begins = [extent // 2 - side // 2 for extent, side in zip(shape, sides, strict=True)]
    return tuple(slice(begin, begin + side) for begin, side in zip(begins, sides, strict=True))


def _mask(where: Path, given, kspace: NDArray, notes: list[str]) -> NDArray[np.float32]:
    shape = kspace.shape[-2:]
    if given is None:
        measured = (np.abs(kspace).max(axis=0) > 0).astype(np.float32)
        share = float(measured.mean())
        notes.append(f"{where}: no mask; measured is what is not zero, {100 * share:.0f} % of k-space")
        return measured
    mask = np.squeeze(np.asarray(given)).astype(np.float32)
    if mask.shape not in ((shape[1],), shape) or not np.isin(mask, (0, 1)).all() or not mask.any():
        raise ValueError(f"{where}: the mask is {mask.shape}; expected {shape} or {(shape[1],)}, 0 and 1, not all 0")
    return np.ascontiguousarray(np.broadcast_to(mask, shape))


def _is_single(path: Path, handle) -> bool:
    """Whether (n, H, W) are slices of one coil, as fastMRI's single-coil files say, and not n coils."""
    return "singlecoil" in str(path) or "reconstruction_esc" in handle


def _number(path: Path, slices: int | None, wanted: int | None) -> int:
    if slices is None:
        if wanted is not None:
            raise ValueError(f"{path}: holds one slice; leave --slice out")
        return 0
    if wanted is None:
        return slices // 2
    if not 0 <= wanted < slices:
        raise ValueError(f"{path}: has {slices} slices, numbered from 0; there is no number {wanted}")
    return wanted


def _array(path: Path) -> NDArray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a numpy array of numbers ({error})") from None
