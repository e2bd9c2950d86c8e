"""What a method's quality costs: PSNR against parameters and against seconds."""

from typing import Any

import numpy as np
import torch

from bench import registry
from bench.config import Config
from bench.evaluate import find_weights, set_up
from bench.figure_data import NotShown, tabled

PROBLEMS = {}
TABLES = ("table1",)


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Meta `rows`: column, method, mean PSNR, median seconds, parameters (None: holds none); no arrays but `psnr`."""
    results = tabled.read(config, TABLES[0])
    counts: dict[tuple[str, str, str], int] = {}
    rows = []
    for (task, setting, method), result in results.items():
        if not result.rows:
            continue
        values = tabled.psnr(result)
        key = (task, setting, method)
        counts[key] = parameters(config, *key)
        rows.append(
            {
                "column": tabled.title(config, task, setting),
                "label": registry.entry(method).label,
                "psnr": float(values.mean()),
                "images": len(values),
                "seconds": tabled.seconds(result),
                "parameters": counts[key] or None,
                "device": result.sidecar.get("device"),
            }
        )
    if not rows:
        raise NotShown(f"{TABLES[0]} has no results to draw")
    images = sorted({row["images"] for row in rows})
    devices = sorted({str(row["device"]) for row in rows})
    none = sorted({row["label"] for row in rows if not row["parameters"]})
    facts = {
        "images": str(images[0]) if len(images) == 1 else f"{images[0]} to {images[-1]}",
        "devices": ", ".join(devices),
        "none": f"Without learned parameters, at the left edge: {', '.join(none)}." if none else "",
    }
    weights = {name: sha for r in results.values() for name, sha in (r.sidecar.get("weights") or {}).items()}
    meta = {"facts": facts, "rows": rows, "missing": tabled.missing(results), "weights": weights}
    return {"psnr": np.array([row["psnr"] for row in rows])}, meta


def parameters(config: Config, task: str, setting: str, method: str) -> int:
    """Learned numbers that a method holds once it is set up for a setting; 0 for one without weights."""
    if not registry.entry(method).needs_weights:
        return 0
    instance = registry.create(method, config, setting)
    sigma = config.task(task).sigma(setting)
    found = find_weights(config, task, instance, sigma)
    if any("missing" in entry for entry in found.values()):
        return 0
    set_up(instance, task, sigma, found, torch.device("cpu"))
    return learned(vars(instance), set())


def learned(thing: Any, seen: set[int]) -> int:
    """Learned numbers that an object holds, each tensor once.

    Networks count their parameters. What derives other tensors from its checkpoint says in its attribute `learned` how
    many it was given.
    """
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.nn.Module):
        return sum(learned(parameter, seen) for parameter in thing.parameters())
    if isinstance(thing, torch.Tensor):
        return thing.numel() if thing.is_floating_point() else 0
    if isinstance(thing, dict):
        return sum(learned(value, seen) for value in thing.values())
    if isinstance(thing, list | tuple):
        return sum(learned(value, seen) for value in thing)
    if not type(thing).__module__.startswith("baselines"):
        return 0
    return getattr(thing, "learned", None) or learned(vars(thing), seen)
