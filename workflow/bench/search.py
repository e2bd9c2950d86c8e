"""Maximise a score over positive parameters with few evaluations. Pure functions, no torch.

`grid` is the coarse-to-fine search that the authors of CRR, WCRR, SAFI and DEAL share, without the slip in their
code by which the second parameter's new centre used the first one's index. `budget` finds a smooth maximum with
a fraction of the evaluations: one parameter after the other, by parabolas on a logarithmic scale.
Both return every point they evaluated; the best is taken among all of them.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Score = Callable[[Mapping[str, float]], float]

SAME = 1e-4
"""Points whose parameters all differ by less than this, relatively, are one point."""
GOLDEN = (3 - math.sqrt(5)) / 2


@dataclass(frozen=True)
class Parameter:
    """A positive number to be found: where to start, and the range it may not leave."""

    name: str
    start: float
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        if not (0 <= self.low <= self.start <= self.high and 0 < self.start < math.inf):
            where = f"starts at {self.start:g} and has the range [{self.low:g}, {self.high:g}]"
            raise ValueError(f"parameter {self.name} {where}; the search needs a positive start inside the range")

    def allows(self, value: float) -> bool:
        """Whether `value` is in the range, but for rounding."""
        return self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)


@dataclass(frozen=True)
class Evaluation:
    """One point and its score."""

    parameters: dict[str, float]
    score: float


@dataclass
class Trace:
    """All points evaluated, in order; `complete` is False where the search ran out of evaluations."""

    evaluations: list[Evaluation] = field(default_factory=list)
    complete: bool = True

    @property
    def best(self) -> Evaluation:
        """The first of the points with the highest score."""
        return max(self.evaluations, key=lambda evaluation: evaluation.score)


class _OutOfBudget(Exception):
    pass


class _Scorer:
    """`score` as a function of a point, with reuse of points, bounds, and a limit of evaluations."""

    def __init__(self, score: Score, parameters: Sequence[Parameter], evaluations: int) -> None:
        if not parameters:
            raise ValueError("there is no parameter to search")
        if evaluations < 1:
            raise ValueError(f"a search needs at least one evaluation, not {evaluations}")
        self.score, self.parameters, self.limit = score, parameters, evaluations
        self.trace = Trace()

    def __call__(self, point: Sequence[float]) -> float:
        if not all(p.allows(value) for p, value in zip(self.parameters, point, strict=True)):
            return -math.inf
        for known in self.trace.evaluations:
            pairs = zip(point, known.parameters.values(), strict=True)
            if all(abs(value - other) < SAME * abs(other) for value, other in pairs):
                return known.score
        if len(self.trace.evaluations) == self.limit:
            raise _OutOfBudget
        # twelve digits: 1.5, not 1.5000000000000002
        pairs = zip(self.parameters, (float(f"{value:.12g}") for value in point), strict=True)
        values = {p.name: min(max(value, p.low), p.high) for p, value in pairs}
        found = float(self.score(values))
        self.trace.evaluations.append(Evaluation(values, -math.inf if math.isnan(found) else found))
        return self.trace.evaluations[-1].score


def grid(
    score: Score, parameters: Sequence[Parameter], evaluations: int, gamma: float = 3.0, gamma_stop: float = 1.1
) -> Trace:
    """The coarse-to-fine search for one or two parameters.

    A grid of 3 or 3×3 points p, pγ, pγ², the start being its lower corner, follows the best point: where that is on
    an edge, the grid moves one step that way; where it is in the middle, γ ← √γ about it. Ends once every
    parameter's γ ≤ `gamma_stop`. Points outside the range are skipped, so the grid stays around the best point inside.

    Args:
        score: To be maximised; nan counts as −∞.
        evaluations: Most calls of `score`.
    """
    if len(parameters) > 2:
        names = ", ".join(p.name for p in parameters)
        raise ValueError(f"the grid search takes one or two parameters, not {len(parameters)} ({names})")
    scorer = _Scorer(score, parameters, evaluations)
    corner = [p.start for p in parameters]
    gammas = [gamma] * len(parameters)
    try:
        while any(g > gamma_stop for g in gammas):
            indices = list(itertools.product(range(3), repeat=len(parameters)))
            points = [[p * g**k for p, g, k in zip(corner, gammas, index, strict=True)] for index in indices]
            scores = [scorer(point) for point in points]
            if max(scores) == -math.inf:
                scorer.trace.complete = False
                break
            for i, k in enumerate(indices[scores.index(max(scores))]):
                centre = corner[i] * gammas[i] ** k
                if k == 1:
                    gammas[i] = math.sqrt(gammas[i])
                corner[i] = centre / gammas[i]
    except _OutOfBudget:
        scorer.trace.complete = False
    return scorer.trace


def budget(
    score: Score, parameters: Sequence[Parameter], evaluations: int, gamma: float = 3.0, gamma_stop: float = 1.1
) -> Trace:
    """Line searches along one parameter after the other, around the best point so far; arguments as for `grid`.

    A line search goes up in steps of the factor γ until the maximum lies between two points, and then to the
    vertex of the parabola through three points in log p. From round to round γ ← √γ. Ends once γ ≤ `gamma_stop`,
    after a round in which nothing moved by that factor, or, for one parameter, after one round.
    """
    scorer = _Scorer(score, parameters, evaluations)
    point = [0.0] * len(parameters)  # log(p / start), so that the start is met to the last digit
    bounds = [(math.log(p.low / p.start) if p.low else -math.inf, math.log(p.high / p.start)) for p in parameters]
    step, tolerance = math.log(gamma), math.log(gamma_stop)
    try:
        while step > tolerance:
            before = list(point)
            for i, (low, high) in enumerate(bounds):
                point[i] = _line(_along(scorer, point, i), point[i], step, low, high, tolerance)
            if len(point) == 1 or all(abs(t - u) < tolerance for t, u in zip(point, before, strict=True)):
                break
            step /= 2
    except _OutOfBudget:
        scorer.trace.complete = False
    return scorer.trace


def _along(scorer: _Scorer, point: Sequence[float], i: int) -> Callable[[float], float]:
    """The score as a function of log(p / start) of parameter i; the others stay as they are in `point`."""
    starts, before, after = [p.start for p in scorer.parameters], point[:i], point[i + 1 :]
    return lambda t: scorer([s * math.exp(u) for s, u in zip(starts, (*before, t, *after), strict=True)])


def _line(f: Callable[[float], float], t: float, step: float, low: float, high: float, tolerance: float) -> float:
    """Maximise f on [low, high] from t; within `tolerance` for a function that is smooth and has one maximum."""
    left, right = max(t - step, low), min(t + step, high)
    f(t)
    if f(right) > f(t):
        while f(right) > f(t):
            left, t, right = t, right, min(right + step, high)
    else:
        while f(left) > f(t):
            left, t, right = max(left - step, low), left, t
    while right - left > tolerance:
        new = _vertex(left, t, right, f(left), f(t), f(right))
        if abs(new - t) < tolerance:
            break
        if f(new) > f(t):
            left, t, right = (t, new, right) if new > t else (left, new, t)
        else:
            left, right = (left, new) if new > t else (new, right)
    return t


def _vertex(a: float, b: float, c: float, fa: float, fb: float, fc: float) -> float:
    """Where the parabola through three points has its maximum; without one, the golden section of the larger side."""
    if a < b < c and math.isfinite(fa) and math.isfinite(fc) and fb > min(fa, fc):
        left, right = (b - a) * (fb - fc), (b - c) * (fb - fa)
        return b - ((b - a) * left - (b - c) * right) / (2 * (left - right))
    return b + GOLDEN * (c - b) if c - b > b - a else b - GOLDEN * (b - a)


SEARCHES = {"grid": grid, "budget": budget}
