"""Constants that authors give at some noise levels only."""

import math
from collections.abc import Mapping
from itertools import pairwise


def at_level(known: Mapping[float, float], level: float) -> float:
    """The constant at noise level `level`, from level → constant, both positive.

    Interpolated on logarithmic scales between the known levels, where it is exact; constant outside.
    """
    level = min(max(level, min(known)), max(known))
    if level in known:
        return known[level]
    low, high = next(pair for pair in pairwise(sorted(known)) if level < pair[1])
    share = math.log(level / low) / math.log(high / low)
    return known[low] ** (1 - share) * known[high] ** share
