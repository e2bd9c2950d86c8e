"""λ and σ where the user gives none: those that the paper prints, for the command, deepinv and the benchmark alike."""

import math
from types import MappingProxyType

import numpy as np

MASK_SIGMA = 15.0
"""σ told to the mask for every problem but denoising, in 0-255 units (paper, Section 5)."""
MRI_LAMBDA = 0.05
"""Where the authors' search on validation images starts; its outcome is not published."""
PAPER_LAMBDA = MappingProxyType(
    {
        "superres": MappingProxyType({2.55: 0.28, 7.65: 2.5, 12.75: 5.5}),
        "deblur": MappingProxyType({2.55: 0.5, 7.65: 2.5}),
    }
)
"""λ of the paper's Tables 2 and 5 at noise levels in 0-255 units."""


def script_lambda(noise: float) -> float:
    """λ of the authors' super-resolution script, which is not the paper's: 0.1 + 0.035 σ², σ in 0-255 units."""
    return 0.1 + 0.035 * noise**2


def paper_lambda(problem: str, noise: float) -> tuple[float, bool]:
    """λ for noise of standard deviation `noise` (0-255 units), and whether that lies within the paper's range.

    Interpolated on logarithmic scales between the paper's levels, constant outside.
    """
    table = PAPER_LAMBDA[problem]
    levels, values = np.log(list(table)), np.log(list(table.values()))
    value = round(math.exp(np.interp(math.log(noise), levels, values)), 12)
    return value, min(table) <= noise <= max(table)
