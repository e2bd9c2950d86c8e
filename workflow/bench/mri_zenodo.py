"""The record 8302121 on Zenodo: the preprocessed fastMRI data behind the MRI numbers of CRR, WCRR, SAFI and DEAL.

    <…>/{singlecoil|multicoil}_acc_{R}_cf_{cf}_noisesd_{σ}/{pd|pdfs}/{val_images|test_images}/file{number}/
        x.pt (1, 1, H, W), mask.pt (1, 1, H, W), y.pt (1, C, H, W) complex, smaps.pt (1, C, H, W) complex

Its listing is a file of the data registry; which archives it has, with size and md5, is read from there.
"""

import hashlib
import io
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from bench import datasets
from bench.config import Config, Mri
from bench.errors import UserError
from bench.fetch import File, download
from bench.mri_data import SPLITS, Sample, is_single

RECORD = "mri_zenodo"  # in the data registry
FILES = "https://zenodo.org/records/8302121/files/"
SPLIT_FOLDERS = dict(zip(("val_images", "test_images"), SPLITS, strict=True))
MEMBER = re.compile(r"(?:^|/)([a-z]+coil_acc_[^/]+)/(pd|pdfs)/(val_images|test_images)/(file\d+)/(\w+)\.pt$")
Reader = Callable[[], bytes]
Tensors = dict[str, Reader]  # x, y, mask, smaps


def sources(config: Config) -> Iterator[tuple[str, str, str, Callable[[], Sample]]]:
    """(split, contrast, volume, function that makes the sample) of all images that the configuration asks for."""
    section = config.tasks.mri
    places, where = _members(config)
    tree: dict[tuple[str, str, str, str], Tensors] = defaultdict(dict)
    for name, read in places.items():
        if match := MEMBER.search(name):
            folder, contrast, split, volume, key = match.groups()
            tree[folder, contrast, SPLIT_FOLDERS[split], volume][key] = read
    folders = {name: _folder(section, name) for name in section.samplings}
    for name, folder in folders.items():
        if not any(key[0] == folder for key in tree):
            there = ", ".join(sorted({key[0] for key in tree})) or "no such folder"
            raise UserError(f"{where}: has nothing for the sampling {name} ({folder}); there is {there}")
    for contrast in section.contrasts:
        for split, count in zip(SPLITS, (section.validation, section.test), strict=True):
            volumes = [
                {volume for f, c, s, volume in tree if (f, c, s) == (folder, contrast, split)}
                for folder in folders.values()
            ]
            shared = sorted(set.intersection(*volumes))
            if len(shared) < count:
                raise UserError(f"{where}: has {len(shared)} {split} images of {contrast}, tasks.mri asks for {count}")
            for volume in shared[:count]:
                parts = {name: tree[folder, contrast, split, volume] for name, folder in folders.items()}

                def make(volume=volume, contrast=contrast, split=split, parts=parts) -> Sample:
                    return _sample(volume, contrast, split, parts, where)

                yield split, contrast, volume, make


def archives(config: Config) -> list[Path]:
    """The record's archives in the cache, downloaded and checked; an interrupted download goes on."""
    cache, mirror = Path(config.cache), config.mirror_in_use()
    try:
        (listing,) = datasets.fetch(RECORD, cache, mirror, progress=False)
    except UserError as error:
        others = "tasks.mri.path to the unpacked record, or tasks.mri.source to fastmri (raw files) or phantom"
        raise UserError(f"{error}. Or set {others}") from None
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))["files"]
        files = [File(name=e["key"], url=FILES + e["key"], bytes=e["size"]) for e in entries]
        md5 = [e["checksum"].removeprefix("md5:") for e in entries]
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise UserError(f"{listing}: not the listing of a Zenodo record ({type(error).__name__}: {error})") from None
    paths = download(files, cache, mirror, jobs=2)
    for path, expected in zip(paths, md5, strict=True):
        with path.open("rb") as handle:
            found = hashlib.file_digest(handle, "md5").hexdigest()
        if found != expected:
            raise UserError(f"{path}: its md5 is {found}, Zenodo says {expected}. Delete it and its .sha256 and go on")
    return paths


def _members(config: Config) -> tuple[dict[str, Reader], str]:
    """Name → a way to read it, of the unpacked folder `path` or of the downloaded archives; and their place."""
    section = config.tasks.mri
    if section.path is not None:
        root = Path(section.path)
        if not root.is_dir():
            raise UserError(f"tasks.mri.path is {section.path}, which is no folder")
        return {f"/{p.relative_to(root).as_posix()}": p.read_bytes for p in root.rglob("*.pt")}, str(root)
    found: dict[str, Reader] = {}
    paths = archives(config)
    for path in paths:
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path}: no zip archive; unpack it and set tasks.mri.path to the folder")
        for name in zipfile.ZipFile(path).namelist():
            found[name] = lambda path=path, name=name: zipfile.ZipFile(path).read(name)
    return found, ", ".join(map(str, paths))


def _folder(section: Mri, sampling: str) -> str:
    kind, s = "single" if is_single(sampling) else "multi", section.samplings[sampling]
    return f"{kind}coil_acc_{s.acceleration:g}_cf_{s.center_fraction:g}_noisesd_{section.noise_std:g}"


def _sample(volume: str, contrast: str, split: str, parts: dict[str, Tensors], where: str) -> Sample:
    place = f"{where}: {contrast}/{split}/{volume}"
    xs, masks, measured, smaps = {}, {}, {}, None
    for name, tensors in parts.items():
        xs[name] = _tensor(tensors, "x", np.float32, place)[0]
        masks[name] = (_tensor(tensors, "mask", np.float32, place)[0] != 0).astype(np.uint8)
        masks[name] = np.ascontiguousarray(np.broadcast_to(masks[name], xs[name].shape))
        measured[name] = _tensor(tensors, "y", np.complex64, place)
        if not is_single(name):
            smaps = _tensor(tensors, "smaps", np.complex64, place)
    first = next(iter(xs))
    for name, x in xs.items():
        if x.shape != xs[first].shape or np.abs(x - xs[first]).max() > 1e-5:
            raise UserError(f"{place}: x.pt of {name} is another image than that of {first}")
    if smaps is None:
        smaps = np.ones((1, *xs[first].shape), np.complex64)
    return Sample(volume, contrast, split, "zenodo", np.maximum(xs[first], 0), smaps, masks, measured)


def _tensor(tensors: Tensors, key: str, dtype: type, place: str) -> np.ndarray:
    """A tensor without its first dimension, as a numpy array (C, H, W)."""
    if key not in tensors:
        raise UserError(f"{place}: {key}.pt is missing")
    try:
        value = torch.load(io.BytesIO(tensors[key]()), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{place}: {key}.pt cannot be read ({type(error).__name__}: {reason})") from None
    if not isinstance(value, torch.Tensor) or value.ndim != 4 or value.shape[0] != 1:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise UserError(f"{place}: {key}.pt is {shape}, expected a tensor (1, C, H, W)")
    if issubclass(dtype, np.complexfloating) != value.is_complex():
        kind = "complex" if issubclass(dtype, np.complexfloating) else "real"
        raise UserError(f"{place}: {key}.pt has the dtype {value.dtype}, expected {kind} numbers")
    return value[0].numpy().astype(dtype)
