"""What a configuration names must be there and of the right kind, or a line says which key is wrong. No torch.

Asked before any job: a data set that a task cannot use would else be found out after its download.
"""

from collections.abc import Iterator
from typing import Any

from bench import datasets, figures, registry
from bench.config import Config, ImageSection, Mri, did_you_mean
from bench.errors import UserError

CHANNELS = {"gray": 1, "color": 3}
WORDS = {None: "no images", 1: "gray images", 3: "colour images"}


def check(config: Config) -> None:
    """Check methods, figures, data sets and the source of MRI data.

    Raises:
        UserError: naming the first key that is wrong, its value and what could stand there.
    """
    for method in config.methods:
        registry.entry(method)
    known = figures.names()
    for name in config.figures.names:
        if name not in known:
            raise UserError(f"figures.names: unknown figure {name!r}{did_you_mean(name, known)}")
    for key, name, kind, converted in image_sets(config):
        _check_image_set(key, name, kind, converted)
    _check_mri(config.tasks.mri)


def image_sets(config: Config) -> Iterator[tuple[str, str, str, bool]]:
    """(key, data set, "gray" or "color", whether images are converted to that) of all that the configuration names."""
    for task in type(config.tasks).model_fields:
        section: Any = config.task(task)
        if isinstance(section, ImageSection):
            yield f"tasks.{task}.dataset", section.dataset, registry.deal_kind(task), False
    for task, images in config.tuning.tasks.items():
        yield f"tuning.tasks.{task}.dataset", images.dataset, registry.deal_kind(task), False
    for kind in CHANNELS:
        training = getattr(config.training, kind)
        for number, name in enumerate(training.datasets):
            yield f"training.{kind}.datasets[{number}]", name, kind, True
        yield f"training.{kind}.validation", training.validation, kind, True


def fits(dataset: datasets.Dataset, kind: str, converted: bool) -> bool:
    """Whether images of `dataset` can serve where `kind` is wanted; trainings convert colour to gray, tasks do not."""
    if dataset.channels == CHANNELS[kind]:
        return True
    return converted and (dataset.gray_from_color or (dataset.channels == 3 and kind == "gray"))


def _check_image_set(key: str, name: str, kind: str, converted: bool) -> None:
    known = datasets.registry()
    if name in known and fits(known[name], kind, converted):
        return
    hint = did_you_mean(name, [other for other in known if fits(known[other], kind, converted)])
    if name not in known:
        raise UserError(f"{key}: unknown data set {name!r}{hint.rstrip('?')}; `python -m bench register` adds your own")
    wanted = WORDS[CHANNELS[kind]]
    raise UserError(f"{key}: the data set {name!r} holds {WORDS[known[name].channels]}, expected {wanted}{hint}")


def _check_mri(section: Mri) -> None:
    if section.source == "fastmri" and section.path is None:
        raise UserError(
            "tasks.mri.path is null, expected the folder of fastMRI's multicoil_val/*.h5, since tasks.mri.source is "
            "fastmri; or set that to zenodo or phantom"
        )
