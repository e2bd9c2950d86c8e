"""A real MRI acquisition: reconstructions, enlarged regions, and how they predict measurements they were not given."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.figures import panels, style

TITLE = "MRI without ground truth, judged by held-out measurements"
CAPTION = """Reconstructions from {source}, {coils} coils, {size} pixels, {measured} of k-space measured; of the
measurements outside the central square {held_out} were held out, half of them to choose each method's regularisation
parameter (below, circled; 1 is where its search begins), the other half to score it: below each image the relative
error ‖M(Ax − y)‖/‖My‖ there, of which noise alone makes about {floor}. Chosen: {chosen}."""
ALT = """Slices reconstructed by all methods with enlarged regions below, and curves of the prediction
error against the regularisation parameter."""
MOST = 5


def draw(data: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Figure:
    """Two rows of images for every five panels at most, and the curves below."""
    images = [data["zero_filled"], *data["estimates"]]
    labels = ["Zero-filled", *meta["labels"]]
    white = float(np.percentile(data["estimates"], 99.8)) if len(images) > 1 else float(np.max(images[0]))
    shown = [np.clip(image.astype(np.float32) / white, 0, 1)[None] for image in images]
    region = panels.window(meta, shown[-1])
    columns = panels.columns_for(len(shown), MOST)
    groups = -(-len(shown) // columns)
    height, width = shown[0].shape[-2:]
    side = min(style.PAGE / columns, 1.6)
    rows = [height / width, region[2] / region[3]] * groups
    curves = 1.35
    figure = style.figure(side * sum(rows) + 0.42 * groups + curves + 0.35, max(columns * side, 4.2))
    above, below = figure.subfigures(2, 1, height_ratios=[side * sum(rows) + 0.42 * groups, curves + 0.35])
    axes = above.subplots(2 * groups, columns, squeeze=False, height_ratios=rows)
    for n, (pixels, label) in enumerate(zip(shown, labels, strict=True)):
        top = 2 * (n // columns)
        style.image(axes[top, n % columns], pixels, f"{100 * data['scores'][n]:.1f} %".replace("-", "−"))
        axes[top, n % columns].set_title(label)
        style.mark(axes[top, n % columns], region)
        style.image(axes[top + 1, n % columns], style.crop(pixels, region))
    for place in axes.flat:
        if not place.has_data():
            place.set_axis_off()
    plot = below.subplots()
    looks = style.colours(meta["labels"])
    for errors, (label, (colour, marker)) in zip(data["choosing"], looks.items(), strict=True):
        plot.plot(data["factors"], 100 * errors, color=colour, marker=marker, label=label)
        best = int(np.argmin(errors))
        plot.plot(data["factors"][best], 100 * errors[best], "o", color=colour, markersize=8, fillstyle="none")
    plot.set(xscale="log", xlabel="regularisation parameter, relative to where the search begins", ylabel="error (%)")
    style.log_ticks(plot.xaxis, (1.0, 3.0))
    if looks:
        plot.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
