"""Seconds of one reconstruction: one method on one setting, measured alone on the machine.

Timed is the call of `reconstruct` and nothing else: data, weights and operator are there before. Each image is
reconstructed `warmup` times unmeasured where its shape is new (FFT plans, kernels that are chosen at the first call),
then `repeats` times between two synchronised readings of the clock. A killed job starts anew, since its halves would
be of two moments.
"""

import csv
import os
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench import registry, tasks
from bench.config import Config, evaluation_part
from bench.devices import select_device
from bench.evaluate import UnusableWeights, code_modules, find_hyperparameters, obstacle, set_up, timed
from bench.files import atomic
from bench.provenance import Record, device_name, driver, processor, versions

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
    reason, found = obstacle(config, task, instance, sigma, weights)
    if reason:
        _finish(output, [], record, missing=reason, data=described)
        return
    device = select_device(config.device)
    try:
        values = find_hyperparameters(config, task, setting, instance, hyperparameters)
        set_up(instance, task, sigma, found, device)
    except UnusableWeights as unusable:
        _finish(output, [], record, missing=str(unusable), data=described)
        return
    wanted = [n for n in (limits.images, config.subset_of(task)) if n is not None]
    items = kind.items(section, setting, Path(config.cache), min(wanted, default=None))
    rows, shapes = [], set()
    shared = {"task": task, "setting": setting, "dataset": described["dataset"], "method": method}
    for name, make in tqdm(items, f"time {task} {setting} {method}", unit="image"):
        item = make()
        unmeasured = 0 if item.y.shape in shapes else limits.warmup
        shapes.add(item.y.shape)
        for repeat in range(-unmeasured, limits.repeats):
            seconds = timed(instance, [item], device, values)[1]
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
        config=evaluation_part(config, task, setting, method),
        parameters=instance.parameters(),
        hyperparameters=values,
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    )


def _finish(output: Path, rows: list[dict[str, Any]], record: Record, **facts: Any) -> None:
    with atomic(output) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    record.write(output, **facts)
