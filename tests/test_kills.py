"""SIGKILL at random, seeded moments: whatever was going on, going on again ends in the same bytes."""

import csv
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import ForkServerContext
from pathlib import Path

import jobs
import pytest
from tally import Tally

from bench import fetch

KILLS = 5  # of each kind of job; there are five kinds


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    return jobs.server()


def survive(job: jobs.Job, made: Callable[[], dict[str, bytes]], clear: Callable[[], None], seed: int) -> int:
    """Run `job` once for reference, kill it at random moments, let it end: the same is `made`. The number of kills."""
    job.run()
    clear()
    seconds = job.run()  # the second time nothing has to be imported or drawn up first
    whole = made()
    assert whole

    def again() -> None:
        assert made() == whole
        clear()

    clear()
    kills = job.killed_at_random(KILLS, seed, seconds, again)
    half = made()
    assert all(half[name] == whole[name] for name in half), "a file appeared that is not whole"
    job.run()
    assert made() == whole
    return kills


def without_times(path: Path) -> bytes:
    """A CSV without its seconds, which no two runs share."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(handle)]
    return json.dumps(rows).encode()


def no_parts(folder: Path) -> None:
    """Nothing that a killed process had begun is left."""
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]


def test_evaluation(context: ForkServerContext, tmp_path: Path, tally: Tally) -> None:
    config, results = jobs.configure(tmp_path), tmp_path / "results"
    output = results / "evaluate/denoise_gray/sigma25/tv.csv"
    words = ["evaluate", "--task", "denoise_gray", "--setting", "sigma25", "--method", "tv"]
    words += ["--output", str(output), "--config", str(config)]
    job = jobs.Job(context, jobs.bench, words, str(tmp_path / "log"))

    def made() -> dict[str, bytes]:
        return {"rows": without_times(output)} if output.exists() else {}

    tally("kill", "evaluation", survive(job, made, lambda: shutil.rmtree(results), seed=1))
    assert len(json.loads(without_times(output))) == 3
    no_parts(results)


def test_tuning(context: ForkServerContext, tmp_path: Path, tally: Tally) -> None:
    config, results = jobs.configure(tmp_path), tmp_path / "results"
    output = results / "tuning/denoise_gray/sigma25/tv.csv"
    words = ["tune", "--task", "denoise_gray", "--setting", "sigma25", "--method", "tv"]
    words += ["--output", str(output), "--config", str(config)]
    job = jobs.Job(context, jobs.bench, words, str(tmp_path / "log"))

    def made() -> dict[str, bytes]:
        chosen, found = output.with_suffix(".json"), {}
        if output.exists():
            found["trace"] = without_times(output)
        if chosen.exists():
            found["chosen"] = json.dumps(json.loads(chosen.read_bytes())["hyperparameters"]).encode()
        return found

    tally("kill", "tuning", survive(job, made, lambda: shutil.rmtree(results), seed=2))
    no_parts(results)


def test_training(context: ForkServerContext, tmp_path: Path, tally: Tally) -> None:
    config, results = jobs.configure(tmp_path), tmp_path / "results"
    images, output = tmp_path / "images.safetensors", results / "training/gray.safetensors"
    log = str(tmp_path / "log")
    pack = ["pack", "--kind", "gray", "--output", str(images), "--config", str(config)]
    jobs.Job(context, jobs.bench, pack, log).run()
    words = ["train", "--kind", "gray", "--images", str(images), "--output", str(output), "--config", str(config)]
    job = jobs.Job(context, jobs.bench, words, log)

    def made() -> dict[str, bytes]:
        history = output.with_suffix(".log.csv")
        found = {"weights": output.read_bytes()} if output.exists() else {}
        return found | ({"history": without_times(history)} if history.exists() else {})

    tally("kill", "training", survive(job, made, lambda: shutil.rmtree(results), seed=3))
    assert len(json.loads(without_times(output.with_suffix(".log.csv")))) == 6


def test_rendering(context: ForkServerContext, tmp_path: Path, tally: Tally) -> None:
    config, results, log = jobs.configure(tmp_path), tmp_path / "results", str(tmp_path / "log")
    for method in ("measurement", "tv"):
        words = ["evaluate", "--task", "denoise_gray", "--setting", "sigma25", "--method", method]
        output = results / f"evaluate/denoise_gray/sigma25/{method}.csv"
        jobs.Job(context, jobs.bench, [*words, "--output", str(output), "--config", str(config)], log).run()
    job = jobs.Job(context, jobs.bench, ["table", "table1", "--config", str(config)], log)
    tables = results / "tables"

    def made() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tables.glob("table1*")}

    tally("kill", "rendering", survive(job, made, lambda: shutil.rmtree(tables), seed=4))
    no_parts(results)


CONTENT = {f"/{name}.png": bytes([name]) * 300_000 for name in range(4)}


class Slow(BaseHTTPRequestHandler):
    """Sends CONTENT in small pieces; knows ranges."""

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        body, wanted = CONTENT[self.path], self.headers["Range"]
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        for start in range(first, len(body), 20_000):
            self.wfile.write(body[start : start + 20_000])
            time.sleep(0.01)


class SlowServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Killed clients are the test."""


@pytest.fixture
def slow() -> Iterator[str]:
    server = SlowServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def download(files: list[str], cache: str) -> None:
    """In a process of its own."""
    fetch.download([fetch.File.model_validate_json(text) for text in files], Path(cache), mirror=None, jobs=2)


def test_download(context: ForkServerContext, slow: str, tmp_path: Path, tally: Tally, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("DEAL_MIRROR", raising=False)
    files = [
        fetch.File(name=path[1:], url=slow + path, sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))
        for path, body in CONTENT.items()
    ]
    cache = tmp_path / "cache"
    job = jobs.Job(context, download, [file.model_dump_json() for file in files], str(cache))

    def made() -> dict[str, bytes]:
        return {file.name: file.path(cache).read_bytes() for file in files if file.path(cache).exists()}

    tally("kill", "download", survive(job, made, lambda: shutil.rmtree(cache), seed=5))
    assert made() == {path[1:]: body for path, body in CONTENT.items()}
    no_parts(tmp_path)
