"""Downloads against a server that misbehaves: right bytes under the name, or nothing and one clear line."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tally import Tally

from bench import fetch, transfer
from bench.errors import UserError
from bench.fetch import File, download

CONTENT = bytes(range(256)) * 1200
HALF = 2 * transfer.CHUNK_BYTES  # what has come of a chunk when the connection drops is lost


class Server(ThreadingHTTPServer):
    """Serves `contents[path]`, in the manner of `manners[path]`, and writes down what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.manners: dict[str, str] = {}
        self.asked: dict[str, list[str | None]] = defaultdict(list)  # path → the Range header of each request
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def offer(self, path: str, content: bytes = CONTENT, manner: str = "plain", pinned: bool = True) -> File:
        """Serve `content` at `path`; the registry's line for it."""
        self.contents[path], self.manners[path] = content, manner
        known = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} if pinned else {}
        return File(name=path.rpartition("/")[2], url=self.url + path, **known)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        server, path = self.server, self.path
        wanted = self.headers["Range"]
        server.asked[path].append(wanted)
        count, manner = len(server.asked[path]), server.manners.get(path, "absent")
        content = server.contents.get(path, b"")
        if manner == "absent":
            self.send_error(404)
        elif manner == "busy" or (manner == "busy once" and count == 1):
            self.send_error(503)
        elif manner == "forbidden":
            self.send_error(401)
        elif manner.startswith("redirect "):
            self.send_response(302)
            self.send_header("Location", manner.split()[1])
            self.end_headers()
        elif manner == "web page":
            self.answer(200, b"<!DOCTYPE html><title>Please log in</title>")
        elif manner == "no length":  # ends early, and nothing in the headers says so
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content[:HALF])
        elif (manner in ("drop", "ignore range") and count == 1) or manner == "drop always":
            self.answer(200, content, upto=HALF)
        elif manner == "stall" and count == 1:
            self.answer(200, content, upto=HALF)
            self.wfile.flush()
            server.release.wait(30)
        elif manner == "other range":
            self.answer(206 if wanted else 200, content, extra={"Content-Range": f"bytes 7-9/{len(content)}"})
        else:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            same = self.headers["If-Range"] in (None, etag)
            if not wanted or not same or manner == "ignore range":
                self.answer(200, content, extra={"ETag": etag})
                return
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                self.send_error(416)
                return
            extra = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
            self.answer(206, content[first:], extra=extra)

    def answer(self, status: int, body: bytes, upto: int | None = None, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        etag = f'"{hashlib.sha256(self.server.contents.get(self.path, b"")).hexdigest()}"'
        for key, value in ({"ETag": etag} | (extra or {})).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:upto])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transfer, "BACKOFF_S", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("DEAL_MIRROR", raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def part_of(file: File, cache: Path) -> Path:
    target = file.path(cache)
    return target.with_name(f".{target.name}.part")


# Downloads that end well


@pytest.mark.parametrize(
    ("manner", "requests"),
    [
        ("plain", [None]),
        ("busy once", [None, None]),
        ("drop", [None, f"bytes={HALF}-"]),
        ("ignore range", [None, f"bytes={HALF}-"]),
    ],
)
def test_right_bytes_arrive(
    server: Server, tmp_path: Path, manner: str, requests: list[str | None], tally: Tally
) -> None:
    file = server.offer("/a/b.png", manner=manner)
    (path,) = download([file], tmp_path)
    assert path == tmp_path / server.url.removeprefix("http://") / "a/b.png"
    assert path.read_bytes() == CONTENT
    assert files_in(tmp_path) == {file.location}
    assert server.asked["/a/b.png"] == requests
    tally("server", "drops, stalls, busy and odd answers overcome")


def test_redirects_to_http_are_followed(server: Server, tmp_path: Path) -> None:
    server.offer("/there/x.png")
    file = server.offer("/x.png", manner=f"redirect {server.url}/there/x.png")
    assert download([file], tmp_path)[0].read_bytes() == CONTENT


def test_many_files_come_in_the_order_asked_for(server: Server, tmp_path: Path) -> None:
    files = [server.offer(f"/{number}.png", f"image {number}".encode()) for number in range(30)]
    paths = download(files, tmp_path, jobs=4)
    assert [path.read_bytes() for path in paths] == [f"image {number}".encode() for number in range(30)]


def test_verified_files_are_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    file = server.offer("/x.png")
    download([file], tmp_path)
    download([file], tmp_path)
    assert server.asked["/x.png"] == [None]


def test_a_damaged_file_in_the_cache_is_fetched_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = server.offer("/x.png")
    (path,) = download([file], tmp_path)
    path.write_bytes(CONTENT[:-1] + b"!")
    with caplog.at_level(logging.WARNING):
        download([file], tmp_path)
    assert path.read_bytes() == CONTENT
    assert "x.png is damaged" in caplog.text


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (CONTENT[:1000], ["bytes=1000-"]),
        (CONTENT, []),  # killed between the last byte and the renaming
        (CONTENT + b"more", [None]),
        (
            b"?" * 1000,
            ["bytes=1000-", None],
        ),  # bytes of something else: noticed by the hash, once more from zero
        (b"?" * len(CONTENT), [None]),
    ],
)
def test_a_part_left_behind_is_used_or_replaced(
    server: Server, tmp_path: Path, left: bytes, asked: list[str | None]
) -> None:
    file = server.offer("/x.png")
    part = part_of(file, tmp_path)
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert download([file], tmp_path)[0].read_bytes() == CONTENT
    assert server.asked["/x.png"] == asked
    assert files_in(tmp_path) == {file.location}


