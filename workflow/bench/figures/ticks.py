"""Ticks of logarithmic axes: at least two labels, however short the range."""

import math
from collections.abc import Iterable
from typing import Any

from matplotlib.ticker import NullLocator

from bench.figures import style


def logarithmic(axis: Any, values: Iterable[float]) -> None:
    """Powers of ten for values that span more than two decades; 1, 2, 5 and so on for less."""
    values = [value for value in values if value > 0]
    decades = math.log10(max(values) / min(values)) if values else 0.0
    style.log_ticks(axis, (1.0,) if decades > 2 else (1.0, 2.0, 5.0))
    axis.set_minor_locator(NullLocator())
