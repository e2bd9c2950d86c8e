"""PSNR of the ablations' variants against their parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import style, ticks

TITLE = "Ablations: quality against parameters"
CAPTION = """Mean PSNR in gray denoising of the variants in the table of ablations, against the number of their learned
parameters."""
ALT = "A scatter plot for each noise level: PSNR against the number of parameters, one point a variant."


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """A panel for each noise level, a point for each variant."""
    columns, looks = meta["columns"], style.colours(meta["labels"])
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure = style.figure(1.9 * down + 0.15 * -(-len(looks) // 3))
    panels = figure.subplots(down, across, squeeze=False)
    for n, axes in enumerate(panels.flat):
        if n >= len(columns):
            axes.set_axis_off()
            continue
        for (colour, marker), x, y in zip(looks.values(), data["parameters"], data["psnr"][:, n], strict=True):
            axes.plot(x, y, marker, color=colour, markersize=4.5, markeredgewidth=0)
        axes.set(title=columns[n], xlabel="learned parameters", xscale="log")
        axes.margins(0.12, 0.15)
        ticks.logarithmic(axes.xaxis, data["parameters"])
    for row in panels:
        row[0].set_ylabel("PSNR, dB")
    handles = [panels[0, 0].plot([], [], marker, color=colour)[0] for colour, marker in looks.values()]
    figure.legend(handles, looks, loc="outside lower center", ncols=min(3, len(looks)))
    return figure
