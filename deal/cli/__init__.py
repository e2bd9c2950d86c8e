"""The command `deal`: reconstruct image files and k-space, train, look at weights, check the installation."""

import argparse
import importlib.metadata
import sys
import warnings

from deal.cli import convert, doctor, info, mri, pictures, train
from deal.cli.solving import NOT_CONVERGED

COMMANDS = (pictures.Denoise, pictures.Deblur, pictures.Superres, mri.Mri, train.Train, info.Info, convert.Convert)
COMMANDS += (doctor.Doctor,)
STATUS = f"""exit status:
  0  done
  1  deal doctor: something is missing
  2  an error, in one line that begins with "error:"; no output was written
  {NOT_CONVERGED}  the output was written, but the solver stopped before the tolerance was reached
  130  interrupted; no output was written

Every command has a --help of its own, with examples."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status. Errors of the user are one line on stderr."""
    options = parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            return options.run(options) or 0
        except KeyboardInterrupt:
            print("error: interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            if options.debug or not (line := _users(error)):
                raise
            print(f"error: {line}", file=sys.stderr)
            return 2


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="deal", description=__doc__, epilog=STATUS, formatter_class=raw)
    top.add_argument("--version", action="version", version=f"deal {deal_version()}")
    commands = top.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        text = (command.__doc__ or "").strip()
        added = commands.add_parser(
            command.__name__.lower(),
            help=text[0].lower() + text[1:].rstrip("."),
            description=text,
            epilog=f"{command.epilog}\n\nexit status: see deal --help",
            formatter_class=raw,
        )
        command.arguments(added)
        added.add_argument("--debug", action="store_true", help="show the traceback of an error")
        added.set_defaults(run=command.run)
    return top


def deal_version() -> str:
    """The version, without the seconds that torch takes to be imported."""
    try:
        return importlib.metadata.version("deal-bench")
    except importlib.metadata.PackageNotFoundError:  # a copied folder, as in a parcel
        return "(not installed)"


def _users(error: Exception) -> str | None:
    """One line for what the user can mend; None for a defect of this package."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or type(error).__name__).lower()}"
    if isinstance(error, ValueError | OSError):
        return " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory for this image; take a smaller one, a part of it, or another --device"
    return None
