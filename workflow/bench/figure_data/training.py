"""The logs of DEAL's trainings: every column that is there, and that holds numbers."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from bench import registry
from bench.config import Config
from bench.errors import UserError
from deal.training import LOG_SIGMAS_255

PROBLEMS = {}
TRAININGS = ("gray", "color")
WINDOW = 25
"""Rows of the log over which curves are smoothed."""
GROUPS = (
    {"title": "loss", "names": ["loss", "data"], "unit": "", "log": True, "smooth": True},
    {"title": "terms of the loss", "names": ["mask_change", "tv2"], "unit": "", "log": True, "smooth": True},
    {"title": "validation PSNR", "names": ["validation"], "unit": "dB", "log": False, "smooth": False},
    {"title": "updates K_out", "names": ["outer"], "unit": "updates", "log": False, "smooth": True},
    {"title": "step size", "names": ["lr"], "unit": "", "log": True, "smooth": False},
    {"title": "λ", "names": ["lambda"], "unit": "", "log": False, "smooth": False},
    {"title": "contraction", "names": ["contraction"], "unit": "", "log": False, "smooth": True},
)
SKIPPED = ("step", "phase", "seconds", "psnr")  # psnr: the mean of validation
KNOWN = {name for group in GROUPS for name in group["names"]}


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays `<kind>_<column>`, (n, values a row), with `<kind>_<column>_step`, (n,); `<kind>_phases`."""
    arrays, extra, last = {}, {}, []
    for kind in TRAININGS:
        found = read(registry.trained(config, kind).with_suffix(".log.csv"))
        arrays |= {f"{kind}_{name}": values for name, values in found.items()}
        steps = found.get("loss_step", next(iter(found.values())))
        said = f"{kind.replace('color', 'colour')}: {int(steps[-1])} steps"
        if "validation" in found:
            mean = found["validation"].mean(1)
            best = int(mean.argmax())
            said += f", best mean validation {mean[best]:.2f} dB at step {int(found['validation_step'][best])}"
        last.append(said)
        for name in found:
            if not name.endswith("_step") and name != "phases" and name not in KNOWN:
                extra.setdefault(family(name), []).append(name)
    groups = [*GROUPS, *(group(title, list(dict.fromkeys(names))) for title, names in extra.items())]
    facts = {"kinds": "the gray and the colour model", "window": str(WINDOW), "last": "; ".join(last) + "."}
    levels = {kind: list(getattr(config.training, kind).validation_sigmas_255) for kind in TRAININGS}
    sigmas = {kind: {"validation": levels[kind], "lambda": list(LOG_SIGMAS_255)} for kind in TRAININGS}
    meta = {"facts": facts, "kinds": list(TRAININGS), "groups": groups, "window": WINDOW, "missing": {}}
    meta["sigmas_255"] = sigmas
    return arrays, meta


def group(title: str, names: list[str]) -> dict[str, Any]:
    """A panel for columns that this module does not know by name."""
    unit = "dB" if "psnr" in title else ""
    return {"title": title.replace("_", " "), "names": names, "unit": unit, "log": False, "smooth": False}


def family(name: str) -> str:
    """What `psnr_5`, `psnr_15`, … have in common: their name without the number at its end."""
    head, _, tail = name.rpartition("_")
    return head if head and tail.replace(".", "").isdigit() else name


def read(path: Path) -> dict[str, np.ndarray]:
    """Columns of a log with the steps at which they were recorded; steps at which a phase begins, but the first.

    A field may hold several numbers, separated by blanks: one a noise level.
    """
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        rows, columns = list(reader), reader.fieldnames or []
    if "step" not in columns or not rows:
        raise UserError(f"{path}: not the log of a training, it has {len(rows)} rows of {','.join(columns)}")
    try:
        steps = [int(float(row["step"])) for row in rows]
        found = {}
        for name in (name for name in columns if name not in SKIPPED):
            fields = [(s, [float(v) for v in row[name].split()]) for s, row in zip(steps, rows, strict=True)]
            fields = [(s, values) for s, values in fields if values and np.isfinite(values).all()]
            if name == "mask_change":  # 0 in steps that did not evaluate it
                fields = [(s, values) for s, values in fields if any(values)]
            if fields:
                found[f"{name}_step"], found[name] = (np.array(column) for column in zip(*fields, strict=True))
        phases = [row.get("phase") for row in rows]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}") from None
    changes = [steps[i] for i in range(1, len(rows)) if phases[i] != phases[i - 1]]
    return found | ({"phases": np.array(changes)} if changes else {})
