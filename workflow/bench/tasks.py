"""Tasks: which measurement is made of an image. y = A x + n, with a seed that no method can change.

Shapes: x and y are torch tensors (1, C, H, W), float32, x in [0, 1]. σ is the noise's standard deviation in
the same units. Source: protocol, sections 2.1 to 2.4 (read off the authors' notebooks).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.config import Denoise, did_you_mean
from bench.errors import UserError
from deal.operators import Identity

IMAGE = NDArray[np.float32]


@dataclass(frozen=True)
class Item:
    """One image of a task: what is looked for (x), what is given (y, operator, sigma)."""

    image: str
    x: torch.Tensor
    y: torch.Tensor
    operator: Any
    sigma: float


def centre_crop(image: IMAGE, side: int) -> IMAGE:
    """The central square of `side` pixels of (C, H, W): rows from H//2 − side//2 on, columns likewise."""
    height, width = image.shape[-2:]
    if side > min(height, width):
        raise UserError(f"a crop of {side} pixels does not fit into {height}×{width}")
    top, left = height // 2 - side // 2, width // 2 - side // 2
    return image[..., top : top + side, left : left + side]


def checked(name: str, image: IMAGE, channels: int) -> IMAGE:
    """`image` if it is (channels, H, W) and finite; else a UserError that names it."""
    if image.ndim != 3 or image.shape[0] != channels:
        found = f"{image.shape[0]} channels" if image.ndim == 3 else f"the shape {image.shape}"
        raise UserError(f"image {name}: has {found}, this task takes {channels}")
    if not np.isfinite(image).all():
        raise UserError(f"image {name}: contains NaN or infinite values")
    return image


def add_gray_noise(x: IMAGE, sigma: float, seed: int) -> IMAGE:
    """x + n, n drawn in float64 in the shape (1, H, W) and rounded to float32 before the addition."""
    noise = np.random.RandomState(seed).normal(0.0, sigma, x.shape)
    return x + noise.astype(np.float32)


def add_color_noise(x: IMAGE, sigma: float, seed: int) -> IMAGE:
    """x + n, n drawn in the order (H, W, C), added in float64, the sum rounded to float32."""
    channels, height, width = x.shape
    noise = np.random.RandomState(seed).normal(0.0, sigma, (height, width, channels))
    return (x + noise.transpose(2, 0, 1)).astype(np.float32)


@dataclass(frozen=True)
class Denoising:
    """y = x + n. Scored after clipping to [0, 1], without rounding to 8 bits."""

    name: str
    channels: int
    clip: bool = True

    def item(self, image: str, x: IMAGE, section: Denoise, setting: str) -> Item:
        """The measurement of the image called `image`; raises UserError for an image that does not fit."""
        checked(image, x, self.channels)
        if section.crop is not None:
            try:
                x = centre_crop(x, section.crop)
            except UserError as error:
                raise UserError(f"image {image}: {error}") from None
        sigma = section.sigma_255(setting) / 255
        y = (add_gray_noise if self.channels == 1 else add_color_noise)(x, sigma, section.seed)
        return Item(image, _tensor(x), _tensor(y), Identity(), sigma)


def _tensor(image: IMAGE) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]


TASKS: Mapping[str, Denoising] = MappingProxyType(
    {task.name: task for task in (Denoising("denoise_gray", 1), Denoising("denoise_color", 3))}
)


def get(name: str) -> Denoising:
    """The task called `name`; a UserError names an unknown one."""
    if name not in TASKS:
        raise UserError(f"unknown task '{name}'{did_you_mean(name, TASKS)}")
    return TASKS[name]
