"""How good fronts are beside each other: indicators, attainment surfaces, tests over pairs of runs.

Points are losses, (N, M): less is better in every column. Nothing here knows what they measure.
Hypervolume counts from one corner for all fronts; IGD+ and the additive epsilon count from the
non-dominated points of all of them, so none of the three has a meaning for a front alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evaluators.contrasts import holm

Floats = NDArray[np.float64]

ATTAINED = (25, 50, 75)
"""Per cent of the runs that reach a surface: by its best quarter, its half, three quarters."""
SURFACE_OBJECTIVES = (2, 3)
"""Numbers of objectives for which surfaces are known."""
LEAST_PAIRS = 3
"""Pairs of runs below which no test is made: two differences say next to nothing of a spread."""
WILCOXON_PAIRS = 6
"""Pairs from which the signed-rank test can fall below 0.05; fewer get the t-test."""
LEVEL = 0.95


def nondominated(points: Floats) -> NDArray[np.bool_]:
    """Say which points (N, M) no other dominates; equal points all count, (N,)."""
    if not len(points):
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(points, keep_weakly=True), dtype=bool)


def hypervolume(points: Floats, corner: Floats) -> float:
    """Give the share of the box from 0 to `corner` (M,) that points (N, M) dominate, 0 to 1.

    0 where the box is empty, or no point lies in it.
    """
    if not len(points) or not np.all(corner > 0):
        return 0.0
    # In units of the box, so that 1e9 multiply-adds beside 0.1 of error stay exact.
    return float(moocore.hypervolume(points / corner, ref=np.ones(len(corner))))


def growth(points: Floats, corner: Floats) -> Floats:
    """Give the hypervolume of the first 1, 2, ... N points (N, M), as `hypervolume` does, (N,)."""
    kept = np.empty((0, points.shape[1]))
    found = np.zeros(len(points))
    for place, point in enumerate(points):
        if not np.any(np.all(kept <= point, axis=1)):
            kept = np.vstack([kept[~np.all(point <= kept, axis=1)], point])
            found[place] = hypervolume(kept, corner)
        else:
            found[place] = found[place - 1]
    return found


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Scale:
    """What takes losses to shares of the range that all fronts have together."""

    low: Floats
    """Least loss of any front, (M,)."""
    span: Floats
    """Greatest loss of any front less the least, (M,); 1 where all are equal."""

    @classmethod
    def of(cls, fronts: Sequence[Floats]) -> Scale:
        """Measure it from the non-dominated points of each front alone.

        What a front dominates itself has no say: one bad network would squeeze all differences.
        """
        points = np.vstack([front[nondominated(front)] for front in fronts])
        low, high = points.min(axis=0), points.max(axis=0)
        return cls(low=low, span=np.where(high > low, high - low, 1.0))

    def __call__(self, points: Floats) -> Floats:
        """Take points (N, M) to the scale; 0 and 1 are the ends of the joint range."""
        return (points - self.low) / self.span


def igd_plus(points: Floats, reference: Floats) -> float:
    """Give the mean distance by which points (N, M) fall short of each reference point (R, M).

    Only what is worse than the reference point counts (Ishibuchi and others 2015); 0 is best.
    """
    return float(moocore.igd_plus(points, ref=reference))


def additive_epsilon(points: Floats, reference: Floats) -> float:
    """Give the least amount by which all points (N, M) must improve to match the reference.

    After Zitzler and others (2003): the same amount in every column; 0 is best here, as nothing
    dominates the non-dominated points of all fronts.
    """
    return float(moocore.epsilon_additive(points, ref=reference))


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """What one front brings to the joint front."""

    points: int
    """Its points that no front dominates."""
    alone: float
    """Hypervolume that is lost without it, a share of the box."""


def contributions(fronts: Sequence[Floats], corner: Floats) -> list[Contribution]:
    """Say what each of the fronts brings to that of all of them."""
    owner = np.repeat(np.arange(len(fronts)), [len(front) for front in fronts])
    points = np.vstack(fronts)
    best = nondominated(points)
    whole = hypervolume(points, corner)
    return [
        Contribution(
            points=int(np.sum(best & (owner == place))),
            alone=max(0.0, whole - hypervolume(points[owner != place], corner)),
        )
        for place in range(len(fronts))
    ]


def surfaces(fronts: Sequence[Floats]) -> dict[int, Floats]:
    """Give the empirical attainment surfaces of repeated runs, by per cent of runs that reach them.

    Returns:
        For each of `ATTAINED` the corner points (P, M) of the region that at least so many per
        cent of the fronts dominate (Fonseca and others 2011).
    """
    rows = _attained(fronts, ATTAINED)
    return {percent: rows[rows[:, -1] == percent, :-1] for percent in ATTAINED}


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class MeanFront:
    """Vorob'ev expectation of repeated fronts, and how far they scatter about it."""

    points: Floats
    """Its corner points, (P, M)."""
    threshold: float
    """Per cent of the runs that reach it."""
    deviation: float
    """Mean volume between a run's front and it, as a share of the box."""


