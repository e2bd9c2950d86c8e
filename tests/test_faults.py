"""Disks that refuse, two runs at once, clocks that lie, too little memory: one clear line, and nothing half-written."""

import csv
import errno
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jobs
import pytest
import torch
from tally import Tally

import deal
from baselines import Method
from bench import batches, evaluate, files, holder, registry
from bench.__main__ import main
from bench.config import Config
from bench.configfile import load
from bench.errors import UserError
from deal.weights import WeightsError

EVALUATE = ["evaluate", "--task", "denoise_gray", "--setting", "sigma25", "--method", "measurement"]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line in which a verb ends."""
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in "".join(lines)
    return errors[0]


def left_in(folder: Path) -> list[str]:
    """Files that are whole or pretend to be: all but progress and locks."""
    kept = (".jsonl", ".lock")
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(kept))


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB that can be filled and made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, leave: int = 0) -> None:
    """Use the disk up, but for `leave` bytes."""
    with (folder / "filler").open("wb", buffering=0) as handle:
        try:
            while handle.write(b"\0" * 4096):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC
        handle.truncate(handle.tell() - leave)


def verbs(results: Path, config: Path) -> dict[str, list[str]]:
    """One command of each kind that writes into `results`."""
    state = results / "training"
    return {
        "evaluate": [*EVALUATE, "--output", str(results / "evaluate/denoise_gray/sigma25/measurement.csv")],
        "tune": ["tune", *EVALUATE[1:-1], "tv", "--output", str(results / "tuning/denoise_gray/sigma25/tv.csv")],
        "pack": ["pack", "--kind", "gray", "--output", str(state / "gray_images.safetensors")],
        "time": ["time", *EVALUATE[1:], "--output", str(results / "timing/denoise_gray/sigma25/measurement.csv")],
        "weights": ["weights", "--task", "denoise_gray", "--method", "deal", "--output", str(results / "weights.json")],
    }


@pytest.mark.parametrize("verb", verbs(Path(), Path()))
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_refuses(
    disk: Path, tmp_path: Path, verb: str, how: str, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    results, config = disk / "results", jobs.configure(tmp_path, results=str(disk / "results"))
    if how == "full":
        fill(disk)
        complaint = "No space left on device|file too large|no space"
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        complaint = "Read-only file system"
    line = refused([*verbs(results, config)[verb], "--config", str(config)], capsys)
    assert re.search(complaint, line, re.IGNORECASE)
    assert str(disk) in line
    assert [name for name in left_in(disk) if name != "filler"] == []
    tally("disk", how)
    # With room again the same command ends well.
    subprocess.run(["mount", "-o", "remount,rw,size=8m", disk], check=True)
    assert main([*verbs(results, config)[verb], "--config", str(config)]) == 0


def test_a_disk_that_fills_during_a_training(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    config, images = jobs.configure(tmp_path, results=str(disk / "results")), tmp_path / "images.safetensors"
    assert main(["pack", "--kind", "gray", "--output", str(images), "--config", str(config)]) == 0
    words = ["train", "--kind", "gray", "--images", str(images), "--config", str(config)]
    words += ["--output", str(disk / "results/training/gray.safetensors")]
    line = refused(words, capsys)  # a checkpoint takes more than the 200 kB
    assert "cannot write" in line and str(disk) in line
    assert not list(disk.glob("results/training/*.safetensors"))
    subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
    assert main(words) == 0
    tally("disk", "full")


def test_a_limit_on_file_sizes(tmp_path: Path, tally: Tally) -> None:
    """As a quota on one file; for those who cannot mount."""
    config, images = jobs.configure(tmp_path), tmp_path / "results/images.safetensors"
    words = ["pack", "--kind", "gray", "--output", str(images), "--config", str(config)]

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    command = [sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2
    assert "File too large" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert left_in(tmp_path / "results") == []
    tally("disk", "limited file size")


def bound_by_permissions() -> list[str]:
    """What to put before a command that must not write where it is not allowed to: root gives up that right."""
    if os.geteuid():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may write anywhere, and there is no setpriv to change that")
    return [setpriv, "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]


def test_a_folder_of_somebody_else(tmp_path: Path, tally: Tally) -> None:
    config = jobs.configure(tmp_path)
    (tmp_path / "results").mkdir(mode=0o555)
    words = [*verbs(tmp_path / "results", config)["weights"], "--config", str(config)]
    command = [*bound_by_permissions(), sys.executable, "-m", "bench", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Permission denied" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert left_in(tmp_path / "results") == []
    tally("disk", "forbidden")


def test_what_a_killed_process_had_begun_is_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = os.uname().nodename
    stale, living = (tmp_path / f".x[1].json.{host}-{pid}.part" for pid in (dead.pid, os.getppid()))
    elsewhere = tmp_path / f".x[1].json.another-{dead.pid}.part"
    for path in (stale, living, elsewhere):
        path.write_text("{")
    files.write_json(tmp_path / "x[1].json", {})
    assert {path.name for path in tmp_path.iterdir()} == {living.name, elsewhere.name, "x[1].json"}


# Two at once


def test_two_runs_of_one_job(tmp_path: Path, tally: Tally) -> None:
    """The second one waits, then finds everything done."""
    config, log = jobs.configure(tmp_path), tmp_path / "log"
    output = tmp_path / "results/evaluate/denoise_gray/sigma25/tv.csv"
    words = ["evaluate", *EVALUATE[1:-1], "tv", "--output", str(output), "--config", str(config)]
    job = jobs.Job(jobs.server(), jobs.bench, words, str(log))
    running = [job.start() for _ in range(3)]
    for process in running:
        process.join(120)
        assert process.exitcode == 0, log.read_text()
    (state,) = (tmp_path / "results/.state/evaluate/denoise_gray/sigma25").glob("*.jsonl")
    rows = [json.loads(line) for line in state.read_text().splitlines()]
    assert len({row["image"] for row in rows}) == len(rows) == 3, "an image was computed twice"
    assert len(output.read_text().splitlines()) == 4
    tally("other", "runs of one job at once", 3)


def test_the_second_one_says_that_it_waits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, order = tmp_path / "job.lock", []
    with files.locked(path):

        def second() -> None:
            with files.locked(path):
                order.append("second")

        thread = threading.Thread(target=second)
        thread.start()
        deadline = time.monotonic() + 20
        while "waiting for it" not in (text := capfd.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert "another process does the same job" in text and str(path) in text
    assert order == ["first", "second"]


def test_a_file_system_without_locks_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(handle: object, flags: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with files.locked(tmp_path / "x"):
        pass


# The lock of a killed Snakemake


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.output.lock").write_text("results/x\n")
    return tmp_path


def locks(folder: Path) -> list[str]:
    return [path.name for path in (folder / ".snakemake/locks").iterdir()]


def test_the_lock_of_a_killed_run_is_removed(folder: Path, capsys: pytest.CaptureFixture[str], tally: Tally) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from bench import holder; import time; holder.take(); time.sleep(99)"]
    )
    deadline = time.monotonic() + 60
    while not holder.HOLDER.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not holder.release_dead() and locks(folder), "the run is alive"
    process.kill()
    process.wait()
    assert holder.release_dead() and not locks(folder)
    assert f"the run of process {process.pid} was killed" in capsys.readouterr().err
    assert not holder.release_dead(), "there is nothing left to do"
    tally("other", "locks of killed runs removed")


@pytest.mark.parametrize("change", [{"host": "another"}, {"namespace": "pid:[1]"}, None])
def test_the_lock_of_others_is_left(folder: Path, change: dict | None) -> None:
    holder.take()
    held = json.loads(holder.HOLDER.read_text()) | {"pid": 2**22 + 1}
    holder.HOLDER.write_text(json.dumps(held | change) if change else "{")
    assert not holder.release_dead()
    assert locks(folder)


def test_a_process_with_the_same_number_is_another_one(folder: Path) -> None:
    holder.take()
    held = json.loads(holder.HOLDER.read_text())
    holder.HOLDER.write_text(json.dumps(held | {"started": "1"}))
    assert holder.release_dead()
    holder.take()
    holder.give_back()
    assert not holder.HOLDER.exists()


# Clocks


def test_a_converted_checkpoint_follows_the_content_not_the_clock(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "deal_gray.pth", tmp_path / "deal_gray.safetensors"
    for seed, shift in ((0, 0), (1, -(10**9)), (2, 10**9)):  # written now, in the past, in the future
        torch.manual_seed(seed)
        model = deal.DEAL("gray")
        deal.weights.write_official(model, source)
        os.utime(source, (time.time() + shift,) * 2)
        converted = deal.load(registry._converted(source, target))
        assert torch.equal(converted.W.weights[0], model.W.weights[0]), "the weights of another checkpoint"
        tally("other", "clocks that lie")
    made = registry._converted(source, target)
    written = made.stat().st_mtime_ns
    assert registry._converted(source, target).stat().st_mtime_ns == written, "nothing had changed"
    monkeypatch.setattr(registry, "code_digest", lambda modules: "another")
    again = registry._converted(source, target)
    assert again != made and again.is_file(), "a mended conversion is made anew"


@pytest.mark.parametrize("shift", [-(10**8), 10**8])
def test_progress_does_not_depend_on_the_clock(tmp_path: Path, shift: int, tally: Tally) -> None:
    config = load([jobs.configure(tmp_path)])
    output = tmp_path / "results/evaluate/denoise_gray/sigma25/measurement.csv"
    evaluate.evaluate(config, "denoise_gray", "sigma25", "measurement", output)
    before = output.read_bytes()
    for path in (tmp_path / "results").rglob("*"):
        os.utime(path, (time.time() + shift,) * 2)
    evaluate.evaluate(config, "denoise_gray", "sigma25", "measurement", output)
    assert output.read_bytes() == before
    tally("other", "clocks that lie")


# Memory


class Hungry(Method):
    """Takes at most `most` images at once."""

    name = "tv"
    label = "Hungry"
    tasks = ("denoise_gray",)
    batches = True
    most = 2

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def reconstruct(self, y: torch.Tensor, operator: object, sigma: float) -> torch.Tensor:
        self.sizes.append(len(y))
        if len(y) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return y


@pytest.fixture
def hungry(monkeypatch: pytest.MonkeyPatch) -> Hungry:
    method = Hungry()
    monkeypatch.setattr(registry, "create", lambda name, config, setting="": method)
    return method


def rows(config: Config) -> list[dict[str, str]]:
    output = Path(config.results) / "evaluate/denoise_gray/sigma25/tv.csv"
    evaluate.evaluate(config, "denoise_gray", "sigma25", "tv", output)
    with output.open(newline="") as handle:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(handle)]


def batched(tmp_path: Path, batch: int) -> Config:
    tmp_path.mkdir(exist_ok=True)
    return load([jobs.configure(tmp_path, batch=batch)])


def test_a_batch_that_does_not_fit_is_halved(
    hungry: Hungry, tmp_path: Path, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    one_by_one = rows(batched(tmp_path / "one", 1))
    assert hungry.sizes == [1, 1, 1]
    hungry.sizes.clear()
    assert rows(batched(tmp_path / "three", 3)) == one_by_one
    assert hungry.sizes == [3, 1, 1, 1]
    assert "out of memory with 3 images at once: going on with 1" in capsys.readouterr().err
    hungry.most, hungry.sizes = 3, []
    assert rows(batched(tmp_path / "fits", 3)) == one_by_one
    assert hungry.sizes == [3]
    tally("other", "batches halved")


def test_one_image_that_does_not_fit_is_one_line(hungry: Hungry, tmp_path: Path) -> None:
    hungry.most = 0
    with pytest.raises(UserError, match=r"tv failed on image \w+: too little memory on the cpu; .*device=cpu"):
        rows(batched(tmp_path, 4))


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_what_counts_as_too_little_memory(error: Exception, memory: bool) -> None:
    assert batches.is_out_of_memory(error) == memory


def test_images_of_other_sizes_or_operators_are_not_mixed() -> None:
    from bench.items import Item

    def item(name: str, width: int, alike: object) -> tuple:
        x = torch.zeros(1, 1, 4, width)
        return name, lambda: Item(name, x, x, None, 0.1, alike=alike)

    seen: list[str] = []

    def solve(part: list[Item]) -> list[dict]:
        seen.append("".join(found.image for found in part))
        return [{"image": found.image} for found in part]

    sources = [item("a", 4, 1), item("b", 5, 1), item("c", 4, 2), item("d", 4, 1), item("e", 4, None), item("f", 5, 1)]
    done = [row["image"] for row in batches.Batches(2, solve).rows(sources)]
    assert seen == ["ad", "e", "bf", "c"]
    assert sorted(done) == list("abcdef")


# A training by several processes


def test_a_training_shared_by_processes(tmp_path: Path) -> None:
    """torchrun inside the job, on the CPU here: every step is made once, by both, and one of them writes."""
    values = jobs.TINY["training"]["gray"] | {"batch": 2}
    config, images = jobs.configure(tmp_path, training={"gray": values}), tmp_path / "images.safetensors"
    assert main(["pack", "--kind", "gray", "--output", str(images), "--config", str(config)]) == 0
    output = tmp_path / "gray.safetensors"
    words = ["train", "--kind", "gray", "--images", images, "--output", output, "--processes", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "bench", *words, "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(output.with_suffix(".json").read_text())["processes"] == 2
    with output.with_suffix(".log.csv").open(newline="") as handle:
        assert [row["step"] for row in csv.DictReader(handle)] == list("123456")
    assert all(torch.isfinite(value).all() for value in deal.load(output).state_dict().values())


# What is used is what was found


def test_weights_that_were_swapped_are_noticed(tmp_path: Path, tally: Tally) -> None:
    config = batched(tmp_path, 1).model_copy(update={"weights": str(tmp_path / "mine")})
    (tmp_path / "mine").mkdir()
    for kind in ("gray", "color"):
        shutil.copyfile(deal.weights.find(kind), tmp_path / f"mine/{kind}.safetensors")
    found, method = tmp_path / "weights.json", registry.create("deal", config)
    registry.prepare(config, "denoise_gray", "deal", found)
    assert evaluate.find_weights(config, "denoise_gray", method, 0.1, found)
    shutil.copyfile(deal.weights.find("color"), tmp_path / "mine/gray.safetensors")
    with pytest.raises(UserError, match=r"gray\.safetensors: is not the file that .* names by its sha256"):
        evaluate.find_weights(config, "denoise_gray", method, 0.1, found)
    (tmp_path / "mine/gray.safetensors").unlink()
    with pytest.raises(UserError, match="are gone"):
        evaluate.find_weights(config, "denoise_gray", method, 0.1, found)
    for text in ("", "[]", '{"deal_gray": 3}', '{"deal_gray": {"path": "x"}}'):
        found.write_text(text)
        with pytest.raises(UserError):
            evaluate.find_weights(config, "denoise_gray", method, 0.1, found)
    tally("hostile", "swapped or damaged weights", 6)
    with pytest.raises(WeightsError):
        deal.load(tmp_path / "nowhere.safetensors")
