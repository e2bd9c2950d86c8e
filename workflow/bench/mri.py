"""The task `mri`: y = mask · (F S x + n), one sample an item; see `bench.mri_data` for what a sample holds."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench import mri_data
from bench.config import Mri
from bench.errors import UserError
from bench.items import Item, Source
from deal.operators import MRI


def measure(sample: mri_data.Sample, sampling: str, noise_std: float, seed: int) -> torch.Tensor:
    """The measurement of a sample, (1, C, H, W) complex64: the stored one, else simulated.

    Noise is drawn in float64 in the shape (2, C, H, W), real part first; only what the mask keeps of it counts.
    """
    if sampling in sample.measured:
        return torch.from_numpy(sample.measured[sampling])[None]
    maps = sample.sensitivities(sampling)
    coils = sample.x[None] if maps is None else maps * sample.x
    real, imaginary = np.random.RandomState(seed).normal(0.0, noise_std, (2, *coils.shape))
    y = (np.fft.fft2(coils, norm="ortho") + real + 1j * imaginary) * sample.masks[sampling]
    return torch.from_numpy(y.astype(np.complex64))[None]


def operator(mask: NDArray, maps: NDArray | None) -> MRI:
    """The forward operator of a mask (H, W) and sensitivities (C, H, W), None for one coil."""
    return MRI(torch.from_numpy(mask), None if maps is None else torch.from_numpy(maps))


class MriTask:
    """A task whose items are prepared samples, not images of a data set."""

    name = "mri"
    channels = 1

    def item(self, path: Path, section: Mri, setting: str) -> Item:
        """The item of a prepared file."""
        sampling = section.parameters(setting)["sampling"]
        return self.item_of(mri_data.read_sample(path, [sampling]), section, setting)

    def item_of(self, sample: mri_data.Sample, section: Mri, setting: str) -> Item:
        """The item of a sample in memory."""
        sampling = section.parameters(setting)["sampling"]
        y = measure(sample, sampling, section.noise_std, section.seed)
        A = operator(sample.masks[sampling], sample.sensitivities(sampling))
        return Item(sample.volume, torch.from_numpy(sample.x)[None, None], y, A, section.sigma(setting))

    def items(self, section: Mri, setting: str, cache: Path, subset: int | None = None) -> list[Source]:
        """The samples of the setting's contrast, by volume."""
        contrast = section.parameters(setting)["contrast"]
        found = mri_data.samples(Path(section.samples(cache)), contrast, section.split)[:subset]
        if not found:
            raise UserError(
                f"tasks.mri: there are no {section.split} images of {contrast}; tasks.mri.{section.split} is 0"
            )
        return [(volume, partial(self.item, path, section, setting)) for volume, path in found]

    def hashes(self, section: Mri, cache: Path) -> dict[str, str]:
        """Of the images of all contrasts."""
        found = {}
        for contrast in section.contrasts:
            for volume, path in mri_data.samples(Path(section.samples(cache)), contrast, section.split):
                found[hashlib.sha256(mri_data.read_sample(path, []).x.tobytes()).hexdigest()] = f"{contrast} {volume}"
        return found

    def data(self, section: Mri, cache: Path) -> dict[str, Any]:
        """The source's name, with what tells its volumes from the paper's, and the digest of all samples."""
        listing = mri_data.read_listing(Path(section.samples(cache)))
        others = " (not the paper's volumes)" if listing.get("strangers") else ""
        return {"dataset": section.data_name + others, "digest": listing["digest"]}
