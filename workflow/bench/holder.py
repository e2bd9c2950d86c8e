"""Who holds the lock of a working directory: so that a run killed by SIGKILL or a power cut locks out nobody.

Snakemake locks by files without a process id and leaves them when it is killed. Beside them this keeps the id, the
start time and the machine of the run; if that process is gone, on this machine, its locks are removed.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from bench.files import write_json

HOLDER = Path(".snakemake", "holder.json")


def take() -> None:
    """Write down that this process runs the workflow here; called once it has the lock."""
    write_json(HOLDER, _identity(os.getpid()))


def give_back() -> None:
    """The run has ended by itself."""
    HOLDER.unlink(missing_ok=True)


def release_dead() -> bool:
    """Remove the locks of a run on this machine that was killed; returns whether there were any.

    Where the holder is unknown, alive or on another machine, nothing is done.
    """
    try:
        held = json.loads(HOLDER.read_bytes())
        now = _identity(int(held["pid"]))
        here = (held["host"], held["namespace"]) == (now["host"], now["namespace"])
        gone = here and (held["boot"], held["started"]) != (now["boot"], now["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not gone:
        return False
    for path in HOLDER.parent.glob("locks/*.lock"):
        path.unlink(missing_ok=True)
    give_back()
    print(f"the run of process {held['pid']} was killed and had locked this folder: unlocked", file=sys.stderr)
    return True


def _identity(pid: int) -> dict[str, Any]:
    """Machine, boot, process and its start time: another process with the same number has another one."""
    started, boot = _read(f"/proc/{pid}/stat").rpartition(")")[2].split(), _read("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "namespace": _link("/proc/self/ns/pid"),  # process ids of a container are its own
        "pid": pid,
        "started": started[19] if len(started) > 19 and started[0] != "Z" else None,
        "boot": boot.strip(),
    }


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115  no path, the name of a namespace
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
