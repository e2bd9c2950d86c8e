"""Bootstrap intervals against closed forms, the degenerate cases, paired differences, verdicts."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.stats import mean_interval, paired_difference, verdict

INF = math.inf


def normal(images: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(30.0, 2.0, images)


def test_interval_of_a_normal_sample_is_the_closed_form():
    x = normal(500)
    half = 1.959964 * x.std(ddof=1) / math.sqrt(x.size)
    found = mean_interval(x)
    assert found.mean == pytest.approx(x.mean())
    assert found.low == pytest.approx(x.mean() - half, abs=0.06 * half)
    assert found.high == pytest.approx(x.mean() + half, abs=0.06 * half)
    assert found.images == 500


def test_interval_narrows_with_the_level():
    wide, narrow = mean_interval(normal(68), level=0.95), mean_interval(normal(68), level=0.5)
    ratio = (narrow.high - narrow.low) / (wide.high - wide.low)
    assert ratio == pytest.approx(0.674490 / 1.959964, rel=0.05)


def test_interval_of_a_skewed_sample_leans_to_its_tail():
    x = np.random.default_rng(1).exponential(1.0, 40)
    found = mean_interval(x)
    assert found.high - found.mean > 1.1 * (found.mean - found.low)


def test_interval_repeats_to_the_last_bit_and_follows_the_seed():
    x = normal(68)
    assert mean_interval(x) == mean_interval(list(x))
    assert mean_interval(x, seed=1) != mean_interval(x, seed=0)


def test_one_image_has_no_interval():
    found = mean_interval([31.5])
    assert found.mean == 31.5
    assert found.images == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("value", [31.5, INF])
def test_equal_values_have_the_interval_of_no_width(value):
    found = mean_interval([value] * 5)
    assert (found.mean, found.low, found.high) == (value, value, value)


def test_some_infinite_values_have_no_interval():
    found = mean_interval([30.0, INF, 31.0])
    assert found.mean == INF
    assert math.isnan(found.low)


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, 50.0], [1.0] * 7 + [9.0], [1.0, 1.0 + 1e-12]])
def test_few_or_lopsided_values_give_bounds_inside_their_range(values):
    found = mean_interval(values)
    assert min(values) <= found.low <= found.mean <= found.high <= max(values)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_values_that_are_no_sample_are_refused(values):
    with pytest.raises(ValueError, match="one number per image"):
        mean_interval(values)


def test_paired_difference_pairs_by_image_and_has_a_sign():
    b = pd.Series(normal(68), index=[f"test{n:03d}" for n in range(68)])
    a = (b + 0.1 + np.random.default_rng(2).normal(0, 0.01, 68)).sample(frac=1, random_state=3)
    forward, backward = paired_difference(a, b), paired_difference(b, a)
    assert forward.mean == pytest.approx(0.1, abs=0.005)
    assert 0 < forward.low < forward.mean < forward.high
    assert backward.mean == pytest.approx(-forward.mean)
    assert backward.high < 0
    alone = mean_interval(b.to_numpy())
    assert forward.high - forward.low < 0.05 * (alone.high - alone.low)
    assert paired_difference(a.iloc[::-1], b) == forward


def test_paired_difference_of_infinite_values():
    a, b = pd.Series([INF, 31.0, 30.0]), pd.Series([INF, 30.0, 29.0])
    assert paired_difference(a, b).mean == pytest.approx(2 / 3)
    assert math.isnan(paired_difference(pd.Series([INF, 1.0]), pd.Series([1.0, INF])).mean)


@pytest.mark.parametrize("index", [["x", "z"], ["x", "x"], ["x"]])
def test_paired_difference_wants_the_same_images(index):
    a, b = pd.Series([1.0, 2.0], index=["x", "y"]), pd.Series(1.0, index=index)
    with pytest.raises(ValueError, match="same images"):
        paired_difference(a, b)


@pytest.mark.parametrize(
    ("paper", "ours", "expected"),
    [
        (37.54, 37.54, "match"),
        (37.54, 37.59, "match"),  # a difference of 0.05000000000000426 in floating point
        (37.54, 37.49, "match"),
        (37.54, 37.5901, "close"),
        (37.54, 37.74, "close"),
        (37.54, 37.34, "close"),
        (37.54, 37.7401, "differs"),
        (37.54, INF, "differs"),
        (37.54, None, "missing"),
        (37.54, math.nan, "missing"),
        (None, 37.54, "missing"),
    ],
)
def test_verdict(paper, ours, expected):
    assert verdict(paper, ours) == expected


def test_verdict_follows_the_tolerance():
    assert verdict(30.0, 31.0, tolerance=1.0) == "match"
    assert verdict(30.0, 30.02, tolerance=0.004) == "differs"
