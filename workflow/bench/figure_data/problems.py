"""The images that figures show, with their measurements: those of the tasks, chosen by the key `figures`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import datasets, registry, tasks
from bench.config import Config, Deblur, Mri, Superres, TaskSection, did_you_mean
from bench.conventions import CONVENTIONS, Convention
from bench.errors import UserError
from bench.figure_config import CASTLE, CASTLE_ZOOM, PUBLISHED_NOISE, Castle
from bench.figure_data import setting
from bench.items import Item, centre_crop, tensor


@dataclass(frozen=True)
class Problem:
    """Items of one setting of a task, as one figure shows them."""

    config: Config
    task: str
    setting: str
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    """What differs from the tables, for the caption."""
    not_zoom: list[int] | None = None
    """A region that was chosen for another image, and is not to be enlarged in this one."""

    @property
    def convention(self) -> Convention:
        """How estimates are scored."""
        return CONVENTIONS[self.task]

    @property
    def section(self) -> Any:
        """The task's section of the configuration."""
        return self.config.task(self.task)

    @cached_property
    def data(self) -> dict[str, Any]:
        """Identity of the data, for the sidecar."""
        return tasks.get(self.task).data(self.section, Path(self.config.cache))

    def shown(self, image: torch.Tensor | np.ndarray) -> np.ndarray:
        """The part of (C, H, W) that is scored, in half precision: enough to look at, and a quarter of the bytes."""
        array = image.cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
        return replace(self.convention, clip=False, rounded=False).scored(array).astype(np.float16)

    def facts(self) -> dict[str, str]:
        """Facts for captions."""
        name = self.data["dataset"]
        known = datasets.registry()
        return {
            "images": _listed([item.image for item in self.items]),
            "dataset": known[name].title if name in known else name.replace("_", ", source "),
            "setting": describe(self.section, self.setting),
            "notes": "".join(f" {note}" for note in self.notes),
        }


def problem(config: Config, name: str, images: int | None = None) -> Problem:
    """The problem of the section `name` of `figures`: its one image, or its first ones.

    Args:
        images: the first so many in place of what the section says.

    Raises:
        UserError: for an unknown setting or image.
    """
    wanted = getattr(config.figures, name)
    section = config.task(wanted.task)
    found = tasks.get(wanted.task).items(section, setting(config, name), Path(config.cache))
    if images is None and hasattr(wanted, "image"):
        # another data set, and the key's default: no typing mistake
        castle = isinstance(wanted, Castle) and section.dataset != CASTLE[0] and wanted.image == CASTLE[1]
        image = None if castle and wanted.image not in dict(found) else wanted.image
        found = _named(found, image, f"figures.{name}.image")
    else:
        found = found[: images or wanted.images]
    made = Problem(config, wanted.task, wanted.setting, tuple(make() for _, make in found))
    if images is not None or not isinstance(wanted, Castle):
        return made
    if (section.dataset, made.items[0].image) != CASTLE:
        return replace(made, not_zoom=CASTLE_ZOOM)
    return _castle(made) if wanted.noise == "published" else made


def _named(found: list, image: str | None, key: str) -> list:
    if image is None:
        return found[:1]
    chosen = [pair for pair in found if pair[0] == image]
    if not chosen:
        raise UserError(f"{key}: unknown image '{image}'{did_you_mean(image, [pair[0] for pair in found])}")
    return chosen


def _castle(problem: Problem) -> Problem:
    """With the authors' noise in place of the task's, where it is of this image and can be had."""
    (item,) = problem.items
    if item.image != "test003" or problem.setting != "sigma25":
        return problem
    try:
        y = np.load(registry.locate(PUBLISHED_NOISE, problem.config), allow_pickle=False)
    except registry.MissingWeights as reason:
        print(f"{PUBLISHED_NOISE}: {reason}", file=sys.stderr)
        note = "The authors' noisy image cannot be had; the noise is that of the tables."
        return replace(problem, notes=(note,))
    crop = problem.section.crop
    y = y.astype(np.float32).reshape(1, *y.shape[-2:])
    noisy = tensor(y if crop is None else centre_crop(y, crop))
    if noisy.shape != item.y.shape:
        raise UserError(f"{PUBLISHED_NOISE}: has the shape {tuple(noisy.shape)}, the image {tuple(item.y.shape)}")
    return replace(
        problem,
        items=(replace(item, y=noisy),),
        notes=("The noisy image is the authors' (img_noisy.npy of MMR_SAFI).",),
    )


def describe(section: TaskSection, setting: str) -> str:
    """A setting of a task in words."""
    parameters = section.parameters(setting)
    level = f"σ = {parameters['sigma_255']:g}"
    if isinstance(section, Superres):
        return f"factor {parameters['factor']}, noise {level}"
    if isinstance(section, Deblur):
        made = (
            "made-up motion kernel {}" if section.kernel_source == "generated" else "motion kernel {} of Levin et al."
        )
        return f"{made.format(parameters['kernel'])}, noise {level}"
    if isinstance(section, Mri):
        coils = "one coil" if parameters["sampling"].startswith("single") else "multi-coil"
        return f"{coils}, {parameters['acceleration']:g}-fold acceleration, contrast {parameters['contrast'].upper()}"
    return f"noise {level}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