def test_a_range_that_was_not_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    file = server.offer("/x.png", manner="other range")
    part = part_of(file, tmp_path)
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    assert download([file], tmp_path)[0].read_bytes() == CONTENT
    assert server.asked["/x.png"] == ["bytes=1000-", None]


def test_kill_and_run_again(server: Server, tmp_path: Path) -> None:
    file = server.offer("/x.png", manner="stall")
    program = (
        "import sys; from pathlib import Path; from bench.fetch import File, download; "
        "download([File.model_validate_json(sys.argv[1])], Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, file.model_dump_json(), str(tmp_path)])
    part = part_of(file, tmp_path)
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size == HALF):
        assert process.poll() is None and time.monotonic() < deadline, "the download never came to its middle"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert files_in(tmp_path) == {part.relative_to(tmp_path).as_posix()}
    server.release.set()
    assert download([file], tmp_path)[0].read_bytes() == CONTENT
    assert server.asked["/x.png"] == [None, f"bytes={HALF}-"]
    assert files_in(tmp_path) == {file.location}


def test_two_downloads_of_one_file_at_once(server: Server, tmp_path: Path) -> None:
    file = server.offer("/x.png", manner="stall")
    threads = [threading.Thread(target=download, args=([file], tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while not server.asked["/x.png"] and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert server.asked["/x.png"] == [None]  # the second one waits for the first
    server.release.set()
    for thread in threads:
        thread.join()
    assert file.path(tmp_path).read_bytes() == CONTENT
    assert files_in(tmp_path) == {file.location}


# Downloads that must not end well


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("absent", "answers 404"),
        ("forbidden", "answers 401"),
        ("web page", f"wrong length: expected {len(CONTENT)} bytes"),
        ("redirect file:///etc/hostname", "other than http or https: refused"),
        ("redirect ftp://127.0.0.1/x.png", "other than http or https: refused"),
    ],
)
def test_wrong_answers_leave_nothing(server: Server, tmp_path: Path, manner: str, message: str, tally: Tally) -> None:
    file = server.offer("/x.png", manner=manner)
    with pytest.raises(UserError, match=r"/x\.png") as caught:
        download([file], tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == set()
    assert len(server.asked["/x.png"]) == 1  # trying again would not mend it
    tally("server", "wrong answers refused")


@pytest.mark.parametrize("manner", ["busy", "drop always", "no length"])
def test_what_does_not_get_better_is_given_up(server: Server, tmp_path: Path, manner: str, tally: Tally) -> None:
    file = server.offer("/x.png", manner=manner)
    with pytest.raises(UserError, match="DEAL_MIRROR"):
        download([file], tmp_path)
    assert not file.path(tmp_path).exists()
    assert len(server.asked["/x.png"]) <= transfer.ATTEMPTS + 1
    tally("server", "servers given up")


def test_other_bytes_of_the_right_length(server: Server, tmp_path: Path, tally: Tally) -> None:
    file = server.offer("/x.png")
    other = CONTENT[:-1] + b"!"
    server.contents["/x.png"] = other
    with pytest.raises(UserError) as caught:
        download([file], tmp_path)
    message = str(caught.value)
    assert "x.png" in message
    assert f"expected sha256 {file.sha256} ({len(CONTENT)} bytes)" in message
    assert f"found {hashlib.sha256(other).hexdigest()} ({len(CONTENT)} bytes)" in message
    assert files_in(tmp_path) == set()
    tally("server", "wrong answers refused")


def test_one_bad_file_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    files = [server.offer(f"/{number}.png", f"image {number}".encode()) for number in range(6)]
    server.manners["/1.png"] = server.manners["/4.png"] = "absent"
    with pytest.raises(UserError, match=r"/1\.png.*404.*; 1 other file could not be had either"):
        download(files, tmp_path, jobs=2)
    assert files_in(tmp_path) == {files[number].location for number in (0, 2, 3, 5)}


def test_offline_is_one_line_and_soon_over(server: Server, tmp_path: Path) -> None:
    files = [server.offer(f"/{number}.png") for number in range(100)]
    files = [File(name=file.name, url=f"http://127.0.0.1:9/{file.name}", sha256=file.sha256) for file in files]
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        download(files, tmp_path)
    message = str(caught.value)
    assert "cannot download http://127.0.0.1:9/0.png" in message
    assert "99 other files" in message
    assert "DEAL_MIRROR" in message
    assert "refused" in message
    assert "0x" not in message and "\n" not in message
    assert files_in(tmp_path) == set()
    assert time.monotonic() - started < 10


def test_a_server_that_never_answers_is_given_up_for_all_files(server: Server, tmp_path: Path) -> None:
    files = [server.offer(f"/{number}.png", manner="busy") for number in range(100)]
    with pytest.raises(UserError, match=r"0\.png: the server answers 503 .*; 99 other files"):
        download(files, tmp_path, jobs=4)
    assert sum(map(len, server.asked.values())) <= 4 * transfer.ATTEMPTS


def test_a_full_disk_is_one_line(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: transfer.Part, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    file = server.offer("/x.png")
    monkeypatch.setattr(transfer.Part, "append", full)
    with pytest.raises(UserError, match=r"cannot write .*x\.png: No space left"):
        download([file], tmp_path)
    assert files_in(tmp_path) == set()


# Mirrors


def put(mirror: Path, file: File, content: bytes) -> None:
    path = mirror / file.location
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_mirror_folder_is_asked_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    there, elsewhere = server.offer("/there.png"), server.offer("/elsewhere.png")
    put(tmp_path / "mirror", there, CONTENT)
    if how == "environment":
        monkeypatch.setenv("DEAL_MIRROR", str(tmp_path / "mirror"))
    argument = str(tmp_path / "mirror") if how == "argument" else None
    paths = download([there, elsewhere], tmp_path / "cache", argument)
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert server.asked == {"/elsewhere.png": [None]}


def test_a_mirror_url_is_asked_first(server: Server, tmp_path: Path) -> None:
    origin, host = server.url, server.url.removeprefix("http://")
    there, elsewhere = server.offer("/there.png"), server.offer("/elsewhere.png")
    server.contents[f"/mirror/{host}/there.png"] = CONTENT
    server.manners[f"/mirror/{host}/there.png"] = "plain"
    paths = download([there, elsewhere], tmp_path, f"{origin}/mirror/")
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert set(server.asked) == {
        f"/mirror/{host}/there.png", f"/mirror/{host}/elsewhere.png", "/elsewhere.png"
    }  # fmt: skip


def test_a_wrong_file_in_the_mirror_is_an_error(server: Server, tmp_path: Path) -> None:
    file = server.offer("/x.png")
    put(tmp_path / "mirror", file, b"bad")
    with pytest.raises(UserError) as caught:
        download([file], tmp_path / "cache", str(tmp_path / "mirror"))
    message = str(caught.value)
    assert str(tmp_path / "mirror" / file.location) in message
    assert file.sha256 in message
    assert hashlib.sha256(b"bad").hexdigest() in message
    assert server.asked == {}
    assert files_in(tmp_path / "cache") == set()


def test_a_mirror_that_does_not_exist_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the mirror .*nowhere"):
        download([server.offer("/x.png")], tmp_path, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="the mirror ftp://host"):
        download([server.offer("/x.png")], tmp_path, "ftp://host")


def test_a_cache_serves_as_mirror(server: Server, tmp_path: Path) -> None:
    file = server.offer("/x.png")
    download([file], tmp_path / "one")
    download([file], tmp_path / "two", str(tmp_path / "one"))
    assert files_in(tmp_path / "two") == {file.location}
    assert server.asked["/x.png"] == [None]


# Files whose hash the registry does not know


def test_an_unknown_hash_is_recorded_and_binding(server: Server, tmp_path: Path) -> None:
    file = server.offer("/w.pth", pinned=False)
    (path,) = download([file], tmp_path)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert (path.parent / "w.pth.sha256").read_text() == f"{sha256}  w.pth\n"
    assert files_in(tmp_path) == {file.location, f"{file.location}.sha256"}
    server.contents["/w.pth"] = b"another version"
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"expected sha256 {sha256}, found"):
        download([file], tmp_path)
    assert not path.exists() or path.read_bytes() == b"damaged"
    server.contents["/w.pth"] = CONTENT
    assert download([file], tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.parametrize("manner", ["web page", "pointer", "empty"])
def test_an_unknown_hash_does_not_make_everything_welcome(
    server: Server, tmp_path: Path, manner: str, tally: Tally
) -> None:
    content = {"pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "empty": b""}.get(
        manner, CONTENT
    )
    file = server.offer("/w.pth", content, manner, pinned=False)
    with pytest.raises(UserError, match=r"w\.pth"):
        download([file], tmp_path)
    assert files_in(tmp_path) == set()
    tally("server", "wrong answers refused")


@pytest.mark.parametrize("changed", [False, True])
def test_without_a_hash_two_versions_are_not_mixed(server: Server, tmp_path: Path, changed: bool) -> None:
    file = server.offer("/w.pth", manner="drop always", pinned=False)
    with pytest.raises(UserError, match="connection"):
        download([file], tmp_path)
    assert part_of(file, tmp_path).stat().st_size == HALF
    now = CONTENT[::-1] if changed else CONTENT
    server.contents["/w.pth"], server.manners["/w.pth"] = now, "plain"
    server.asked.clear()
    assert download([file], tmp_path)[0].read_bytes() == now
    assert server.asked["/w.pth"] == [f"bytes={HALF}-"]
    assert files_in(tmp_path) == {file.location, f"{file.location}.sha256"}


# The description of a file


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x.png",
        "file:///x.png",
        "https://host/../x.png",
        "https://host/a/./x.png",
        "https://user@host/x.png",
        "https://host/x.png?raw=1",
        "https://host",
        "scikit-image:../x.png",
    ],
)
def test_urls_that_would_leave_the_cache_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        File(name="x.png", url=url)


def test_a_transfer_error_is_told_in_words() -> None:
    assert fetch.download([], Path("unused")) == []
    with pytest.raises(UserError, match="jobs must be at least 1"):
        download([], Path("unused"), jobs=0)
