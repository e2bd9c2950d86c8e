"""Bring the bytes behind one URL into one file, over as many interruptions as it takes.

`Part` holds what has arrived so far; `Client` requests the rest of it by HTTP Range, again and again while
that makes progress. Only http and https are spoken, also after redirects. What the bytes are worth is for the
caller to judge.
"""

import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from bench.errors import UserError
from bench.files import write_text

try:
    import fcntl
except ImportError:  # Windows: no protection against two fetches of one file at the same moment
    fcntl = None

CHUNK_BYTES = 1 << 16
CONNECT_S, READ_S = 10.0, 30.0  # longest silence before a connection stands, and after
ATTEMPTS = 4  # failures in a row without one byte more than before
BACKOFF_S = 0.5  # the pause after the first of them, then doubled


class Unreachable(UserError):
    """Nobody gave a useful answer; a network or a mirror would mend it."""


class Lacking(UserError):
    """The server answers that it does not have the file."""


class _Broken(Exception):
    """The transfer failed in a way that trying again may mend."""


class Part:
    """The bytes of a file that have arrived so far, in `path`; `etag` says of which version they are."""

    def __init__(self, path: Path, handle: io.BufferedRandom) -> None:
        self.path, self._handle = path, handle
        self._etag_path = path.with_name(f"{path.name}.etag")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return os.fstat(self._handle.fileno()).st_size

    def append(self, chunk: bytes) -> None:
        """Add bytes at the end; a kill of the program does not lose them."""
        self._handle.write(chunk)
        self._handle.flush()

    def clear(self) -> None:
        """Forget all bytes."""
        self._handle.truncate(0)

    def move(self, target: Path) -> None:
        """Give the bytes, safely on disk, their final name."""
        os.fsync(self._handle.fileno())
        self.path.replace(target)
        self._etag_path.unlink(missing_ok=True)

    @property
    def etag(self) -> str | None:
        """The server's mark of the version that the bytes are of, also after a restart of the program."""
        return self._etag_path.read_text(encoding="utf-8") if self._etag_path.is_file() else None

    @etag.setter
    def etag(self, value: str | None) -> None:
        if value and value.startswith('"'):  # a weak one, W/"…", does not promise equal bytes
            write_text(self._etag_path, value)
        else:
            self._etag_path.unlink(missing_ok=True)


@contextmanager
def open_part(path: Path) -> Iterator[Part]:
    """Open or create the part at `path`, alone among all processes; it is removed afterwards if empty."""
    while True:
        handle = path.open("ab+")
        if fcntl is None:
            break
        fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(handle.fileno()), path.stat()):
            break
        handle.close()  # while this one waited, the holder renamed or removed the file
    with handle:
        part = Part(path, handle)
        try:
            yield part
        finally:
            if part.size == 0:
                part.etag = None
                path.unlink(missing_ok=True)


class Client:
    """An HTTP session shared by threads; `advance` is told of every byte gained (or, negative, given up)."""

    def __init__(self, jobs: int, advance: Callable[[int], None]) -> None:
        self.session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_connections=jobs, pool_maxsize=jobs)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, adapter)
        self.session.headers["Accept-Encoding"] = "identity"  # lengths and ranges of the file itself
        self.stop = threading.Event()  # interrupted, or given up: no request is begun or repeated
        self._advance = advance
        self._answered = False  # after one answer, silence about a file is no reason to give up the others
        self._reason = "interrupted"

    def get(self, url: str, part: Part, size: int | None, pinned: bool) -> None:
        """Append to `part` until it holds all of `url`: `size` bytes if that is known.

        Args:
            pinned: the caller will check a hash. Otherwise a half-filled part is only gone on with under its
                ETag, since nothing would notice if the two halves were of two versions.

        Raises Unreachable, Lacking, or UserError for an answer that cannot be the file.
        """
        failures, best, reason = 0, part.size, None
        self._advance(best)
        while not self.stop.is_set():
            try:
                self._request(url, part, size, pinned)
                return
            except _Broken as error:
                reason = str(error)
            except requests.RequestException as error:
                reason = _in_words(error)
            failures, best = (0, part.size) if part.size > best else (failures + 1, best)
            if failures >= ATTEMPTS:
                if not self._answered:
                    self._reason = reason
                    self.stop.set()
                break
            self.stop.wait(BACKOFF_S * 2**failures)
        raise Unreachable(f"cannot download {url}: {reason or self._reason}")

    def _request(self, url: str, part: Part, size: int | None, pinned: bool) -> None:
        if part.size and not pinned and part.etag is None:
            self._restart(part)
        if size is not None and part.size > size:
            self._restart(part)
        have = part.size
        if have and have == size:  # killed between the last byte and the renaming
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and not pinned:
            headers["If-Range"] = part.etag
        try:
            response = self.session.get(url, headers=headers, stream=True, timeout=(CONNECT_S, READ_S))
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
            raise UserError(f"{url} redirects to something other than http or https: refused") from error
        with response:
            if response.status_code >= 500 or response.status_code in (408, 429):
                raise _Broken(f"the server answers {response.status_code} {response.reason}")
            self._answered = True
            if response.status_code == 416:  # the part is no beginning of this file
                self._restart(part)
                raise _Broken("the server has no such range")
            if response.status_code not in (200, 206):
                answer = f"cannot download {url}: the server answers {response.status_code} {response.reason}"
                raise (Lacking if response.status_code in (403, 404, 410) else UserError)(answer)
            if response.status_code == 200:
                self._restart(part)
                part.etag = None if pinned else response.headers.get("ETag")
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                self._restart(part)
                raise _Broken("the server sends another range than the one asked for")
            self._receive(url, response, part, size)

    def _receive(self, url: str, response: requests.Response, part: Part, size: int | None) -> None:
        length = response.headers.get("Content-Length", "")
        announced = part.size + int(length) if length.isdigit() else size
        if size not in (None, announced):
            kind = response.headers.get("Content-Type", "unknown type")
            raise UserError(f"wrong length: expected {size} bytes, {url} sends {announced} ({kind})")
        have = part.size
        for chunk in response.iter_content(CHUNK_BYTES):
            if self.stop.is_set():
                raise _Broken(self._reason)
            part.append(chunk)
            have += len(chunk)
            self._advance(len(chunk))
            if size is not None and have > size:
                raise UserError(f"wrong length: expected {size} bytes, {url} sends more")
        if announced is not None and have < announced:
            raise _Broken(f"the connection ended after {have} of {announced} bytes")

    def _restart(self, part: Part) -> None:
        self._advance(-part.size)
        part.clear()


def _in_words(error: requests.RequestException) -> str:
    """A network failure without the addresses of objects that requests would print."""
    if isinstance(error, requests.Timeout):
        limit = CONNECT_S if isinstance(error, requests.ConnectTimeout) else READ_S
        return f"no answer within {limit:g} s"
    cause = error.args[0] if error.args else error
    text = re.sub(r"^.*HTTPS?Connection.*?[>)]: ", "", str(getattr(cause, "reason", cause)))
    return "the connection was dropped" if "IncompleteRead" in text or "aborted" in text else text
