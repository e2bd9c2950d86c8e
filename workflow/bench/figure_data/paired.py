"""DEAL against every other method, image by image."""

from typing import Any

import numpy as np

from bench import registry
from bench.config import Config
from bench.figure_data import NotShown, tabled
from bench.stats import paired_difference

PROBLEMS = {}
TABLES = ("table1",)
REFERENCE = "deal"


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """PSNR of DEAL minus that of another method: arrays `d{i}` (images,) in dB; meta: `rows` i → what it is.

    Images that both have are compared; an interval is a 95 % bootstrap interval over the images.
    """
    results = tabled.read(config, TABLES[0])
    arrays, rows = {}, []
    for (task, setting, method), result in results.items():
        reference = results.get((task, setting, REFERENCE))
        if method == REFERENCE or reference is None or not (result.rows and reference.rows):
            continue
        ours, theirs = tabled.psnr(reference), tabled.psnr(result)
        common = [image for image in ours.index if image in theirs.index]
        if not common:
            continue
        interval = paired_difference(ours[common], theirs[common])
        arrays[f"d{len(rows)}"] = (ours[common] - theirs[common]).to_numpy()
        rows.append(
            {
                "column": tabled.title(config, task, setting),
                "label": registry.entry(method).label,
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "images": interval.images,
            }
        )
    if not rows:
        raise NotShown(f"{TABLES[0]} has no images of which both {REFERENCE} and another method have results")
    counts = sorted({row["images"] for row in rows})
    facts = {"images": str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"}
    weights = {name: sha for r in results.values() for name, sha in (r.sidecar.get("weights") or {}).items()}
    return arrays, {"facts": facts, "rows": rows, "missing": tabled.missing(results), "weights": weights}
