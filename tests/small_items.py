"""Small items of every task, which need no data: for the conformance tests."""

from pathlib import Path
from typing import Any

import numpy as np

from bench import items, mri, phantom, tasks
from bench.config import Config
from bench.mri_data import Sample

NO_DATA: dict[str, dict[str, Any]] = {
    "denoise_gray": {"crop": None},
    "denoise_color": {"crop": None},
    "superres_color": {"crop": None, "kernel_source": "generated"},
    "deblur_gray": {"crop": None, "kernel_source": "generated"},
}
"""Task → keys of its section with which its items need no files."""


def image(channels: int) -> np.ndarray:
    """A smooth image with an edge, (C, 48, 48)."""
    rows, columns = np.mgrid[0:48, 0:48]
    base = 0.5 + 0.3 * np.sin(rows / 5) * np.cos(columns / 7) + 0.2 * (columns > 23)
    return np.stack([np.clip(base * (1 - 0.2 * c), 0, 1) for c in range(channels)]).astype(np.float32)


def sample() -> Sample:
    """An MRI sample of the image above: three coils, every second column and the central ones."""
    x = image(1)[0] / image(1).max()
    maps = phantom.sensitivities(*x.shape, 3, np.random.RandomState(0)).astype(np.complex64)
    columns = np.fft.ifftshift((np.arange(48) % 2 == 0) | (abs(np.arange(48) - 24) < 6))
    mask = np.broadcast_to(columns, x.shape).astype(np.uint8)
    return Sample("smooth", "pd", "test", "phantom", x, maps, {"single4": mask, "multi8": mask})


def item(task: str, config: Config = Config(), setting: str | None = None) -> items.Item:  # noqa: B008
    """The first item of a setting, by default the last setting; of the image above where the task takes images."""
    kind = tasks.get(task)
    section = config.task(task).model_copy(update=NO_DATA.get(task, {}))
    setting = setting or section.settings()[-1]
    cache = Path(config.cache)
    if isinstance(kind, mri.MriTask):
        return kind.item_of(sample(), section, setting)
    if isinstance(kind, items.ImageTask):
        _, more = kind.variants(section, setting, cache)[0]
        return kind.item("smooth", image(kind.channels), section, setting, *more)
    return kind.items(section, setting, cache, 1)[0][1]()
