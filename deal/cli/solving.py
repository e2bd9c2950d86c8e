"""What the commands that reconstruct share: options of the solver, a progress bar, and what is said at the end."""

import argparse
import math
import sys
import warnings
from pathlib import Path

from deal.cli import machine
from deal.defaults import MASK_SIGMA

NOT_CONVERGED = 3
DELAY_S = 1.0  # before a progress bar appears


def arguments(parser: argparse.ArgumentParser, lmbda: str = "the paper's", denoising: bool = False) -> None:
    """Add the options of the solver; `lmbda` says what λ is where none is given."""
    group = parser.add_argument_group("the model and the solver")
    group.add_argument(
        "--weights", help="'gray', 'color' or a file, the authors' .pth included (default: released ones)"
    )
    group.add_argument("--lambda", dest="lmbda", type=float, help=f"strength of regularisation (default: {lmbda})")
    if not denoising:
        group.add_argument(
            "--mask-sigma",
            type=float,
            default=MASK_SIGMA,
            help=f"σ told to the attention mask, 0-255 units (default {MASK_SIGMA:g}, as in the paper)",
        )
    group.add_argument("--tol", type=float, default=1e-4, help="relative fixed-point residual to reach (default 1e-4)")
    group.add_argument("--max-iterations", type=int, default=1000, help="outer iterations at most (default 1000)")
    group.add_argument("--algorithm", choices=("fast", "reference"), default="fast", help="default fast; see the API")
    group.add_argument("--x0", type=Path, help="image file to start from (default: an estimate made from the data)")
    group.add_argument("--device", default="auto", help="auto (CUDA if there is a device), cpu, cuda, cuda:1, …")
    group.add_argument("--threads", type=int, help="processor cores to use (default: all)")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress bar, no notes; warnings stay")


def check(options: argparse.Namespace) -> None:
    """ValueError for numbers that the solver cannot take, before anything is read."""
    if not 0 < options.tol < 1:
        raise ValueError(f"--tol {options.tol:g}: must be between 0 and 1")
    if options.max_iterations < 1:
        raise ValueError(f"--max-iterations {options.max_iterations}: must be at least 1")
    if options.lmbda is not None and not 0 < options.lmbda < math.inf:
        raise ValueError(f"--lambda {options.lmbda:g}: must be positive")
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads {options.threads}: must be at least 1")
    if not 0 <= getattr(options, "seed", 0) < 2**32:
        raise ValueError(f"--seed {options.seed}: must be at least 0 and below 2^32")
    if not 0 < getattr(options, "mask_sigma", 1) <= 50:
        raise ValueError(f"--mask-sigma {options.mask_sigma:g}: the models are trained for (0, 50], 0-255 units")


def device(name: str):
    """The torch device called `name`; ValueError if it is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {name}: no such device; auto, cpu or cuda") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device {name}: torch finds {torch.cuda.device_count()} CUDA devices; `deal doctor` says more"
        )
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"--device {name}: only cpu and cuda are supported")
    return found


def model(options: argparse.Namespace, channels: int, where):
    """The model for images of `channels` channels; ValueError if the chosen weights are for the other kind."""
    import deal

    kind = {1: "gray", 3: "color"}[channels]
    loaded = deal.load(options.weights or kind, where)
    if loaded.channels != channels:
        raise ValueError(
            f"{options.weights}: weights of the {loaded.kind} model, but the image has {channels} "
            f"channel{'s' if channels > 1 else ''}; leave --weights out, or give those of the {kind} model"
        )
    return loaded


def start(path: Path | None, shape: tuple[int, ...], where):
    """The image of `--x0` as (1, C, H, W), or None; ValueError if it has another size than `shape`."""
    if path is None:
        return None
    import torch

    from deal.cli import files

    pixels = files.read(path).pixels
    if tuple(pixels.shape) != tuple(shape):
        raise ValueError(f"{path}: the start has the shape {_size(pixels.shape)}, the solution has {_size(shape)}")
    return torch.from_numpy(pixels)[None].to(where)


def solve(options: argparse.Namespace, network, y, operator, sigma: float, lmbda: float | None, shape, x0=None, **more):
    """`deal.DEAL.solve` with the options, a progress bar and a look at the memory; images are of (C, H, W) = `shape`.

    Raises:
        ValueError: as the solver does, and if the memory of the machine will not do.
    """
    import deal

    need = machine.BYTES_PER_PIXEL * shape[-1] * shape[-2]
    have = machine.available_memory() if y.device.type == "cpu" else None
    if have is not None and need > have:
        raise ValueError(
            f"an image of {shape[-2]}×{shape[-1]} takes about {need / 2**30:.1f} GB of memory, {have / 2**30:.1f} are "
            "free; take a part of it or a smaller one"
        )
    with warnings.catch_warnings(), Progress(options.quiet, options.tol, y) as progress:
        warnings.simplefilter("ignore", deal.ConvergenceWarning)  # said below, for every way of stopping
        return network.solve(
            y,
            operator,
            sigma,
            lmbda,
            tol=options.tol,
            algorithm=options.algorithm,
            x0=x0,
            max_outer=options.max_iterations,
            callback=progress,
            **more,
        )


def report(options: argparse.Namespace, output: Path, solution, notes: list[str], psnr: str = "") -> int:
    """Print what was done; returns the exit status."""
    if not options.quiet:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    residual, converged = float(solution.residual.max()), bool(solution.converged.all())
    print(
        f"{output}: {'converged' if converged else 'NOT converged'}, residual {residual:.1e}, "
        f"{solution.outer_iterations} iterations, {solution.seconds:.1f} s{psnr}"
    )
    if converged:
        return 0
    advice = "raise --max-iterations or --tol"
    if options.algorithm == "reference":  # its own rule is the change of x: neither helps where that was small enough
        capped = solution.outer_iterations >= options.max_iterations
        advice = "raise --max-iterations or take --algorithm fast" if capped else "take --algorithm fast, the default"
    print(
        f"warning: stopped at a relative fixed-point residual of {residual:.1e}, above --tol {options.tol:.0e}; "
        f"{advice}, or take the image as what it is",
        file=sys.stderr,
    )
    return NOT_CONVERGED


class Progress:
    """A bar that counts outer iterations and shows by how much the last one changed x, relatively.

    There is none on a stream that is no terminal, and none for the first DELAY_S seconds.
    """

    def __init__(self, quiet: bool, goal: float, y):
        from tqdm import tqdm

        self._last = None
        self._goal = goal
        self._bar = tqdm(
            disable=True if quiet else None,  # None: on terminals only
            delay=DELAY_S,
            unit=" iterations",
            bar_format="{n_fmt}{unit} [{elapsed}{postfix}]",
            leave=False,
            file=sys.stderr,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, outer: int, x) -> None:
        """The solver's callback."""
        if self._bar.disable:
            return
        if self._last is not None:
            change = float((x - self._last).norm() / x.norm().clamp(min=1e-30))
            self._bar.set_postfix_str(f"change {change:.1e}, goal {self._goal:.0e}", refresh=False)
        self._last = x
        self._bar.update()


def _size(shape) -> str:
    return "×".join(map(str, shape))
