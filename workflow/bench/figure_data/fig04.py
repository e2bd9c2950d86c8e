"""Figure 4: the solution path of the castle."""

from typing import Any

import numpy as np

from bench.config import Config
from bench.figure_data import paths

PROBLEMS = {"denoising": ["deal"]}


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """See `bench.figure_data.paths.collect`."""
    return paths.collect(config, "denoising")
