"""What a task is made of: items, each an image that is looked for and what was measured of it.

Shapes: x and y are torch tensors (1, C, H, W), x float32 in [0, 1]; y is complex for MRI. σ is the noise's standard
deviation in the units of y.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bench import datasets
from bench.config import TaskSection
from bench.errors import UserError

IMAGE = NDArray[np.float32]
MIN_SIDE = 7  # of SSIM's window


@dataclass(frozen=True)
class Item:
    """One reconstruction: what is looked for (x), what is given (y, operator, sigma). `image` is its row's name."""

    image: str
    x: torch.Tensor
    y: torch.Tensor
    operator: Any
    sigma: float
    alike: Hashable = None
    """Items of one size with the same value share their operator; None: they do not."""


Source = tuple[str, Callable[[], Item]]
"""An item's name, and what makes it: items are made one by one, and only if they are needed."""


class Task(Protocol):
    """A family of items. How estimates are scored is said by `bench.conventions.CONVENTIONS[name]`."""

    name: str
    channels: int

    def items(self, section: TaskSection, setting: str, cache: Path, subset: int | None = None) -> list[Source]:
        """The items of one setting, of the first `subset` images (None: all), in the order of the table's rows."""

    def data(self, section: TaskSection, cache: Path) -> dict[str, Any]:
        """Identity of the data, for digests and sidecars: at least `dataset` (its name) and `digest`."""

    def hashes(self, section: TaskSection, cache: Path) -> dict[str, str]:
        """sha256 of each image's content → its name, to tell whether two sets share one."""


class ImageTask(ABC):
    """A task on the images of a data set of the registry; subclasses say what is measured of an image."""

    name: str
    channels: int

    def variants(self, section: Any, setting: str, cache: Path) -> list[tuple[str, tuple]]:
        """(suffix of the item's name, further arguments of `item`), one for each item that an image gives."""
        return [("", ())]

    @abstractmethod
    def item(self, image: str, x: IMAGE, section: Any, setting: str) -> Item:
        """The item called `image` of an image x, (C, H, W); raises UserError for one that does not fit."""

    def items(self, section: TaskSection, setting: str, cache: Path, subset: int | None = None) -> list[Source]:
        """See `Task.items`."""
        variants = self.variants(section, setting, cache)
        return [
            (name + suffix, partial(self.item, name + suffix, x, section, setting, *more))
            for name, x in datasets.load(section.dataset, cache, subset)
            for suffix, more in variants
        ]

    def hashes(self, section: Any, cache: Path) -> dict[str, str]:
        """See `Task.hashes`."""
        return datasets.image_hashes(section.dataset, cache)

    def data(self, section: TaskSection, cache: Path) -> dict[str, Any]:
        """See `Task.data`; data sets beside the images are listed under `also`."""
        first, *others = [datasets.get(name) for name in section.datasets()]
        also = {other.name: other.digest for other in others}
        return {"dataset": first.name, "digest": first.digest} | ({"also": also} if also else {})


def checked(name: str, image: IMAGE, channels: int) -> IMAGE:
    """`image` if it is (channels, H, W) and finite; else a UserError that names it."""
    if image.ndim != 3 or image.shape[0] != channels:
        found = f"{image.shape[0]} channels" if image.ndim == 3 else f"the shape {image.shape}"
        raise UserError(f"image {name}: has {found}, this task takes {channels}")
    if not np.isfinite(image).all():
        raise UserError(f"image {name}: contains NaN or infinite values")
    return image


def centre_crop(image: IMAGE, side: int) -> IMAGE:
    """The central square of `side` pixels of (C, H, W): rows from H//2 − side//2 on, columns likewise."""
    height, width = image.shape[-2:]
    if side > min(height, width):
        raise UserError(f"a crop of {side} pixels does not fit into {height}×{width}")
    top, left = height // 2 - side // 2, width // 2 - side // 2
    return image[..., top : top + side, left : left + side]


def prepared(name: str, image: IMAGE, channels: int, crop: int | None) -> IMAGE:
    """`image`, checked and cropped; a UserError names it."""
    checked(name, image, channels)
    if crop is not None:
        try:
            image = centre_crop(image, crop)
        except UserError as error:
            raise UserError(f"image {name}: {error}") from None
    return large_enough(name, image)


def large_enough(name: str, image: IMAGE) -> IMAGE:
    """`image` (C, H, W), unless it is too small to be scored; then a UserError that names it."""
    height, width = image.shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise UserError(f"image {name}: {height}×{width} pixels are too few, SSIM needs {MIN_SIDE} a side")
    return image


def tensor(image: NDArray) -> torch.Tensor:
    """(C, H, W) as a contiguous float32 tensor (1, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]
