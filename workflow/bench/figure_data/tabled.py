"""Results of a table's methods as figures read them."""

from pathlib import Path

import numpy as np
import pandas as pd

from bench import layouts, registry
from bench.config import Config
from bench.figure_data.problems import describe
from bench.results import Key, Result


def read(config: Config, table: str) -> dict[Key, Result]:
    """Results shown in `table`, without those of oracles, in the order of its columns and rows."""
    keys = [key for key in layouts.results(config, table) if not registry.entry(key[2]).oracle]
    return Result.read(Path(config.results, "evaluate", task, setting, f"{m}.csv") for task, setting, m in keys)


def psnr(result: Result) -> pd.Series:
    """PSNR by image."""
    return pd.Series({row["image"]: float(row["psnr"]) for row in result.rows}, dtype=float)


def seconds(result: Result) -> float:
    """Median seconds of a reconstruction, as the evaluation took them."""
    return float(np.median([float(row["seconds"]) for row in result.rows]))


def missing(results: dict[Key, Result]) -> dict[str, str]:
    """Label → reason of the methods without any result."""
    there = {method for (_, _, method), result in results.items() if result.rows}
    return {
        registry.entry(method).label: str(result.missing)
        for (_, _, method), result in results.items()
        if method not in there
    }


def title(config: Config, task: str, setting: str) -> str:
    """A column of a table in words."""
    what = {"denoise_gray": "gray", "denoise_color": "colour"}.get(task, task.replace("_", " "))
    return f"{what}, {describe(config.task(task), setting)}"
