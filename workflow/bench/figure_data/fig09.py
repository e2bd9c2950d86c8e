"""Figure 9: images, deblurred by all methods."""

from typing import Any

import numpy as np

from bench.config import Config
from bench.figure_data.comparison import compare

PROBLEMS = {"deblurring": "all"}


def collect(config: Config) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As of `compare`, and the blur `kernel` (h, w)."""
    arrays, meta, problem = compare(config, "deblurring")
    return arrays | {"kernel": problem.items[0].operator.kernel.numpy()}, meta
