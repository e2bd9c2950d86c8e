"""Figure 10: a slice, reconstructed by all methods."""

from typing import Any

import numpy as np

from bench.config import Config
from bench.figure_data.comparison import compare

PROBLEMS = {"mri": "all"}


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """See `bench.figure_data.comparison.compare`."""
    return compare(config, "mri")[:2]
