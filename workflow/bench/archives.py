"""Unpack the images of an archive (zip, tar, rar), whole or not at all, and never outside their folder."""

import fnmatch
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bench.errors import UserError
from bench.files import lock, write_text, writing

Opener = Callable[[], BinaryIO]
SUFFIXES = (".zip", ".tar", ".rar")
# what zipfile and tarfile raise for bytes that are no sound archive (RuntimeError: encrypted, unknown method)
_DAMAGED = (zipfile.BadZipFile, zlib.error, tarfile.TarError, EOFError, RuntimeError)
_DONE = ".sha256"  # inside the folder: the hash of the archive that it was unpacked from
_RAR = {  # programs that unpack RAR; the first one found is used
    "bsdtar": ["-xf", "{archive}", "-C", "{folder}"],
    "unrar": ["x", "-idq", "{archive}", "{folder}/"],
    "7z": ["x", "-y", "-bd", "-o{folder}", "{archive}"],
}


def folder_of(archive: Path) -> Path:
    """Where the images of `archive` are unpacked: `<archive>.images` beside it."""
    return archive.with_name(f"{archive.name}.images")


def unpacked(archive: Path, sha256: str) -> list[Path] | None:
    """The unpacked images, or None if they are not there or of another archive than that with this hash."""
    done = folder_of(archive) / _DONE
    if not done.is_file() or done.read_text(encoding="utf-8").strip() != sha256:
        return None
    return sorted(path for path in folder_of(archive).rglob("*") if path.is_file() and path != done)


def unpack(archive: Path, patterns: Sequence[str], sha256: str) -> list[Path]:
    """Unpack the members that match one of `patterns` (as "DIV2K_*_HR/*.png") and return their paths.

    An archive with an absolute path, a `..` or a link among these members is refused as a whole. An archive
    that has been unpacked already, as told by its `sha256`, is not opened.
    """
    with writing(archive), archive.open("r+b") as handle:
        lock(handle)  # of two at the same time the second waits, and finds the images
        return _unpack(archive, patterns, sha256)


def _unpack(archive: Path, patterns: Sequence[str], sha256: str) -> list[Path]:
    if (images := unpacked(archive, sha256)) is not None:
        return images
    folder = folder_of(archive)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)  # of an unpacking that was killed
    partial.mkdir(parents=True)
    try:
        with _members(archive) as members:
            count = 0
            for name, regular, open_member in members:
                if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                    continue
                path = PurePosixPath(name)
                if not regular or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
                    raise UserError(f"{archive} is refused: its member {name!r} is a link or leaves the folder")
                target = partial / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_member() as source, target.open("wb") as handle:
                    shutil.copyfileobj(source, handle, 1 << 20)
                count += 1
        if not count:
            raise UserError(f"{archive} has no member like {' or '.join(patterns)}")
        write_text(partial / _DONE, f"{sha256}\n")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except _DAMAGED as error:
        raise UserError(f"{archive} cannot be unpacked: {error}. Delete it and its .sha256 and fetch again") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return unpacked(archive, sha256) or []


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, bool, Opener]]]:
    """Name, is it a regular file?, and a way to open it, for each member that is no folder."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            yield (
                (
                    info.filename,
                    not stat.S_ISLNK(info.external_attr >> 16),
                    lambda info=info: opened.open(info),
                )
                for info in opened.infolist()
                if not info.is_dir()
            )
    elif archive.suffix == ".tar":
        with tarfile.open(archive) as opened:
            yield (
                (info.name, info.isreg(), lambda info=info: opened.extractfile(info))
                for info in opened
                if not info.isdir()
            )
    else:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{archive.name}.") as folder:
            _unrar(archive, Path(folder))
            yield (
                (
                    path.relative_to(folder).as_posix(),
                    not path.is_symlink(),
                    lambda path=path: path.open("rb"),
                )
                for path in sorted(Path(folder).rglob("*"))
                if path.is_symlink() or not path.is_dir()
            )


def _unrar(archive: Path, folder: Path) -> None:
    """Unpack a RAR archive by the first program at hand; all of them keep members inside `folder`."""
    program = next((name for name in _RAR if shutil.which(name)), None)
    if program is None:
        raise UserError(f"{archive} is a RAR archive: install one of {', '.join(_RAR)} to unpack it")
    arguments = [argument.format(archive=archive, folder=folder) for argument in _RAR[program]]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no message"]
        raise UserError(f"{program} cannot unpack {archive}: {last[0]}")
