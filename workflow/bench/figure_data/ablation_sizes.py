"""What a variant's size brings: PSNR and parameters of the ablations, from their table alone."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from bench import layouts
from bench.config import Config
from bench.errors import UserError
from bench.figure_data import NotShown

PROBLEMS = {}
FILES = ("tables/ablations.csv",)


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays `parameters`, (variants,), and `psnr`, (variants, columns), NaN where there is none; meta: their names."""
    path = Path(config.results, FILES[0])
    columns = layouts.ablations(config)["columns"]
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    try:
        parameters = np.array([int(row["parameters"]) for row in rows])
        psnr = np.array([[float(row[f"psnr_{c['setting']}"] or "nan") for c in columns] for row in rows])
        there = np.isfinite(psnr.reshape(len(rows), len(columns))).any(1)
    except (KeyError, TypeError, ValueError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: not the table of these ablations ({detail}); make it again") from None
    if not there.any():
        raise NotShown(f"{path}: no variant has a PSNR to draw")
    missing = {row["variant"]: row["missing"] for row, drawn in zip(rows, there, strict=True) if not drawn}
    meta = {"labels": [row["variant"] for row in rows if row["variant"] not in missing], "missing": missing}
    meta |= {"columns": [column["label"] for column in columns], "facts": {}}
    return {"parameters": parameters[there], "psnr": psnr[there]}, meta
