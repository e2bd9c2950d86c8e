"""Tasks on images: which measurement is made of an image. y = A x + n, with a seed that no method can change.

Every digit of the measurements is that of the authors' scripts and notebooks: how the noise is drawn, in which order,
in which precision it is added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import scipy.ndimage
import torch

from bench import kernels
from bench.config import Deblur, Denoise, Superres, did_you_mean
from bench.errors import UserError
from bench.items import IMAGE, ImageTask, Item, Source, Task, centre_crop, checked, large_enough, prepared, tensor
from bench.kernels import KERNEL
from bench.mri import MriTask
from deal.operators import Blur, Downsampling, Identity

__all__ = ["TASKS", "Identity", "Item", "Source", "Task", "centre_crop", "checked", "get"]


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
class Denoising(ImageTask):
    """y = x + n."""

    name: str
    channels: int

    def item(self, image: str, x: IMAGE, section: Denoise, setting: str) -> Item:
        x, sigma = prepared(image, x, self.channels, section.crop), section.sigma(setting)
        y = (add_gray_noise if self.channels == 1 else add_color_noise)(x, sigma, section.seed)
        return Item(image, tensor(x), tensor(y), Identity(), sigma, alike=self.name)


@dataclass(frozen=True)
class SuperResolution(ImageTask):
    """y = S(k ∗ x) + n: circular blur, then the pixels [0::s, 0::s]; not clipped, not rounded to 8 bits."""

    name: str = "superres_color"
    channels: int = 3

    def variants(self, section: Superres, setting: str, cache: Path) -> list[tuple[str, tuple]]:
        """One item for each kernel."""
        return [(f"_k{k}", (kernels.gaussian(k, section.kernel_source, cache),)) for k in section.kernels]

    def item(self, image: str, x: IMAGE, section: Superres, setting: str, kernel: KERNEL) -> Item:
        x, sigma = prepared(image, x, self.channels, section.crop), section.sigma(setting)
        factor = section.parameters(setting)["factor"]
        height, width = (side - side % factor for side in x.shape[1:])
        x = large_enough(image, x[:, :height, :width])
        operator = Downsampling(torch.from_numpy(kernel), factor, x.shape)
        # the convolution in float64, its result in float32: what scipy.ndimage makes of a float32 image
        y = operator.A(tensor(x).double()).float()[0].numpy()
        y = add_color_noise(y, sigma, section.seed)
        return Item(image, tensor(x), tensor(y), operator, sigma, alike=(factor, kernel.tobytes()))


@dataclass(frozen=True)
class Deblurring(ImageTask):
    """y = k ∗ x + n, circular; k ∗ x is rounded down to 8 bits before, and y to 8 bits after the noise is added."""

    name: str = "deblur_gray"
    channels: int = 1

    def variants(self, section: Deblur, setting: str, cache: Path) -> list[tuple[str, tuple]]:
        """One item, with the setting's kernel."""
        index = section.parameters(setting)["kernel"]
        return [("", (kernels.motion(index, section.kernel_source, cache),))]

    def item(self, image: str, x: IMAGE, section: Deblur, setting: str, kernel: KERNEL) -> Item:
        x, sigma = prepared(image, x, self.channels, section.crop), section.sigma(setting)
        # scipy returns the type it is given, 8-bit integers, and rounds towards zero
        blurred = scipy.ndimage.convolve(np.rint(255 * x[0]).astype(np.uint8), kernel, mode="wrap")
        y = add_color_noise(blurred[None].astype(np.float32) / np.float32(255), sigma, section.seed)
        if section.measurement == "published":
            y = np.rint(255 * np.clip(y, 0, 1)).astype(np.float32) / np.float32(255)
        return Item(image, tensor(x), tensor(y), Blur(torch.from_numpy(kernel)), sigma, alike=kernel.tobytes())


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Denoising("denoise_gray", 1),
            Denoising("denoise_color", 3),
            SuperResolution(),
            Deblurring(),
            MriTask(),
        )
    }
)


def get(name: str) -> Task:
    """The task called `name`; a UserError names an unknown one."""
    if name not in TASKS:
        raise UserError(f"unknown task '{name}'{did_you_mean(name, TASKS)}")
    return TASKS[name]