def mean_front(fronts: Sequence[Floats], corner: Floats) -> MeanFront:
    """Give the least attainment surface whose hypervolume reaches the mean of the fronts'.

    With few runs it may lie well above the mean, as there are few surfaces (Molchanov 2005).
    """
    # A box without width, where every loss is 0, has no units to count in.
    side = np.where(corner > 0, corner, 1.0)
    points = np.vstack(fronts) / side
    owner = np.repeat(np.arange(len(fronts)), [len(front) for front in fronts])
    ones = np.ones(len(corner))
    found = moocore.vorob_t(points, owner, ref=ones)
    return MeanFront(
        points=np.asarray(found["ve"]) * side,
        threshold=float(found["threshold"]),
        deviation=float(moocore.vorob_dev(points, owner, ref=ones, ve=found["ve"])),
    )


def _attained(fronts: Sequence[Floats], percent: Sequence[int]) -> Floats:
    points = np.vstack(fronts)
    owner = np.repeat(np.arange(len(fronts)), [len(front) for front in fronts])
    return np.asarray(moocore.eaf(points, owner, percentiles=[*percent]), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Values of repeated runs."""

    count: int
    mean: float
    median: float
    least: float
    greatest: float
    low: float | None
    """95 % t-interval of the mean; None below three runs."""
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Say where values of repeated runs lie."""
    found = np.asarray(values, dtype=np.float64)
    low, high = _interval(found)
    return Spread(
        count=len(found),
        mean=float(found.mean()),
        median=float(np.median(found)),
        least=float(found.min()),
        greatest=float(found.max()),
        low=low,
        high=high,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedTest:
    """Differences of two groups of runs over the seeds that both have."""

    pairs: int
    mean: float
    """Of first minus second."""
    low: float | None
    """95 % t-interval of that mean; None below three pairs."""
    high: float | None
    up: int
    """Pairs in which the first is greater."""
    test: str
    """`wilcoxon` (signed ranks, exact), `t` (paired) or `none` (too few pairs)."""
    p: float | None
    """Two-sided."""
    p_holm: float | None = None
    """The same with Holm's correction over the tests that were made together."""


def paired_test(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Test whether two groups differ; the values of a pair come from one seed.

    From six pairs on it is Wilcoxon's signed-rank test. Fewer signs cannot fall below 0.05,
    whatever they are; there it is the paired t-test, which trusts in normal differences.
    """
    gaps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    test, p = "none", None
    if len(gaps) >= WILCOXON_PAIRS:
        test, p = "wilcoxon", signed_rank_p(gaps)
    elif len(gaps) >= LEAST_PAIRS:
        test, p = "t", _t_p(gaps)
    low, high = _interval(gaps)
    return PairedTest(
        pairs=len(gaps),
        mean=float(gaps.mean()) if len(gaps) else 0.0,
        low=low,
        high=high,
        up=int(np.sum(gaps > 0)),
        test=test,
        p=p,
    )


def holm_over(p: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values of tests that are made together by Holm's method; None stays None."""
    made = holm(np.array([np.nan if value is None else value for value in p], dtype=np.float64))
    return [None if np.isnan(value) else float(value) for value in made]


def signed_rank_p(gaps: Floats) -> float:
    """Give the exact two-sided p of Wilcoxon's signed-rank test; zeros are left out.

    Exact with ties too, for which scipy's has an approximation: the sum of the ranks that bear a
    plus is counted over all signs.
    """
    found = gaps[gaps != 0]
    if not len(found):
        return 1.0
    # Middle ranks are halves, twice of them are whole.
    twice = np.rint(2 * stats.rankdata(np.abs(found))).astype(int)
    chance = np.ones(1)
    for rank in twice:
        longer = np.zeros(len(chance) + rank)
        longer[: len(chance)] += chance / 2
        longer[rank:] += chance / 2
        chance = longer
    plus = int(twice[found > 0].sum())
    tail = min(chance[: plus + 1].sum(), chance[plus:].sum())
    return float(min(1.0, 2 * tail))


def _t_p(gaps: Floats) -> float:
    if not np.ptp(gaps):
        # No spread at all: equal runs, or an offset that is no accident.
        return 0.0 if gaps[0] else 1.0
    return float(stats.ttest_1samp(gaps, 0.0).pvalue)


def _interval(values: Floats) -> tuple[float | None, float | None]:
    if len(values) < LEAST_PAIRS:
        return None, None
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1))
    half = reach * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half
