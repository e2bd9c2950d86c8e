"""Verbs of `bench` as processes that tests can kill: forked from a server that has imported everything already."""

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import yaml

TINY: dict[str, Any] = {
    "device": "cpu",
    "weights": "released",
    "methods": ["measurement", "tv"],
    "tasks": {"denoise_gray": {"dataset": "embedded_gray", "crop": 32, "sigmas_255": [25.0]}},
    "tuning": {
        "search": "budget",
        "evaluations": 6,
        "tasks": {"denoise_gray": {"dataset": "embedded_val_gray", "crop": 24}},
    },
    "tables": {"table1": {"caption": "Denoising", "tasks": ["denoise_gray"]}},
    "training": {
        "gray": {
            "datasets": ["embedded_train_gray"],
            "validation": "embedded_val_gray",
            "phases": [{"steps": 6, "lr": [5e-4, 1e-4]}],
            "batch": 1,
            "patch": 16,
            "outer": [1, 1],
            "algorithm": "fast",
            "cg_tol": 1e-1,
            "cg_iterations": 3,
            "validate_every": 3,
            "validation_crop": 16,
            "validation_tol": 1e-1,
            "checkpoint_every_s": 0.0,
        }
    },
}
"""A configuration whose every job takes about a second and needs no network."""
PRELOADED = ["bench.evaluate", "bench.tune", "bench.training_job", "bench.tables", "bench.layouts", "baselines.tv"]
PRELOADED += ["deal.training", "torch._dynamo", "PIL.PngImagePlugin"]  # else imported anew by every process


def server() -> ForkServerContext:
    """Where processes come from; torch keeps to one thread in them, as forked ones must."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def configure(folder: Path, **more: Any) -> Path:
    """Write TINY with results and cache in `folder`; the file's path."""
    path = folder / "tiny.yaml"
    values = TINY | {"results": str(folder / "results"), "cache": str(folder / "cache")} | more
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def bench(arguments: Sequence[str], log: str) -> None:
    """One verb in this process; what it says goes to the file `log`."""
    from bench.__main__ import main

    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.exit(main(arguments))


class Job:
    """A call that can be started again and again, in a process of its own each time."""

    def __init__(self, context: ForkServerContext, target: Callable[..., None], *arguments: Any) -> None:
        self.context, self.target, self.arguments = context, target, arguments

    def start(self) -> ForkServerProcess:
        process = self.context.Process(target=self.target, args=self.arguments)
        process.start()
        return process

    def run(self) -> float:
        """Run it to its end, which must be a good one; the seconds that it took."""
        started = time.monotonic()
        process = self.start()
        process.join(120)
        assert process.exitcode == 0, self.arguments
        return time.monotonic() - started

    def killed_at_random(self, kills: int, seed: int, seconds: float, again: Callable[[], None]) -> int:
        """SIGKILL it at so many seeded moments of its `seconds`, going on from what was left each time.

        `again` is called when it was faster than its killer: it checks what was made and clears it away, so that
        there is something to kill. Returns the number of kills, `kills`, of processes that were still at work.
        """
        draw, done = random.Random(seed), 0
        for _ in range(20 * kills):
            process = self.start()
            process.join(draw.uniform(0.05, 1.0) * seconds)
            if process.exitcode is None:
                process.kill()
                process.join(30)
            if process.exitcode == 0:
                again()
                continue
            assert process.exitcode == -9, self.arguments
            done += 1
            if done == kills:
                return done
        raise AssertionError(f"it was always faster than its killer: {done} kills")
