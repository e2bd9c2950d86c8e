"""The command `deal`: denoise an image file, look at weights, convert them, train."""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status. Errors of the user are one line on stderr, status 2."""
    parser = argparse.ArgumentParser(prog="deal", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    denoise = commands.add_parser("denoise", help="denoise an image file")
    denoise.add_argument("image", type=Path)
    denoise.add_argument("-o", "--output", type=Path, required=True, help="image file to write")
    denoise.add_argument("--sigma", type=float, required=True, help="noise standard deviation, 0-255 units")
    denoise.add_argument("--weights", help="weights file; default: the released ones for gray or colour")
    denoise.add_argument("--algorithm", choices=("fast", "reference"), default="fast")
    denoise.add_argument("--tol", type=float, default=1e-4, help="relative fixed-point residual (default 1e-4)")
    denoise.add_argument("--device", default="cpu")
    denoise.set_defaults(run=_denoise)

    info = commands.add_parser("info", help="print what a weights file says of itself")
    info.add_argument("weights", help="'gray', 'color' or a file")
    info.set_defaults(run=_info)

    convert = commands.add_parser("convert", help="convert the authors' .pth to safetensors, running none of its code")
    convert.add_argument("source", type=Path)
    convert.add_argument("target", type=Path)
    convert.set_defaults(run=_convert)

    train = commands.add_parser("train", help="train a folder made by `python -m bench parcel`, or go on with it")
    train.add_argument("folder", type=Path)
    train.add_argument(
        "--minutes", type=float, help="stop after so many; the same command goes on (default: to the end)"
    )
    train.add_argument("--device", default="cuda")
    train.set_defaults(run=_train)

    options = parser.parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _denoise(options: argparse.Namespace) -> None:
    import torch
    from PIL import Image, UnidentifiedImageError

    import deal

    if options.output.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{options.output}: unknown image format; use .png, say")
    if not 0 < options.sigma <= 50:
        raise ValueError(f"--sigma {options.sigma:g}: the models are trained for noise levels in (0, 50], 0-255 units")
    try:
        with Image.open(options.image) as file:
            picture = file.convert("L" if file.mode in ("1", "L", "I;16", "I", "F") else "RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{options.image}: not an image") from None
    pixels = np.atleast_3d(np.asarray(picture, dtype=np.float32)).transpose(2, 0, 1) / 255
    model = deal.load(options.weights or ("gray" if len(pixels) == 1 else "color"), options.device)
    y = torch.from_numpy(np.ascontiguousarray(pixels))[None].to(options.device)
    solution = model.solve(y, deal.Identity(), options.sigma / 255, algorithm=options.algorithm, tol=options.tol)
    result = solution.x[0].cpu().mul(255).round().byte().numpy().transpose(1, 2, 0)
    partial = options.output.with_name(f".{options.output.stem}.part{options.output.suffix}")
    try:
        Image.fromarray(result.squeeze(2) if len(pixels) == 1 else result).save(partial)
        partial.replace(options.output)
    finally:
        partial.unlink(missing_ok=True)
    state = "converged" if solution.converged.all() else "NOT converged"
    print(
        f"{options.output}: {state}, residual {solution.residual.max():.1e}, {solution.outer_iterations} iterations, "
        f"{solution.seconds:.1f} s"
    )


def _info(options: argparse.Namespace) -> None:
    from deal import weights

    model = weights.load(options.weights)
    block = weights.describe(options.weights)
    block["parameters"] = sum(p.numel() for p in model.parameters())
    print(json.dumps(block, indent=2))


def _train(options: argparse.Namespace) -> None:
    import os

    import torch

    from deal.patches import PackedImages
    from deal.training import TrainConfig, train

    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device here; --device cpu trains on the processor")
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
    hardware = torch.cuda.get_device_name() if torch.device(options.device).type == "cuda" else "CPU"
    done = train(
        config,
        folder / "images.safetensors",
        validation,
        output,
        folder / "state",
        options.device,
        options.minutes,
        {"hardware": hardware},
    )
    print(f"{output}: {'the schedule is complete' if done else 'stopped in time; the same command goes on'}")


def _convert(options: argparse.Namespace) -> None:
    from deal import weights

    weights.convert_official(options.source, options.target)
    print(f"{options.target}: {weights.load(options.target).kind} model")


if __name__ == "__main__":
    sys.exit(main())
