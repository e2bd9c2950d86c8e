"""The searches on functions whose maximum is known: found, within bounds and budget, no point twice."""

import itertools
import math
from collections.abc import Callable, Mapping

import pytest

from bench import search
from bench.search import Parameter

FINAL = 3 ** (1 / 8)  # the last grid that is evaluated has this γ: 1.147


def bump(**centres: float) -> Callable[[Mapping[str, float]], float]:
    """A PSNR-like function with its maximum, 30, at `centres`; the axes interact a little."""

    def score(values: Mapping[str, float]) -> float:
        offsets = [math.log(values[name] / centre) for name, centre in centres.items()]
        pairs = sum(a * b for a, b in itertools.pairwise(offsets))
        return 30 - sum(u * u for u in offsets) - 0.5 * pairs

    return score


def points(trace: search.Trace) -> list[tuple[float, ...]]:
    return [tuple(evaluation.parameters.values()) for evaluation in trace.evaluations]


@pytest.mark.parametrize("start", [0.002, 0.05, 3.0])
@pytest.mark.parametrize("centre", [0.01, 0.0731, 0.9])
def test_grid_finds_one_parameter_within_its_last_step(start: float, centre: float) -> None:
    trace = search.grid(bump(p=centre), [Parameter("p", start)], 200)
    assert trace.complete
    assert abs(math.log(trace.best.parameters["p"] / centre)) <= math.log(FINAL) / 2 + 1e-9


@pytest.mark.parametrize("centre", [(0.05, 15.0), (0.004, 31.0), (1.7, 2.0)])
def test_grid_finds_two_parameters_within_its_last_step(centre: tuple[float, float]) -> None:
    parameters = [Parameter("lmbda", 0.05), Parameter("sigma", 15.0, high=50.0)]
    trace = search.grid(bump(lmbda=centre[0], sigma=centre[1]), parameters, 500)
    assert trace.complete
    for value, wanted in zip(points(trace)[trace.evaluations.index(trace.best)], centre, strict=True):
        assert abs(math.log(value / wanted)) <= math.log(FINAL)


def test_the_start_is_the_lower_corner_of_the_first_grid() -> None:
    trace = search.grid(bump(a=1.0, b=1.0), [Parameter("a", 1.0), Parameter("b", 2.0)], 9)
    assert points(trace) == [(3.0**i, 2 * 3.0**j) for i in range(3) for j in range(3)]
    assert not trace.complete


def test_gamma_falls_by_square_roots_until_1_1() -> None:
    """A maximum in the middle of the first grid stays there: every grid is the centre times 1/γ, 1, γ."""
    trace = search.grid(bump(p=3.0), [Parameter("p", 1.0)], 100)
    assert points(trace)[:3] == [(1.0,), (3.0,), (9.0,)]
    ratios = [3.0 / low for (low,) in points(trace)[3::2]]
    assert ratios == pytest.approx([1.732, 1.316, 1.147], abs=5e-4)
    assert [high / 3.0 for (high,) in points(trace)[4::2]] == pytest.approx(ratios)
    assert len(points(trace)) == 9  # γ = 1.071 is not evaluated any more
    finer = search.grid(bump(p=3.0), [Parameter("p", 1.0)], 100, gamma_stop=1.05)
    assert 3.0 / points(finer)[9][0] == pytest.approx(1.071, abs=5e-4)


def test_each_parameter_has_its_own_gamma_and_centre() -> None:
    """The second parameter is centred at once, while the first has to travel by steps of 3.

    The slip in the authors' code would put the second one's next grid around 9, at the first one's index.
    """

    def score(values: Mapping[str, float]) -> float:
        return -sum(abs(math.log(values[name] / centre)) for name, centre in (("a", 243.0), ("b", 3.0)))

    trace = search.grid(score, [Parameter("a", 1.0), Parameter("b", 1.0)], 400)
    following = points(trace)[9:]  # the second grid is a ∈ {3, 9, 27}; (3, 3) and (9, 3) are known
    assert following[0] == pytest.approx((3.0, math.sqrt(3)))
    assert {a for a, _ in following[:7]} == {3.0, 9.0, 27.0}
    assert sorted({b for _, b in following[:7]}) == pytest.approx([math.sqrt(3), 3.0, 3 * math.sqrt(3)])
    assert trace.best.parameters == pytest.approx({"a": 243.0, "b": 3.0})


