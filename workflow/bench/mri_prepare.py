"""From a source of MRI data to samples in the one format of `bench.mri_data`.

Sources: raw multi-coil files of fastMRI's knee set, a phantom that writes such files, and the record on Zenodo
that the paper's numbers were computed on. For raw files the steps are those by which that record was made:
middle slice, x = root of the sum of squares over the coils / maximum, random columns, sensitivities by ESPIRiT.
Two things differ from it, since the authors' random state and program (BART 0.8) are not part of the record:
masks are seeded with the volume's name, fastMRI's own convention for validation, and sigpy computes the maps.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bench import mri_zenodo, phantom
from bench.config import Config, Mri, digest
from bench.errors import UserError
from bench.files import write_json
from bench.mri_data import CONTRASTS, Sample, get, open_hdf5, reading, write_sample
from bench.provenance import Record, code_digest, sha256

ACQUISITIONS = {name: contrast for contrast, name in phantom.ACQUISITIONS.items()}
MODULES = ["bench.mri_prepare"]
LANDMARKS = {("pd", 0): "file1000182", ("pdfs", 35): "file1001191"}
"""(contrast, index among the test volumes) → volume of the authors' split, with ten validation volumes."""


def prepare(config: Config, output: Path) -> None:
    """Make all samples of the configuration, and `output`, the JSON that lists them.

    Samples lie in the folder named like `output` without its suffix. Those made by the same code from the same
    configuration are kept, so that an interrupted run goes on.
    """
    section = config.tasks.mri
    record = Record(MODULES, config.digest())
    folder, part = output.with_suffix(""), section.preparation()
    key = digest([part, record.code_digest])
    listed = []
    for split, contrast, volume, make in _sources(config, section, folder):
        path = folder / contrast / split / f"{volume}.h5"
        if not _is_made(path, key):
            write_sample(path, make(), key=key)
            print(f"{path}", flush=True)
        with h5py.File(path, "r") as handle:
            about = {"volume": volume, "contrast": contrast, "split": split, "content": handle.attrs["content"]}
        listed.append({**about, "file": str(path.relative_to(folder)), "sha256": sha256(path)})
    data = digest([{k: v for k, v in sample.items() if k not in ("file", "sha256")} for sample in listed])
    about = {"source": section.source, "digest": data, "preparation": part}
    if section.source == "fastmri":
        about["strangers"] = strangers([(s["split"], s["contrast"], Path(s["file"])) for s in listed], section)
        for line in about["strangers"]:
            print(f"warning: {line}", file=sys.stderr, flush=True)
    write_json(output, {**about, "samples": listed})


def _is_made(path: Path, key: str) -> bool:
    if not path.is_file():
        return False
    try:
        with h5py.File(path, "r") as handle:
            return handle.attrs.get("key") == key
    except OSError:
        return False


def _sources(config: Config, section: Mri, folder: Path) -> Iterator[tuple[str, str, str, Any]]:
    """(split, contrast, volume, function that makes the sample)."""
    if section.source == "zenodo":
        yield from mri_zenodo.sources(config)
        return
    if section.source == "phantom":
        p = section.phantom
        # beside the samples, and other files when the phantom's code changes
        raw, count = folder / f"raw-{code_digest(['bench.phantom'])}", section.validation + section.test
        phantom.write_volumes(raw, count, (p.slices, p.coils, p.height, p.width), p.seed)
        exclude: list[str] = []
    else:
        raw, exclude = Path(section.path or ""), section.exclude
        if section.path is None or not raw.is_dir():
            raise UserError(
                f"tasks.mri.path is {section.path or 'null'}, expected the folder of fastMRI's multicoil_val/*.h5 "
                "(https://fastmri.med.nyu.edu); or set tasks.mri.source to phantom"
            )
    chosen = select(raw, section, exclude)
    for split, contrast, path in chosen:

        def make(path: Path = path, split: str = split) -> Sample:
            return from_raw(path, split, section)

        yield split, contrast, path.stem, make


def select(folder: Path, section: Mri, exclude: list[str]) -> list[tuple[str, str, Path]]:
    """(split, contrast, file): of each contrast, by file name, the first volumes for validation, the next for test."""
    validation, test = section.validation, section.test
    found: dict[str, list[Path]] = {contrast: [] for contrast in CONTRASTS}
    for path in sorted(folder.glob("*.h5")):
        if path.stem not in exclude:
            found[acquisition(path)].append(path)
    for contrast in section.contrasts:
        paths = found[contrast]
        if len(paths) < validation + test:
            raise UserError(
                f"{folder}: has {len(paths)} volumes of {phantom.ACQUISITIONS[contrast]}, but tasks.mri asks for "
                f"validation: {validation} and test: {test}"
            )
    chosen = []
    for contrast in section.contrasts:
        paths = found[contrast]
        chosen += [("validation", contrast, path) for path in paths[:validation]]
        chosen += [("test", contrast, path) for path in paths[validation : validation + test]]
    return chosen


