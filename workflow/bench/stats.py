"""Means over images with bootstrap intervals, paired differences, and the verdict on a paper's number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

RESAMPLES = 9999
SEED = 0  # fixed: the same per-image values give the same interval, byte for byte
TOLERANCE_DB = 0.05
CLOSE = 4  # within this many tolerances a number counts as close


@dataclass(frozen=True)
class Interval:
    """A mean over images and the bounds of its interval; NaN bounds where no interval exists."""

    mean: float
    low: float
    high: float
    images: int


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = SEED) -> Interval:
    """Mean of per-image values with a BCa bootstrap interval over the images.

    Args:
        values: one finite or infinite number per image, shape (images,). Their order must be fixed by the
            caller (natural order of the images) for the same bits in every run.
        level: confidence level in (0, 1).
        seed: seed of the resampling.

    One image has a mean and no interval. Equal values, all infinite ones included, have the interval
    [value, value]. Some infinite values among finite ones: infinite mean, no interval.

    Raises:
        ValueError: no values, more than one dimension, or a NaN among them.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or np.isnan(x).any():
        raise ValueError("mean_interval needs one number per image, at least one, and no NaN")
    nan = float("nan")
    if x.size == 1:
        return Interval(float(x[0]), nan, nan, 1)
    if np.all(x == x[0]):
        return Interval(float(x[0]), float(x[0]), float(x[0]), x.size)
    mean = float(x.mean())
    if not np.isfinite(x).all():
        return Interval(mean, nan, nan, x.size)
    # `random_state` rather than its newer name `rng`: scipy 1.13 knows only the former
    bounds = bootstrap(
        (x,),
        np.mean,
        vectorized=True,
        axis=-1,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high), x.size)


def paired_difference(a: pd.Series, b: pd.Series, level: float = 0.95, seed: int = SEED) -> Interval:
    """Mean of a − b over the same images, with a paired bootstrap interval: images are drawn, not values.

    Args:
        a, b: per-image values indexed by image id, in any order; positive means that a is larger.

    Two infinite values of the same image differ by 0; differences of both infinite signs have no mean (NaN).

    Raises:
        ValueError: the two do not hold the same images, each once.
    """
    if not (a.index.is_unique and b.index.is_unique and set(a.index) == set(b.index)):
        raise ValueError("a paired difference needs the same images, each once, on both sides")
    a = a.sort_index()  # so that the order of the images does not change the last bits
    x, y = a.to_numpy(np.float64), b.loc[a.index].to_numpy(np.float64)
    difference = np.subtract(x, y, out=np.zeros_like(x), where=x != y)  # inf − inf would be NaN
    if {np.inf, -np.inf} <= set(difference):
        return Interval(float("nan"), float("nan"), float("nan"), difference.size)
    return mean_interval(difference, level, seed)


def verdict(paper: float | None, ours: float | None, tolerance: float = TOLERANCE_DB) -> str:
    """`match` within the tolerance, `close` within four of them, else `differs`; `missing` without a number.

    Args:
        paper, ours: the two values in the same unit; None or NaN where there is none.
        tolerance: largest |ours − paper| that counts as a match, in the same unit.
    """
    if paper is None or ours is None or np.isnan(paper) or np.isnan(ours):
        return "missing"
    slack = 1e-9  # 37.59 − 37.54 is a little more than 0.05 in floating point
    distance = abs(ours - paper)
    if distance <= tolerance + slack:
        return "match"
    return "close" if distance <= CLOSE * tolerance + slack else "differs"
