"""Figure 9: deblurred images side by side."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import panels, style

TITLE = "Deblurring, methods compared"
CAPTION = """Deblurring of {images} ({dataset}), {setting}: the kernel, enlarged and on a scale of square roots, is
the inset of the original; PSNR and SSIM below each image.{notes}"""
ALT = """{images}, each blurred and then deblurred by all methods, with PSNR and SSIM."""
MOST = 6


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """One row an image, more if there are many methods."""
    count = 2 + len(meta["labels"])
    columns = panels.columns_for(count, MOST)
    groups = -(-count // columns)
    images = len(meta["images"])
    side = min(style.PAGE / columns, 1.6)
    height, width = data["truth0"].shape[-2:]
    figure = style.figure(groups * images * (side * height / width + 0.3), columns * side)
    axes = figure.subplots(groups * images, columns, squeeze=False)
    for i in range(images):
        shown = panels.panels(data, meta, i, "Blurred")
        for n, (pixels, title, score) in enumerate(shown):
            place = axes[groups * i + n // columns, n % columns]
            style.image(place, pixels, f"{title}\n{score}")
            if n == 0:
                _kernel(place, data["kernel"])
    for place in axes.flat:
        if not place.has_data():
            place.set_axis_off()
    return figure


def _kernel(axes: Any, kernel: np.ndarray) -> None:
    """The kernel in the lower left corner, white at its largest value; the root lets the faint parts be seen."""
    inset = axes.inset_axes([0, 0, 0.34, 0.34])
    style.image(inset, np.sqrt(kernel / kernel.max()))
    for spine in inset.spines.values():
        spine.set(visible=True, color=style.MARK, linewidth=0.9)
