"""Download files so that each appears under its name whole and verified, or not at all.

A file with URL `https://host/path` is cached as `<cache>/host/path`, so that a cache can serve as a mirror.
A mirror (folder or URL of the same layout) is asked first, the origin where the mirror lacks the file. What
arrives is collected in `.<name>.part` beside the target; after an interruption, even by SIGKILL, the next
call goes on from there. A file of the user's own, registered with `python -m bench register`, has no origin: its URL
is `local:<data set>/<name>`, its place `<cache>/local/<data set>/<name>`.
"""

import importlib.util
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from tqdm import tqdm

from bench.errors import UserError
from bench.files import write_text
from bench.provenance import sha256
from bench.transfer import CHUNK_BYTES, Client, Lacking, Part, Unreachable, open_part

WHEEL = "scikit-image:"  # instead of a URL: a file inside scikit-image's installed package
LOCAL = "local:"  # ... or of the user's own, which only a cache or a mirror can have
FILE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*"
_WEB = rf"https?://[A-Za-z0-9.-]+(:\d+)?(/{FILE_NAME})+(/\?dl=1)?"
SHARED = "/?dl=1"  # ends the URL of a share link, which lacks the name of the file

_log = logging.getLogger(__name__)


class File(BaseModel):
    """One file of the registry; `sha256` and `bytes` are None where they could not be known beforehand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{FILE_NAME}$")
    url: str = Field(pattern=f"^({_WEB}|{WHEEL}{FILE_NAME}|{LOCAL}{FILE_NAME}/{FILE_NAME})$")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    bytes: PositiveInt | None = None

    @property
    def id(self) -> str:
        """The name without its suffix: "test003" for test003.png."""
        return PurePosixPath(self.name).stem

    @property
    def embedded(self) -> bool:
        """True for a file of scikit-image's wheel, which nobody has to download."""
        return self.url.startswith(WHEEL)

    @property
    def local(self) -> bool:
        """True for a file of the user's own, which is nowhere to be downloaded."""
        return self.url.startswith(LOCAL)

    @property
    def location(self) -> str:
        """`host/path`, the file's place in a cache or mirror; of a share link `host/path/name`; `local/set/name`."""
        if self.local:
            return f"local/{self.url.removeprefix(LOCAL)}"
        parts = urlsplit(self.url)
        return parts.netloc + parts.path + (self.name if self.url.endswith(SHARED) else "")

    def path(self, cache: Path) -> Path:
        """Where the file is, or will be once fetched."""
        if not self.embedded:
            return cache / self.location
        package = importlib.util.find_spec("skimage")  # looks, does not import
        if package is None or not package.submodule_search_locations:
            raise UserError(f"{self.name} is a photograph of the package scikit-image, which is not installed")
        return Path(package.submodule_search_locations[0]) / "data" / self.url.removeprefix(WHEEL)


def expected_sha256(file: File, path: Path) -> str | None:
    """The hash in the registry, else the one recorded beside `path` on first use, else None."""
    if file.sha256 is not None:
        return file.sha256
    record = _record(path)
    return record.read_text(encoding="utf-8")[:64] if record.is_file() else None


def mismatch(file: File, path: Path, content: Path | None = None) -> str | None:
    """What is wrong with the bytes at `content` (default: at `path`) if they should be `file`, or None."""
    content = content or path
    size, expected, found = content.stat().st_size, expected_sha256(file, path), sha256(content)
    if expected not in (None, found):
        of = "" if file.bytes is None else f" ({file.bytes} bytes)"
        return f"expected sha256 {expected}{of}, found {found} ({size} bytes)"
    if file.bytes not in (None, size):
        return f"expected {file.bytes} bytes, found {size}"
    return None


def download(
    files: Sequence[File], cache: Path, mirror: str | None = None, jobs: int = 8, progress: bool = True
) -> list[Path]:
    """Bring `files` into `cache`, `jobs` at a time; what is there and has the right hash is left alone.

    Args:
        mirror: folder or http(s) URL, by default $DEAL_MIRROR.
        progress: draw a bar, if stderr is a terminal.

    Returns the paths in the order of `files`. Raises UserError naming the first file that could not be had
    and how many others; those that could be had are in the cache.
    """
    if jobs < 1:
        raise UserError(f"jobs must be at least 1, not {jobs}")
    fetching = _Fetching(Path(cache), jobs)
    failures: list[UserError] = []
    with fetching.client.session, ThreadPoolExecutor(jobs) as pool:
        try:
            sound = list(pool.map(fetching.cached, files))
            missing = [file for file, there in zip(files, sound, strict=True) if not there]
            if missing:
                fetching.mirror = _source(mirror or os.environ.get("DEAL_MIRROR"))
            size = sum(file.bytes or 0 for file in missing) or None
            off = None if progress and missing else True  # None: tqdm looks whether stderr is a terminal
            with tqdm(total=size, unit="B", unit_scale=True, desc="download", disable=off) as fetching.bar:
                for future in [pool.submit(fetching.obtain, file) for file in missing]:
                    try:
                        future.result()
                    except UserError as error:
                        failures.append(error)
        except BaseException:  # Ctrl-C above all: let the threads end, keep what has arrived
            fetching.client.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        message, others = str(failures[0]), len(failures) - 1
        if others:
            message += f"; {others} other file{'s' if others > 1 else ''} could not be had either"
        if isinstance(failures[0], Unreachable):
            message += ". Check the network, or set DEAL_MIRROR to a folder or URL that has it as <host>/<path>"
        raise UserError(message)
    return [file.path(fetching.cache) for file in files]


