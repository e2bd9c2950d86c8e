"""What the machine has: memory, disk, processors."""

import os
from pathlib import Path

BYTES_PER_PIXEL = 4_000
"""What a solve takes for each pixel, from 3,809 of a colour image of 1024 × 1024 (128 filters, float32)."""


def available_memory() -> int | None:
    """Bytes of memory that a program may still take, containers' limits included; None where that is not known."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    group = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int((group / limit).read_text()) - int((group / used).read_text()))
        except (OSError, ValueError):  # no such limit
            continue
    return max(0, min(found)) if found else None


def processors() -> int:
    """Processors that this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
