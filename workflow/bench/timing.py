"""Seconds of one reconstruction: one method on one setting, measured alone on the machine.

Timed is the call of `reconstruct` and nothing else: data, weights and operator are there before. Each image is
reconstructed `warmup` times unmeasured where its shape is new (FFT plans, kernels that are chosen at the first call),
then `repeats` times between two synchronised readings of the clock. A killed job starts anew, since its halves would
be of two moments.
"""

import csv
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from bench import registry, tasks
from bench.config import Config
from bench.devices import select_device, synchronise
from bench.errors import UserError
from bench.evaluate import code_modules, find_hyperparameters, find_weights
from bench.files import atomic
from bench.provenance import Record, device_name, driver, processor, versions

if TYPE_CHECKING:
    from bench.registry import Method

COLUMNS = ("task", "setting", "dataset", "image", "method", "repeat", "seconds", "iterations")


def machine(device: torch.device) -> dict[str, Any]:
    """What a time depends on beside the method; times are compared only where all of it agrees."""
    return {
        "device": device_name(str(device)),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "driver": driver() if device.type == "cuda" else None,
        "torch": versions(["torch"])["torch"],
    }


def measure(
    config: Config,
    task: str,
    setting: str,
    method: str,
    output: Path,
    weights: Path | None = None,
    hyperparameters: Path | None = None,
) -> None:
    """Run one job and write the CSV `output`, one row a measured call, and its sidecar; arguments as for `evaluate`."""
    record = Record(["bench.timing", *code_modules(method)], config.digest())
    section, kind, limits = config.task(task), tasks.get(task), config.timing
    sigma = section.sigma(setting)  # an unknown setting ends here
    described = kind.data(section, Path(config.cache))
    instance = registry.create(method, config, setting)
    reason = None if instance.serves(task) else f"{instance.label} does not serve the task {task}"
    reason = reason or instance.unavailable(task, sigma)
    found = {} if reason else find_weights(config, task, instance, sigma, weights)
    reason = reason or next((entry["missing"] for entry in found.values() if "missing" in entry), None)
    if reason:
        _finish(output, [], record, missing=reason, data=described)
        return
    values = find_hyperparameters(config, task, setting, instance, hyperparameters)
    wanted = [n for n in (limits.images, config.subset_of(task)) if n is not None]
    items = kind.items(section, setting, Path(config.cache), min(wanted, default=None))
    device = select_device(config.device)
    instance.setup(task, sigma, {name: Path(entry["path"]) for name, entry in found.items()}, device)
    rows, shapes = [], set()
    shared = {"task": task, "setting": setting, "dataset": described["dataset"], "method": method}
    for name, make in tqdm(items, f"time {task} {setting} {method}", unit="image"):
        item = make()
        unmeasured = 0 if item.y.shape in shapes else limits.warmup
        shapes.add(item.y.shape)
        for repeat in range(-unmeasured, limits.repeats):
            seconds = _seconds(instance, item, device, values)
            if repeat >= 0:
                about = {"image": name, "repeat": repeat + 1, "iterations": instance.info.get("iterations")}
                rows.append(shared | about | {"seconds": round(seconds, 6)})
    _finish(
        output,
        rows,
        record,
        data=described,
        weights={name: entry["sha256"] for name, entry in found.items()},
        seed=section.seed,
        device=str(device),
        threads=torch.get_num_threads(),
        machine=machine(device),
        timing=limits.model_dump(mode="json"),
        hyperparameters=values,
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    )


def _seconds(method: "Method", item: tasks.Item, device: torch.device, values: dict[str, float]) -> float:
    """The time of one call."""
    y = item.y.to(device)
    truth = {"truth": item.x.to(device)} if method.oracle else {}
    method.info = {}
    synchronise(device)
    started = time.perf_counter()
    try:
        with torch.no_grad():
            method.reconstruct(y, item.operator, item.sigma, **values, **truth)
        synchronise(device)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{method.name} failed on image {item.image}: {type(error).__name__}: {reason}") from error
    return time.perf_counter() - started


def _finish(output: Path, rows: list[dict[str, Any]], record: Record, **facts: Any) -> None:
    with atomic(output) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    record.write(output, **facts)