@pytest.mark.parametrize("method", search.SEARCHES.values())
@pytest.mark.parametrize("names", ["a", "ab"])
def test_no_point_is_evaluated_twice(method: Callable[..., search.Trace], names: str) -> None:
    calls: list[tuple[float, ...]] = []
    score = bump(**dict.fromkeys(names, 0.4))

    def counted(values: Mapping[str, float]) -> float:
        calls.append(tuple(values.values()))
        return score(values)

    trace = method(counted, [Parameter(name, 1.0) for name in names], 300)
    assert calls == points(trace)
    for one, other in itertools.combinations(calls, 2):
        assert any(abs(a - b) >= search.SAME * abs(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("method", search.SEARCHES.values())
@pytest.mark.parametrize("centre", [0.001, 100.0])
def test_bounds_hold_and_the_best_is_near_them(method: Callable[..., search.Trace], centre: float) -> None:
    trace = method(bump(p=centre), [Parameter("p", 1.0, low=0.5, high=4.0)], 100)
    assert all(0.5 * (1 - 1e-9) <= value <= 4.0 * (1 + 1e-9) for (value,) in points(trace))
    bound = 0.5 if centre < 1 else 4.0
    assert abs(math.log(trace.best.parameters["p"] / bound)) <= math.log(FINAL)


@pytest.mark.parametrize("method", search.SEARCHES.values())
@pytest.mark.parametrize("evaluations", [1, 2, 5, 11])
def test_the_limit_of_evaluations_holds(method: Callable[..., search.Trace], evaluations: int) -> None:
    trace = method(bump(a=0.01, b=7.0), [Parameter("a", 1.0), Parameter("b", 1.0)], evaluations)
    assert len(trace.evaluations) == evaluations
    assert not trace.complete


def test_the_best_is_the_first_maximum_of_all_points() -> None:
    evaluations = [search.Evaluation({"p": value}, score) for value, score in [(1.0, 2.0), (2.0, 5.0), (3.0, 5.0)]]
    assert search.Trace([*evaluations, search.Evaluation({"p": 4.0}, 1.0)]).best is evaluations[1]


@pytest.mark.parametrize("start", [0.002, 0.05, 3.0])
@pytest.mark.parametrize("centre", [0.01, 0.0731, 0.9])
def test_budget_finds_one_parameter_cheaply(start: float, centre: float) -> None:
    trace = search.budget(bump(p=centre), [Parameter("p", start)], 200)
    assert trace.complete
    assert abs(math.log(trace.best.parameters["p"] / centre)) <= math.log(1.1)
    assert len(trace.evaluations) < len(search.grid(bump(p=centre), [Parameter("p", start)], 200).evaluations)


def test_budget_finds_a_maximum_that_is_no_parabola() -> None:
    trace = search.budget(lambda v: -(abs(math.log(v["p"] / 0.3)) ** 1.5), [Parameter("p", 5.0)], 100)
    assert abs(math.log(trace.best.parameters["p"] / 0.3)) <= math.log(1.1)


@pytest.mark.parametrize("centre", [(0.05, 15.0), (0.004, 31.0), (1.7, 2.0)])
def test_budget_finds_two_parameters(centre: tuple[float, float]) -> None:
    parameters = [Parameter("lmbda", 0.05), Parameter("sigma", 15.0, high=50.0)]
    score = bump(lmbda=centre[0], sigma=centre[1])
    trace = search.budget(score, parameters, 200)
    assert trace.complete
    assert trace.best.score > 30 - 0.02
    assert len(trace.evaluations) < len(search.grid(score, parameters, 500).evaluations)


@pytest.mark.parametrize("method", search.SEARCHES.values())
def test_scores_that_are_not_numbers_are_avoided(method: Callable[..., search.Trace]) -> None:
    trace = method(lambda v: math.nan if v["p"] > 4 else bump(p=3.0)(v), [Parameter("p", 1.0)], 100)
    assert abs(math.log(trace.best.parameters["p"] / 3.0)) <= math.log(FINAL)
    assert any(evaluation.score == -math.inf for evaluation in trace.evaluations)
    assert len(method(lambda v: math.nan, [Parameter("p", 1.0, low=0.5)], 40).evaluations) <= 40


@pytest.mark.parametrize("method", search.SEARCHES.values())
def test_a_flat_score_ends(method: Callable[..., search.Trace]) -> None:
    assert len(method(lambda v: 1.0, [Parameter("p", 1.0)], 40).evaluations) <= 40


@pytest.mark.parametrize(
    ("start", "low", "high"),
    [(0.0, 0.0, 1.0), (-1.0, -2.0, 1.0), (2.0, 0.0, 1.0), (1.0, 2.0, 3.0), (math.inf, 0.0, math.inf)],
)
def test_parameters_that_cannot_be_searched_are_refused(start: float, low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"parameter p starts at .* needs a positive start inside the range"):
        Parameter("p", start, low, high)


def test_the_grid_takes_two_parameters_at_most() -> None:
    with pytest.raises(ValueError, match="one or two parameters, not 3"):
        search.grid(lambda v: 0.0, [Parameter(name, 1.0) for name in "abc"], 10)
    assert search.budget(bump(a=1.0, b=2.0, c=0.5), [Parameter(name, 1.0) for name in "abc"], 200).best.score > 29.9


@pytest.mark.parametrize("method", search.SEARCHES.values())
def test_the_start_is_evaluated_as_it_was_given(method: Callable[..., search.Trace]) -> None:
    assert points(method(bump(p=1.0), [Parameter("p", 0.05, high=0.05)], 1)) == [(0.05,)]
