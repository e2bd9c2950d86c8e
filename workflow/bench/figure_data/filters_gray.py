"""Filters and splines of the gray model."""

from typing import Any

import numpy as np

from bench.config import Config
from bench.figure_data import filters

PROBLEMS = {}
MODELS = ("gray",)


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """See `bench.figure_data.filters.collect`."""
    return filters.collect(config, "gray")