class _Fetching:
    """What the threads of one `download` share."""

    bar: tqdm
    mirror: str | Path | None = None

    def __init__(self, cache: Path, jobs: int) -> None:
        self.cache = cache
        self.client = Client(jobs, self._advance)
        self._lock = threading.Lock()

    def cached(self, file: File) -> bool:
        """True if `file` is in the cache and sound; a hash not known before is recorded."""
        path = file.path(self.cache)
        if not path.is_file():
            if file.embedded:
                raise UserError(f"scikit-image's package lacks {path.name}: install the version of constraints.txt")
            return False
        wrong = mismatch(file, path)
        if wrong is None:
            if file.sha256 is None and not _record(path).is_file():
                write_text(_record(path), f"{sha256(path)}  {path.name}\n")
            return True
        if file.embedded:
            raise UserError(f"{path.name} of the installed scikit-image is not the registry's image: {wrong}")
        _log.warning("%s is damaged and will be fetched again: %s", path, wrong)
        return False

    def obtain(self, file: File) -> None:
        """Fetch one file into the cache."""
        try:
            self._obtain(file, file.path(self.cache))
        except OSError as error:  # no space, no permission
            raise UserError(f"cannot write {file.path(self.cache)}: {error.strerror or error}") from error

    def _obtain(self, file: File, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_part(target.with_name(f".{target.name}.part")) as part:
            if target.is_file():
                if mismatch(file, target) is None:  # another process was faster
                    part.clear()
                    return
                target.unlink()
            try:
                self._fill(file, target, part)
            except Unreachable:  # keep what has arrived
                raise
            except BaseException:
                part.clear()
                raise
            part.move(target)
        self.cached(file)

    def _fill(self, file: File, target: Path, part: Part) -> None:
        if isinstance(self.mirror, Path) and (self.mirror / file.location).is_file():
            part.clear()
            with (self.mirror / file.location).open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    part.append(chunk)
                    self._advance(len(chunk))
            _accept(file, target, part, f"the mirror's {self.mirror / file.location}")
            return
        if isinstance(self.mirror, str):
            try:
                self._get(f"{self.mirror}/{file.location}", file, target, part)
                return
            except Lacking:
                pass
        if file.local:
            raise UserError(_nowhere(file, target, self.mirror))
        self._get(file.url, file, target, part)

    def _get(self, url: str, file: File, target: Path, part: Part) -> None:
        pinned = expected_sha256(file, target) is not None
        begun = part.size
        self.client.get(url, part, file.bytes, pinned)
        if begun and mismatch(file, target, part.path):  # what an earlier call left may be bad: once more from zero
            self._advance(-part.size)
            part.clear()
            self.client.get(url, part, file.bytes, pinned)
        _accept(file, target, part, url)

    def _advance(self, size: int) -> None:
        with self._lock:
            self.bar.update(size)


def _source(mirror: str | None) -> str | Path | None:
    """A mirror as URL without trailing slash, as folder, or None."""
    if not mirror:
        return None
    if mirror.startswith(("http://", "https://")):
        return mirror.rstrip("/")
    folder = Path(mirror).expanduser()
    if not folder.is_dir():
        raise UserError(f"the mirror {mirror} (DEAL_MIRROR) is neither a folder nor an http(s) URL")
    return folder


def _nowhere(file: File, target: Path, mirror: str | Path | None) -> str:
    """Where a file of the user's own was looked for, and how it is brought back."""
    asked = f", nor has the mirror {mirror} a file {file.location}" if mirror else ""
    name = file.location.split("/")[1]
    return (
        f"{target} is not there with the content that was registered{asked}. Mend: python -m bench register FOLDER "
        f"--name {name}, or set DEAL_MIRROR to a folder or URL that has {file.location}"
    )


def _accept(file: File, target: Path, part: Part, origin: str) -> None:
    """Raise unless what has arrived in `part` is `file`."""
    wrong = mismatch(file, target, part.path)
    if wrong:
        raise UserError(f"wrong content for {file.name} from {origin}: {wrong}")
    with part.path.open("rb") as handle:
        start = handle.read(64).lstrip().lower()
    if not part.size or start.startswith((b"<!doctype", b"<html", b"version https://git-lfs")):
        raise UserError(f"{origin} sends a web page, a pointer or nothing instead of {file.name}")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
