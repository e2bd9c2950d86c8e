"""Write a file so that it appears whole or not at all, and keep two processes from writing one."""

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two processes on one job at the same moment are not noticed
    fcntl = None

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
DISK |= {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
"""What a disk or its permissions, and no mistake in the code, can be the reason of."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it is renamed onto `path`, on failure removed.

    Raises UserError, naming `path`, where the disk is full, read-only or not this user's.
    """
    target = Path(path)
    host = socket.gethostname().replace(os.sep, "_")
    partial = target.with_name(f".{target.name}.{host}-{os.getpid()}.part")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_after_kills(target, host)
        try:
            yield partial
            with partial.open("rb") as handle:
                os.fsync(handle.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what a disk refuses into a UserError that names `path`."""
    try:
        yield
    except Exception as error:
        if not is_disk(error):
            raise
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).splitlines()[0]
        raise UserError(f"cannot write {path}: {reason}") from error


def is_disk(error: Exception) -> bool:
    """Whether a disk refused; torch and safetensors, which are not imported here, say so in words only."""
    text = str(error)
    if isinstance(error, OSError):
        return error.errno in DISK
    if type(error).__name__ == "SafetensorError":
        return "os error" in text.lower() or "Os {" in text
    return isinstance(error, RuntimeError) and ("PytorchStreamWriter" in text or "unexpected pos" in text)


def _clear_after_kills(target: Path, host: str) -> None:
    """Remove temporary siblings of `target` whose process was killed; those of other machines stay."""
    for left in target.parent.glob(f".{glob_escaped(target.name)}.{glob_escaped(host)}-*.part"):
        number = left.name.removesuffix(".part").rpartition("-")[2]
        if number.isdigit() and int(number) != os.getpid() and not alive(int(number)):
            left.unlink(missing_ok=True)


def glob_escaped(name: str) -> str:
    """`name` as a pattern that matches nothing else."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def alive(pid: int) -> bool:
    """Whether a process with this number exists here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def lock(handle: IO[Any]) -> None:
    """Hold an open file alone until it is closed, also by a kill; waits, and says so, while another process does."""
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another process does the same job and holds {handle.name}; waiting for it", file=sys.stderr, flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # file systems without locks
            raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which stays, as `lock` says."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a")
    with handle:
        lock(handle)
        yield


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
