"""`deal convert`: the authors' checkpoints as safetensors."""

import argparse
from pathlib import Path


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

        if options.source.suffix not in weights.OFFICIAL_SUFFIXES:  # its metadata would be lost
            known = ", ".join(weights.OFFICIAL_SUFFIXES)
            raise ValueError(f"{options.source}: not {known}; a .safetensors only needs to be copied")
        weights.convert_official(options.source, options.target)
        print(f"{options.target}: {weights.load(options.target).kind} model")
