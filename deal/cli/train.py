"""`deal train`: the training of a folder."""

import argparse
import json
import os
from pathlib import Path

import numpy as np

from deal.cli import solving


class Train:
    """Train a model in a folder made by `python -m bench parcel`, or go on with it."""

    epilog = """examples:
  python -m bench parcel --kind gray --output parcel
  deal train parcel --minutes 25
  deal train parcel --device cpu

The folder holds the schedule (train.json) and the packed images (images.safetensors, validation.safetensors); the state
is saved in state/, and the same command goes on from there. The result is gray.safetensors or color.safetensors."""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("folder", type=Path)
        parser.add_argument(
            "--minutes", type=float, help="stop after so many; the same command goes on (default: to the end)"
        )
        parser.add_argument("--device", default="cuda", help="default cuda; cpu has to be asked for")

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        """Carry it out."""
        import torch

        from deal.patches import PackedImages
        from deal.training import TrainConfig, train

        if options.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError("no CUDA device here; --device cpu trains on the processor")
        device = solving.device(options.device)
        folder, plan = options.folder, options.folder / "train.json"
        try:
            config = TrainConfig.from_dict(json.loads(plan.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{plan}: no training plan ({error}); make one with `python -m bench parcel`") from None
        if config.init and os.sep not in config.init and (folder / config.init).is_file():
            # Not the path but what it holds belongs to the plan, so that a state may move between machines.
            os.chdir(folder)
            folder = Path()
        held = PackedImages(folder / "validation.safetensors")
        validation = [held.image(i).transpose(2, 0, 1).astype(np.float32) / 255 for i in range(len(held))]
        output = folder / f"{config.kind}.safetensors"
        hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        done = train(
            config,
            folder / "images.safetensors",
            validation,
            output,
            folder / "state",
            device,
            options.minutes,
            {"hardware": hardware},
        )
        if not output.is_file():
            print(f"{output}: not there yet, stopped before the first validation; the same command goes on")
            return
        print(f"{output}: {'the schedule is complete' if done else 'stopped in time; the same command goes on'}")
