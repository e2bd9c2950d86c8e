"""A training to carry to another machine: code, schedule and images in one folder, for a GPU rented by the half hour.

That machine needs torch, numpy, safetensors, pillow and tqdm. In it, `python -m deal.cli train . --minutes 25` trains
and leaves its state in `state/`; the same command, there or elsewhere with `state/` brought along, goes on.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench import datasets
from bench.config import Config
from bench.errors import UserError
from bench.provenance import code_digest, module_path
from bench.training_job import CHANNELS, MODULES, section, train_config


def write(config: Config, kind: str, output: Path, max_bytes: int) -> None:
    """Fill the folder `output` with all that the training of `kind` needs, its images in at most `max_bytes`.

    Raises:
        UserError: `output` exists, or not one patch fits.
    """
    from deal import patches
    from deal.weights import WeightsError, load, save

    if output.exists():
        raise UserError(f"{output} exists; name a new folder, or remove it")
    chosen, cache, channels = section(config, kind), Path(config.cache), CHANNELS[kind]
    plan = train_config(config, kind)
    images = [image for name in chosen.datasets for _, image in datasets.images(name, cache, channels=channels)]
    largest = max([plan.patch, *(phase.patch or 0 for phase in plan.phases)])
    about = {"datasets": {name: datasets.get(name).digest for name in chosen.datasets}, "max_bytes": max_bytes}
    partial = output.with_name(f".{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        values = asdict(plan)
        if plan.init:
            try:
                save(load(plan.init), partial / "init.safetensors", {})
            except WeightsError as error:
                raise UserError(f"training.{kind}.init: {error}") from None
            values["init"] = "init.safetensors"
        patches.pack(_cropped(images, max_bytes, largest, kind), partial / "images.safetensors", about)
        validation = datasets.load(chosen.validation, cache, channels=channels)
        whole = ((255 * np.asarray(image)).round().astype(np.uint8) for _, image in validation)
        patches.pack(whole, partial / "validation.safetensors", {"dataset": chosen.validation})
        (partial / "train.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        (partial / "code.txt").write_text(code_digest(MODULES) + "\n", encoding="utf-8")
        package = module_path("deal")
        assert package is not None  # it was imported above
        ignored = shutil.ignore_patterns("__pycache__", "released")
        shutil.copytree(package.parent, partial / "deal", ignore=ignored)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cropped(images: list[np.ndarray], max_bytes: int, patch: int, kind: str) -> Iterator[np.ndarray]:
    """The images, or squares from all over them where they are too many bytes; fewer images before smaller squares."""
    if sum(image.size for image in images) <= max_bytes:
        yield from images
        return
    images = [image for image in images if min(image.shape[1:]) >= patch]
    channels = CHANNELS[kind]
    fitting = max_bytes // (channels * patch**2)
    if not fitting or not images:
        raise UserError(f"no patch of {patch} pixels fits into {max_bytes} bytes or into the images; raise --max-mb")
    images = [images[round(i)] for i in np.linspace(0, len(images) - 1, min(fitting, len(images)))]
    side = max(patch, math.isqrt(max_bytes // (channels * len(images))))
    rng = np.random.default_rng(0)
    for image in images:
        height, width = (min(side, extent) for extent in image.shape[1:])
        top, left = (int(rng.integers(a - b + 1)) for a, b in zip(image.shape[1:], (height, width), strict=True))
        yield image[:, top : top + height, left : left + width]
