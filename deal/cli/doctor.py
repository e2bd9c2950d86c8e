"""`deal doctor`: whether this machine and this installation can reconstruct, and what to do where they cannot."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from deal.cli import machine

Finding = tuple[str, str]
"""One of ok, warn, FAIL, and what was found; after " → " what to do."""

MINIMUM = {"torch": (2, 4), "numpy": (1, 26), "safetensors": (0, 4), "pillow": (10, 0), "h5py": (3, 8), "tqdm": (4, 66)}
MEMORY_BYTES, DISK_BYTES = 2 * 2**30, 2**30
INSTALL = "pip install -c constraints.txt -e ."


class Doctor:
    """Check this machine and this installation, and say what is missing and how to get it."""

    epilog = """example:
  deal doctor

Checks Python, packages, CUDA, memory, disk, and the released weights and their hashes; then denoises a small image.
The exit status is 0 if reconstructions work here, 1 if something has to be mended; warnings do not count. What the
benchmark needs besides (its packages, its data and the weights of other methods) is checked by: python -m bench
doctor"""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--no-solve", action="store_true", help="leave out the test reconstruction")

    @staticmethod
    def run(options: argparse.Namespace) -> int:
        """Carry it out; returns 0 or 1."""
        checks = [python, packages, cuda, memory, disk, weights, *([] if options.no_solve else [reconstruction])]
        failed = show(checks)
        if importlib.util.find_spec("bench") is not None or Path("workflow", "bench").is_dir():
            print("the benchmark's packages and data: python -m bench doctor")
        return int(failed > 0)


def show(checks: list[Callable[[], Iterator[Finding]]]) -> int:
    """Print the findings of all checks; returns how many of them failed."""
    failed = 0
    for check in checks:
        try:
            findings = list(check())
        except Exception as error:  # a broken installation can fail in any way
            findings = [("FAIL", f"{check.__name__}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")]
        for state, text in findings:
            failed += state == "FAIL"
            print(f"{state:4}  {text}", flush=True)
    print("all well" if not failed else f"{failed} thing{'s' if failed > 1 else ''} to mend")
    return failed


def python() -> Iterator[Finding]:
    """Version of Python."""
    found = f"Python {platform.python_version()} in {sys.prefix}"
    yield (
        ("ok", found)
        if sys.version_info >= (3, 11)
        else ("FAIL", f"{found} → 3.11 or newer: make env PYTHON=python3.12")
    )


def packages() -> Iterator[Finding]:
    """The packages that `deal` imports."""
    found = []
    for name, least in MINIMUM.items():
        wanted = f"{name}>={'.'.join(map(str, least))}"
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield "FAIL", f"{name} is missing → {INSTALL}   (or: pip install '{wanted}')"
            continue
        numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
        if numbers < least:
            yield "FAIL", f"{name} {version} is too old → pip install '{wanted}'"
        found.append(f"{name} {version}")
    yield "ok", ", ".join(found)


def cuda() -> Iterator[Finding]:
    """Where torch computes."""
    import torch

    cores = machine.processors()
    text = f"{platform.machine()}, {cores} processor core{'s' if cores > 1 else ''}"
    yield "ok", f"{text}, torch uses {torch.get_num_threads()}"
    if torch.cuda.is_available():
        for n in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(n).total_memory / 2**30
            yield "ok", f"CUDA device {n}: {torch.cuda.get_device_name(n)}, {memory:.0f} GB"
    elif Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        yield (
            "warn",
            f"an NVIDIA driver, but torch {torch.__version__} (built {built}) finds no device → python -m bench cuda",
        )
    else:
        yield "warn", "no CUDA device: the processor computes, minutes an image; training from scratch wants a GPU"


def memory() -> Iterator[Finding]:
    """Free memory, and how large an image fits."""
    free = machine.available_memory()
    if free is None:
        yield "warn", "how much memory is free is not known on this system"
        return
    side = int((free / machine.BYTES_PER_PIXEL) ** 0.5) // 10 * 10
    text = f"{free / 2**30:.1f} GB of memory free: images of up to about {side}×{side} pixels on the processor"
    yield (
        ("ok", text)
        if free >= MEMORY_BYTES
        else ("FAIL", f"{text} → {MEMORY_BYTES // 2**30} GB are wanted; close something")
    )


def disk() -> Iterator[Finding]:
    """Room in the working folder and for temporary files."""
    for what, path in (("here", Path.cwd()), ("for temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(path).free
        text = f"{free / 2**30:.1f} GB of disk free {what} ({path})"
        yield ("ok", text) if free >= DISK_BYTES else ("FAIL", f"{text} → make room for 1 GB")
    if not os.access(Path.cwd(), os.W_OK):
        yield "warn", f"{Path.cwd()} cannot be written to → run in another folder, or write results elsewhere"


def weights() -> Iterator[Finding]:
    """The released weights: there, and what they were when they were released."""
    from deal.weights import RELEASED, WeightsError, load, sha256

    sums = RELEASED / "SHA256SUMS"
    again = "git checkout -- deal/released (or install again); or --weights FILE"
    if not sums.is_file():
        yield "FAIL", f"{sums} is missing, so the released weights cannot be checked → {again}"
        return
    for line in sums.read_text(encoding="ascii").splitlines():
        expected, name = line.split()
        path = RELEASED / name
        if not path.is_file():
            yield "FAIL", f"{path} is missing → {again}"
        elif (found := sha256(path)) != expected:
            yield "FAIL", f"{path}: its sha256 is {found[:16]}…, released was {expected[:16]}… → {again}"
        else:
            try:
                load(path)
            except WeightsError as error:
                yield "FAIL", f"{error} → {again}"
            else:
                yield "ok", f"weights {name}, sha256 {expected[:16]}…"


def reconstruction() -> Iterator[Finding]:
    """A small noisy image, denoised on every device."""
    import torch

    import deal

    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    clean = (0.5 + 0.3 * torch.sin(rows / 6) * (columns > 20) - 0.3 * (rows > columns))[None, None]
    noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for device in ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]:
        solution = deal.load("gray", device).solve(noisy.to(device), deal.Identity(), 25 / 255, max_outer=100)
        before, after = (-10 * float((x.cpu() - clean).square().mean().log10()) for x in (noisy, solution.x))
        text = f"a test image on {device}: {before:.1f} → {after:.1f} dB in {solution.outer_iterations} iterations"
        if not solution.converged.all():
            yield "FAIL", f"{text}, NOT converged → wrong weights or a broken torch"
        elif after < before + 5:
            yield "FAIL", f"{text}, too few → wrong weights or a broken torch"
        else:
            yield "ok", f"{text}, converged"
