"""`deal info`: what a weights file says of itself."""

import argparse
import json


class Info:
    """Print what a weights file says of itself, as JSON."""

    epilog = """examples:
  deal info gray
  deal info deal_color.pth

Metadata of the training, number of parameters, and the sha256 of the file. No code that a .pth may hold is run."""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("weights", help="'gray', 'color' or a file")

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        """Carry it out."""
        from deal import weights

        model = weights.load(options.weights)
        block = {"kind": model.kind, **weights.describe(options.weights)}
        block["parameters"] = sum(p.numel() for p in model.parameters())
        print(json.dumps(block, indent=2))
