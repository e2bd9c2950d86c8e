"""Where torch computes."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config import Config
from bench.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: jobs beside each other share the first GPU
    fcntl = None

if TYPE_CHECKING:
    import torch

_claims: list[int] = []  # descriptors kept open: the lock of a GPU lasts as long as the process
NO_GPU = (
    "device is 'auto' and there is no CUDA device; training the paper's models on a CPU takes weeks. "
    "Set weights=released (shipped with the package), weights=official (the authors', downloaded), "
    "or device=cpu to train on the CPU anyway"
)
UNUSABLE = "there is a CUDA device, but this torch cannot use it (python -m bench cuda says what to install)"


def cuda_devices() -> int:
    """How many CUDA devices the driver offers, asked without importing torch; 0 without a driver."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        ready = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):
        return 0
    return count.value if ready else 0


def refuse_cpu_by_accident(config: Config) -> None:
    """UserError where training would end up on the CPU without anybody having asked for that."""
    if config.device == "auto" and cuda_devices() == 0:
        raise UserError(NO_GPU)


def synchronise(device: "torch.device") -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def select_device(wanted: str, training: bool = False) -> "torch.device":
    """`auto`, `cpu` or `cuda` as a torch device; a UserError if CUDA is asked for and absent.

    But for training, convolutions are then computed in float32, not in TF32. Where several GPUs are visible, "cuda" is
    from then on one that no other job of this machine has chosen.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device is 'cuda', but torch finds no CUDA device; set device=auto or device=cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        if wanted == "auto" and cuda_devices() > 0:
            if training:
                raise UserError(f"{UNUSABLE}; to train on the CPU all the same, set device=cpu")
            print(f"warning: {UNUSABLE}; the CPU computes", file=sys.stderr, flush=True)
        return torch.device("cpu")
    if not training:
        torch.backends.cudnn.allow_tf32 = False  # PyTorch's default: ten bits in the convolutions of every method
    count = torch.cuda.device_count()
    if count > 1 and fcntl is not None and not _claims:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the processes of a shared training have theirs by rank
            _claim_gpu([int(os.environ.get("LOCAL_RANK", "0"))], count)
        else:
            torch.cuda.set_device(_claim_gpu(range(count), count))
    return torch.device("cuda")


def _claim_gpu(wanted: Iterable[int], count: int) -> int:
    """The first of the `wanted` GPUs whose lock is free, which this process holds from now on; the last, if none is."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = names if len(names) == count else [str(index) for index in range(count)]
    index = count - 1
    for index in wanted:
        path = Path(tempfile.gettempdir(), f"deal-bench-{os.getuid()}-gpu-{names[index].strip()}.lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        _claims.append(lock)
        return index
    print(f"no GPU is free: this job shares number {index} with another", file=sys.stderr, flush=True)
    return index
