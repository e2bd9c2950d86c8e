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

from deal.cli import arrays

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
    given = {key: (str(file), arrays.load(file)) for key, file in (("mask", mask), ("smaps", maps)) if file}
    with arrays.hdf5(path) as handle:
        if str(handle.attrs.get("format")) == SAMPLE_FORMAT:
            if slice_ is not None or given:
                raise ValueError(f"{path}: a prepared sample; --slice, --mask and --maps are for raw k-space")
            return _sample(path, handle, sampling)
        if sampling is not None:
            raise ValueError(f"{path}: raw k-space, which has no samplings; leave --sampling out")
        for key in ("mask", "smaps"):
            if key in handle and key not in given:
                given[key] = f"{path}: {key}", arrays.dataset(path, handle, key)
        return _raw(path, handle, slice_, given)


def _sample(path: Path, handle, sampling: str | None) -> Measurement:
    names = sorted(name for name in handle if f"{name}/mask" in handle)
    if sampling is None and len(names) != 1:
        raise ValueError(f"{path}: has the samplings {', '.join(names) or '(none)'}; choose one by --sampling")
    name = sampling or names[0]
    if name not in names:
        raise ValueError(f"{path}: has no sampling {name}; there is {', '.join(names) or 'none'}")

    def at(key: str) -> tuple:
        return f"{path}: {key}", arrays.dataset(path, handle, key)

    x = arrays.numbers(*at("x"), np.float32, arrays.REAL, (2,), "real numbers (H, W)")
    mask = _mask(*at(f"{name}/mask"), x.shape)
    smaps = None if name.startswith("single") else _maps(*at("smaps"), x.shape)
    y, coils = None, 1 if smaps is None else len(smaps)
    if f"{name}/y" in handle:
        where, found = at(f"{name}/y")
        y = arrays.numbers(where, found, np.complex64, arrays.COMPLEX, (3,), "complex numbers (coils, H, W)")
        if y.shape != (coils, *x.shape):
            raise ValueError(f"{where}: found {y.shape}, expected {(coils, *x.shape)}")
    return Measurement(y, mask, smaps, truth=x)


def _raw(path: Path, handle, slice_: int | None, given: dict[str, tuple]) -> Measurement:
    """`given` has mask and smaps, each as (where it is from, array or data set), as far as there are any."""
    data = arrays.dataset(path, handle, "kspace")
    volume = data.ndim == 4 or (data.ndim == 3 and _is_single(path, handle))
    number = _number(path, data.shape[0] if volume else None, slice_)
    wanted, part = "complex numbers (slices, coils, H, W)", number if volume else ()
    kspace = arrays.numbers(f"{path}: kspace", data, np.complex64, arrays.COMPLEX, (2, 3, 4), wanted, part)
    kspace = kspace[None] if kspace.ndim == 2 else kspace
    if not kspace.any():
        raise ValueError(f"{path}: kspace is all zero")
    shape = kspace.shape[-2:]
    notes = []
    if "mask" in given:
        mask = _mask(*given["mask"], shape)
        kspace = kspace * mask
    else:
        mask = (np.abs(kspace).max(axis=0) > 0).astype(np.float32)
        share = 100 * float(mask.mean())
        notes.append(f"{path}: no mask; measured is what is not zero, {share:.0f} % of k-space")
    if not kspace.any():
        raise ValueError(f"{path}: kspace is zero where the mask is 1; is its zero frequency in the centre?")
    if "smaps" in given:
        smaps = _maps(*given["smaps"], shape, len(kspace), number)
    else:
        smaps = low_resolution_maps(kspace, mask)
        notes.append(f"{path}: sensitivities estimated from the centre of k-space; --maps takes better ones (ESPIRiT)")
    coils = centred_ifft(kspace)
    scale = float(np.abs((smaps.conj() * coils).sum(0)).max())
    if not 1e-6 * float(np.abs(coils).max()) * float(np.abs(smaps).max()) < scale < np.inf:
        raise ValueError(f"{path}: the image has the maximum {scale:.1e}; are the sensitivities those of this kspace?")
    key = next((key for key in ("reconstruction_rss", "reconstruction_esc") if key in handle), None)
    rss = arrays.dataset(path, handle, key) if key else None
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


def _mask(where: str, found, shape: tuple[int, int]) -> NDArray[np.float32]:
    wanted = f"a mask {shape} or {(shape[1],)} of 0 and 1, not all 0"
    mask = np.squeeze(arrays.numbers(where, found, np.float32, arrays.REAL, tuple(range(1, 6)), wanted))
    if mask.shape not in ((shape[1],), shape) or not np.isin(mask, (0, 1)).all() or not mask.any():
        values = f"{mask.shape} with values from {mask.min():g} to {mask.max():g}"
        raise ValueError(f"{where}: found {values}, expected {wanted}")
    return np.broadcast_to(mask, shape).copy()


def _maps(where: str, found, shape: tuple[int, int], coils: int | None = None, number: int | None = None) -> NDArray:
    """Sensitivities (C, H, W), complex64; `number` is the slice's where there may be those of several."""
    several = number is not None and found.ndim == 4
    if several and len(found) <= number:
        raise ValueError(f"{where}: sensitivities of {len(found)} slices, slice {number} is wanted")
    wanted, part = f"complex sensitivities ({coils or 'coils'}, {shape[0]}, {shape[1]})", number if several else ()
    smaps = arrays.numbers(where, found, np.complex64, arrays.REAL + arrays.COMPLEX, (3 + several,), wanted, part)
    if smaps.shape != (coils or len(smaps), *shape) or not smaps.any():
        what = "numbers" if smaps.any() else "zeros"
        raise ValueError(f"{where}: found {what} {smaps.shape}, expected {wanted}")
    return smaps


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
