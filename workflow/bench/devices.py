"""Where torch computes."""

import ctypes
from typing import TYPE_CHECKING

from bench.config import Config
from bench.errors import UserError

if TYPE_CHECKING:
    import torch

NO_GPU = (
    "device is 'auto' and there is no CUDA device; training the paper's models on a CPU takes weeks. "
    "Set weights=released (shipped with the package), weights=official (the authors', downloaded), "
    "or device=cpu to train on the CPU anyway"
)


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


def select_device(wanted: str) -> "torch.device":
    """`auto`, `cpu` or `cuda` as a torch device; a UserError if CUDA is asked for and absent."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device is 'cuda', but torch finds no CUDA device; set device=auto or device=cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
