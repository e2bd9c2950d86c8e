"""PSNR against how wrong the assumed noise level, or the assumed blur kernel, is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.figures import style

TITLE = "Robustness to wrong assumptions"
CAPTION = """Left: denoising of {denoising_images} ({denoising_dataset}), {denoising_setting}, when methods are told a
multiple of the true noise level; those trained for one level do not use what they are told. Right: deblurring of
{deblurring_images} ({deblurring_dataset}), {deblurring_setting}, when they are told the kernel turned about its centre
of mass. Mean PSNR over the images."""
ALT = "Two panels of curves, one a method: PSNR falls as the assumed noise level or kernel departs from the truth."


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Two panels with a legend of all methods below."""
    labels = list(dict.fromkeys([*meta["denoising_labels"], *meta["deblurring_labels"]]))
    looks = style.colours(labels)
    figure = style.figure(2.25 + 0.13 * -(-len(labels) // 6))
    left, right = figure.subplots(1, 2)
    for axes, name, points in ((left, "denoising", data["factors"]), (right, "deblurring", data["degrees"])):
        for label, scores in zip(meta[f"{name}_labels"], data[name], strict=True):
            colour, marker = looks[label]
            axes.plot(points, scores.mean(axis=-1), color=colour, marker=marker)
        axes.set_ylabel("PSNR (dB)")
    left.set(xscale="log", xlabel="assumed / true noise level", title="Noise level")
    left.xaxis.set_major_locator(FixedLocator([float(factor) for factor in data["factors"]]))
    left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.xaxis.set_minor_locator(NullLocator())
    left.axvline(1, color="black", linewidth=0.6, linestyle=":")
    right.set(xlabel="turn of the assumed kernel (degrees)", title="Blur kernel")
    style.legend(figure, looks)
    return figure
