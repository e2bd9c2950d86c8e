"""Figure 11: the solution path of MRI."""

from typing import Any

import numpy as np

from bench.config import Config
from bench.figure_data import paths

PROBLEMS = {"mri": ["deal"]}


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """See `bench.figure_data.paths.collect`."""
    return paths.collect(config, "mri")
