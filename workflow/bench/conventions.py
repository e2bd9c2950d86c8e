"""How estimates are scored, task by task: the conventions weigh more than most differences between methods."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Convention:
    """What is done to an estimate before PSNR and SSIM are computed, against an image with peak 1."""

    clip: bool
    """Clip to [0, 1]; a method may decline by its own `clip = False`."""
    rounded: bool = False
    """Round to 8 bits."""
    crop: int | None = None
    """Score the central square only, rows from (H − s)//2 on, s = min(crop, H, W)."""
    gaussian_ssim: bool = False
    """SSIM with torchmetrics' Gaussian window instead of scikit-image's uniform one."""
    variants: bool = False
    """Images come in variants `<image>_k0`, …: their mean is the value of the image."""

    def scored(self, image: NDArray[np.float32], clip: bool = True) -> NDArray[np.floating]:
        """The part of an image (C, H, W) that is scored; `clip` False: as the method says."""
        if self.crop is not None:
            side = min(self.crop, *image.shape[-2:])
            top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
            image = image[..., top : top + side, left : left + side]
        if self.clip and clip:
            image = np.clip(image, 0.0, 1.0)
        # a multiple of 1/255 in float64, as a quotient of the 8-bit values is
        return np.rint(image.astype(np.float64) * 255) / 255 if self.rounded else image

    @property
    def mean(self) -> str:
        """What is averaged, in words."""
        return f"mean over images of each image's PSNR{', itself the mean over its blur kernels' * self.variants}"

    @property
    def text(self) -> str:
        """The convention in words, for the line below a table."""
        where = f"the centred {self.crop}×{self.crop} pixels" if self.crop else "all pixels and channels"
        clipped = "clipped to [0, 1]" if self.clip else "not clipped"
        rounded = "rounded to 8 bits" if self.rounded else "not rounded to 8 bits"
        border = "" if self.crop else ", no border removed"
        measured = "; the measurement is scored unclipped" if self.clip else ""
        how = f"peak 1, {where}{border}, estimates {clipped} and {rounded}{measured}"
        return f"{self.mean}, {how}"


CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        "denoise_gray": Convention(clip=True),
        "denoise_color": Convention(clip=True),
        "superres_color": Convention(clip=True, variants=True),
        "deblur_gray": Convention(clip=True, rounded=True),
        "mri": Convention(clip=False, crop=320, gaussian_ssim=True),
    }
)
