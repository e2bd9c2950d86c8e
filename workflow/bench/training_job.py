"""Training of DEAL as a job of the workflow: pack the images, train, record what was done."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from bench import datasets
from bench.config import Config, Training, digest, training_part
from bench.devices import refuse_cpu_by_accident, select_device
from bench.errors import UserError
from bench.files import atomic, locked, write_json, writing
from bench.provenance import Record, code_digest, sha256

CHANNELS = {"gray": 1, "color": 3}
MODULES = ("bench.training_job",)


def section(config: Config, kind: str) -> Training:
    """The section `training.gray` or `training.color`."""
    if kind not in CHANNELS:
        raise UserError(f"unknown model '{kind}'; there are gray and color")
    return getattr(config.training, kind)


def train_config(config: Config, kind: str) -> "deal.training.TrainConfig":  # noqa: F821  imported when needed
    """The section's keys as `deal.training.TrainConfig`."""
    from deal.training import TrainConfig

    values = section(config, kind).model_dump(exclude={"datasets", "validation"})
    return TrainConfig.from_dict({"kind": kind, **values})


def pack(config: Config, kind: str, output: Path) -> None:
    """Pack the training images of `kind` into `output`; colour images become gray for the gray model."""
    from deal import patches

    cache, names = Path(config.cache), section(config, kind).datasets
    arrays = (image for name in names for _, image in datasets.images(name, cache, channels=CHANNELS[kind]))
    about = {name: datasets.get(name).digest for name in names}
    try:
        with writing(output):
            patches.pack(arrays, output, {"datasets": about})
    except ValueError as error:
        raise UserError(f"training.{kind}.datasets: {error}") from error


def state_dir(config: Config, kind: str, images: Path) -> Path:
    """Where the training's state survives kills; named after all that the result depends on but the code."""
    validation = datasets.get(section(config, kind).validation)
    key = digest([training_part(config, kind), sha256(images), validation.digest])
    return Path(config.results) / ".state" / "training" / f"{kind}-{key}"


def train(config: Config, kind: str, images: Path, output: Path, processes: int = 1) -> None:
    """Train on the packed `images`, or go on where a kill ended it; write weights, their sidecar and the log.

    A finished state made by other code is started again, an unfinished one is gone on with: that loses no
    days to the edit of a message, and the sidecar lists the digests of all code that took part.

    Args:
        processes: above 1, so many share every batch, started by torchrun on this machine, one a GPU.

    Raises:
        UserError: for a configuration, state or disk that does not allow it.
    """
    refuse_cpu_by_accident(config)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # one of the processes that `_share` started
        _steps(config, kind, images, output)
        return
    import torch

    chosen = section(config, kind)
    record = Record(MODULES, config.digest())
    folder = state_dir(config, kind, images)
    with locked(folder.with_name(f"{folder.name}.lock")):
        codes = _codes(folder)
        if processes > 1:
            _share(processes)
        else:
            _steps(config, kind, images, output)
        with atomic(output.with_suffix(".log.csv")) as partial:
            shutil.copyfile(folder / "log.csv", partial)
        write_json(folder / "code.json", {"codes": codes, "finished": True})
    record.write(
        output,
        data={"dataset": ", ".join(chosen.datasets), "digest": sha256(images)},
        weights={output.name: sha256(output)},
        seed=chosen.seed,
        device=str(select_device(config.device, training=True)),
        threads=torch.get_num_threads(),
        processes=processes,
        training=training_part(config, kind),
        codes=codes,
    )


def _share(processes: int) -> None:
    """Run this command in so many processes of one group; UserError when one of them fails."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run([*launcher, "-m", "bench", *sys.argv[1:]], check=False)
    if done.returncode:
        raise UserError(f"one of the {processes} processes of the training failed; its message is above")


def _steps(config: Config, kind: str, images: Path, output: Path) -> None:
    """The training itself, in one process."""
    from deal import training

    chosen, device = section(config, kind), select_device(config.device, training=True)
    folder = state_dir(config, kind, images)
    codes = json.loads((folder / "code.json").read_text(encoding="utf-8"))["codes"]
    validation = datasets.load(chosen.validation, Path(config.cache), channels=CHANNELS[kind])
    try:
        with writing(folder):
            training.train(
                train_config(config, kind),
                images,
                [np.asarray(image) for _, image in validation],
                output,
                folder,
                device=device,
                metadata={
                    "code": codes,
                    "datasets": {name: datasets.get(name).digest for name in chosen.datasets},
                },
            )
    except ValueError as error:
        raise UserError(f"training.{kind}: {error}") from error


def _codes(folder: Path) -> list[str]:
    """Digests of the code that has worked on this state, the present last; clears a finished older state."""
    now, path = code_digest(MODULES), folder / "code.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"codes": [], "finished": False}
    if known["finished"] and known["codes"] != [now]:
        shutil.rmtree(folder)
        known = {"codes": [], "finished": False}
    codes = [*(code for code in known["codes"] if code != now), now]
    write_json(path, {"codes": codes, "finished": known["finished"]})
    return codes
