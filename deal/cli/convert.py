"""`deal convert`: the authors' checkpoints as safetensors."""

import argparse
from pathlib import Path

SUFFIXES = (".pth", ".pt", ".ckpt")  # by which deal.weights knows the authors' layout


class Convert:
    """Convert a checkpoint of the authors (.pth) to safetensors, running none of its code."""

    epilog = """example:
  deal convert deal_gray.pth deal_gray.safetensors"""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("source", type=Path)
        parser.add_argument("target", type=Path)

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        """Carry it out."""
        from deal import weights

        if options.source.suffix not in SUFFIXES:  # its metadata would be lost
            raise ValueError(f"{options.source}: not {', '.join(SUFFIXES)}; a .safetensors only needs to be copied")
        weights.convert_official(options.source, options.target)
        print(f"{options.target}: {weights.load(options.target).kind} model")