def strangers(chosen: list[tuple[str, str, Path]], section: Mri) -> list[str]:
    """A line for each volume of the authors' split that is known and is another one here."""
    if section.validation != 10:
        return []
    lines = []
    for (contrast, index), known in LANDMARKS.items():
        volumes = [path.stem for split, of, path in chosen if (split, of) == ("test", contrast)]
        if index < len(volumes) and volumes[index] != known:
            lines.append(
                f"test volume {index} of {contrast} is {volumes[index]}, in the paper {known}: not the paper's split; "
                "is the folder fastMRI's whole multicoil_val?"
            )
    return lines


def acquisition(path: Path) -> str:
    """The contrast of a raw file, by its attribute `acquisition`."""
    with open_hdf5(path) as handle, reading(path):
        name = handle.attrs.get("acquisition")
    if not isinstance(name, str) or name not in ACQUISITIONS:
        raise UserError(f"{path}: the attribute acquisition is {name!r}, expected {' or '.join(ACQUISITIONS)}")
    return ACQUISITIONS[name]


def middle_slice(path: Path) -> NDArray[np.complex64]:
    """K-space of slice n//2 of a raw file, (C, H, W), zero frequency in the centre."""
    with open_hdf5(path) as handle, reading(path):
        full = get(handle, "kspace", path)
        if not isinstance(full, h5py.Dataset):
            raise UserError(f"{path}: the key kspace is missing; there are {', '.join(sorted(handle)) or 'none'}")
        if full.dtype != np.complex64:
            raise UserError(f"{path}: kspace has the dtype {full.dtype}, expected complex64")
        if full.ndim != 4:
            raise UserError(f"{path}: kspace has {full.ndim} dimensions, expected (slices, coils, height, width)")
        try:
            kspace = full[full.shape[0] // 2]
        except OSError as error:
            raise UserError(f"{path}: kspace cannot be read ({error}); the file is damaged") from None
        if "reconstruction_rss" in handle and handle["reconstruction_rss"].shape[0] != full.shape[0]:
            slices = handle["reconstruction_rss"].shape[0]
            raise UserError(f"{path}: kspace has {full.shape[0]} slices, reconstruction_rss has {slices}")
    if not np.isfinite(kspace).all():
        raise UserError(f"{path}: kspace contains NaN or infinite values in the middle slice")
    if not kspace.any():
        raise UserError(f"{path}: kspace is all zero in the middle slice")
    return kspace


def from_raw(path: Path, split: str, section: Mri) -> Sample:
    """The sample of a raw file."""
    kspace = middle_slice(path)
    rss = np.sqrt((np.abs(phantom.centred_ifft(kspace)) ** 2).sum(0))
    x = (rss / rss.max()).astype(np.float32)
    masks = {
        name: sampling_mask(x.shape, s.acceleration, s.center_fraction, path.stem)
        for name, s in section.samplings.items()
    }
    maps = espirit(kspace, section.calibration_width)
    return Sample(path.stem, acquisition(path), split, section.source, x, maps, masks)


def sampling_mask(
    shape: tuple[int, int], acceleration: float, center_fraction: float, volume: str
) -> NDArray[np.uint8]:
    """fastMRI's random columns with a full centre, (H, W), zero frequency at [0, 0]; the seed is the name."""
    from fastmri.data.subsample import RandomMaskFunc

    draw = RandomMaskFunc([center_fraction], [acceleration])
    columns = draw((*shape, 1), seed=tuple(map(ord, volume)))[0].numpy().reshape(-1)
    return np.ascontiguousarray(np.broadcast_to(np.fft.ifftshift(columns), shape).astype(np.uint8))


def espirit(kspace: NDArray[np.complex64], calibration_width: int) -> NDArray[np.complex64]:
    """Sensitivities (C, H, W) with Σ|S_c|² = 1 everywhere, from the central k-space of (C, H, W)."""
    from sigpy.mri.app import EspiritCalib

    width = min(calibration_width, *kspace.shape[1:])
    maps = EspiritCalib(kspace, calib_width=width, crop=0, show_pbar=False).run()
    return np.ascontiguousarray(maps, dtype=np.complex64)
