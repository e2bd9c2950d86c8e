"""Ours beside the authors' results image by image, where they have published them.

`workflow/data/per_image_psnr.csv` holds what the notebooks of DEAL and SAFI and a file of WCRR print, in dB. Theirs of
DEAL have our noise, and are rounded to 0.01 dB; the order of the images is known for gray and was inferred for colour,
whose two uncertain images are left out. The colour ones are of whole images, not of Table 1's crops.
"""

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import fmean

from bench.cells import Table
from bench.results import Key, Result

DATASETS = {"denoise_gray": "bsd68", "denoise_color": "cbsd68"}
"""Task → the data set that the authors' images are of."""
AUTHORS = Path(__file__).parents[1] / "data" / "per_image_psnr.csv"


@cache
def authors() -> dict[Key, tuple[bool, dict[str, float]]]:
    """(task, setting, method) → whether the noise is ours, image → PSNR in dB."""
    found: dict[Key, dict[str, float]] = defaultdict(dict)
    same: dict[Key, bool] = {}
    with AUTHORS.open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            key = row["task"], row["setting"], row["method"]
            found[key][row["image"]] = float(row["psnr"])
            same[key] = row["noise"] == "same"
    return {key: (same[key], values) for key, values in found.items()}


def differences(result: Result) -> list[float]:
    """Ours minus the authors' in dB, for each image that both have; empty where they are of other pixels."""
    if result.key not in authors() or (result.sidecar.get("config") or {}).get("crop") is not None:
        return []
    _, theirs = authors()[result.key]
    rows = [row for row in result.rows if row["dataset"] == DATASETS[row["task"]] and row["image"] in theirs]
    return [float(row["psnr"]) - theirs[row["image"]] for row in rows]


def notes(table: Table) -> list[str]:
    """A sentence for each cell of the table that the authors have published image by image."""
    found = []
    for column, method, cell in table.items():
        if cell.result is None or not (gaps := differences(cell.result)):
            continue
        same, _ = authors()[cell.result.key]
        found.append(
            f"Image by image, {method.label}, {column.group}, {column.label}: ours {fmean(gaps):+.2f} dB from the "
            f"authors' on average, {min(gaps):+.2f} to {max(gaps):+.2f} ({len(gaps)} images, "
            f"{'the same' if same else 'other'} noise)."
        )
    return [note.replace("-", "−") for note in found]
