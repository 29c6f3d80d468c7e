"""Indicators of fronts, against counting by hand, and laws that hold for every set of points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evaluators.fronts import (
    ATTAINED,
    Floats,
    Scale,
    additive_epsilon,
    contributions,
    growth,
    holm_over,
    hypervolume,
    igd_plus,
    mean_front,
    nondominated,
    paired_test,
    signed_rank_p,
    spread,
    surfaces,
)

# Whole numbers: many ties and equal points, and every sum is exact.
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8)
CORNER = np.array([8.0, 7.0])


def array(points: list[tuple[int, int]]) -> Floats:
    return np.array(points, dtype=float)


def dominated_cells(points: Floats) -> int:
    """Count the unit cells of the box that a point is below and left of."""
    return sum(
        any(x <= i and y <= j for x, y in points)
        for i, j in itertools.product(range(int(CORNER[0])), range(int(CORNER[1])))
    )


@settings(max_examples=30, deadline=None)
@given(POINTS)
def test_hypervolume_is_the_share_of_dominated_cells(points: list[tuple[int, int]]) -> None:
    found = array(points)
    share = dominated_cells(found) / CORNER.prod()
    assert hypervolume(found, CORNER) == pytest.approx(share)
    grown = growth(found, CORNER)
    assert grown[-1] == pytest.approx(share)
    assert all(
        value == pytest.approx(dominated_cells(found[: n + 1]) / CORNER.prod())
        for n, value in enumerate(grown)
    )


def test_hypervolume_of_nothing_and_of_an_empty_box_is_0() -> None:
    assert hypervolume(np.empty((0, 2)), CORNER) == 0
    assert hypervolume(np.zeros((1, 2)), np.array([1.0, 0.0])) == 0
    assert hypervolume(CORNER[None], CORNER) == 0
    assert hypervolume(np.array([[0.25]]), np.ones(1)) == 0.75


@settings(max_examples=30, deadline=None)
@given(POINTS, POINTS)
def test_igd_plus_and_epsilon_are_as_their_definitions(
    points: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    found, reference = array(points), array(others)
    shortfall = [
        min(float(np.hypot(*np.maximum(point - target, 0))) for point in found)
        for target in reference
    ]
    assert igd_plus(found, reference) == pytest.approx(np.mean(shortfall))
    steps = [min(float(np.max(point - target)) for point in found) for target in reference]
    assert additive_epsilon(found, reference) == pytest.approx(max(steps))


@settings(max_examples=25, deadline=None)
@given(POINTS, POINTS)
def test_the_front_of_all_runs_is_at_distance_0_of_itself_and_the_best(
    points: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    one, two = array(points), array(others)
    both = np.vstack([one, two])
    union = both[nondominated(both)]
    assert igd_plus(both, union) == 0
    assert additive_epsilon(both, union) == 0
    for own in (one, two):
        assert igd_plus(own, union) >= 0
        assert additive_epsilon(own, union) >= 0
        assert hypervolume(own, CORNER) <= hypervolume(both, CORNER)


@settings(max_examples=25, deadline=None)
@given(POINTS)
def test_a_point_is_on_the_front_where_none_beats_it(points: list[tuple[int, int]]) -> None:
    found = array(points)
    beaten = [
        any(np.all(other <= point) and np.any(other < point) for other in found) for point in found
    ]
    assert list(nondominated(found)) == [not one for one in beaten]


def test_the_scale_is_the_joint_range_of_the_fronts_without_what_they_dominate() -> None:
    one = np.array([[1.0, 8.0], [3.0, 6.0], [900.0, 900.0]])
    two = np.array([[2.0, 4.0]])
    scale = Scale.of([one, two])
    assert scale(np.array([[1.0, 4.0], [3.0, 8.0]])).tolist() == [[0, 0], [1, 1]]
    assert scale.low.tolist() == [1, 4]
    assert scale.span.tolist() == [2, 4]
    level = Scale.of([np.array([[1.0, 5.0]]), np.array([[2.0, 5.0]])])
    assert level(np.array([[2.0, 5.0]])).tolist() == [[1, 0]]


def test_contributions_count_own_points_and_what_would_be_lost() -> None:
    one = np.array([[0.0, 3.0], [4.0, 4.0]])
    two = np.array([[2.0, 0.0]])
    same = np.array([[2.0, 0.0]])
    found = contributions([one, two, same], CORNER)
    assert [own.points for own in found] == [1, 1, 1]
    # Two columns of cells right of 0 and left of 2, four high; what two runs share none loses.
    assert [own.alone * CORNER.prod() for own in found] == pytest.approx([8, 0, 0])


@settings(max_examples=30, deadline=None)
@given(st.lists(POINTS, min_size=2, max_size=5))
def test_a_surface_bounds_what_so_many_of_the_runs_reach(
    runs: list[list[tuple[int, int]]],
) -> None:
    fronts = [array(points) for points in runs]
    reached = surfaces(fronts)
    for i, j in itertools.product(range(8), range(8)):
        share = 100 * np.mean([np.any(np.all(front <= (i, j), axis=1)) for front in fronts])
        for percent in ATTAINED:
            inside = bool(np.any(np.all(reached[percent] <= (i, j), axis=1)))
            assert inside == (share >= percent)


def test_the_mean_front_reaches_the_mean_hypervolume_and_equals_do_not_scatter() -> None:
    front = np.array([[1.0, 4.0], [3.0, 2.0]])
    level = mean_front([front, front, front], CORNER)
    assert level.deviation == pytest.approx(0)
    assert sorted(map(tuple, level.points)) == [(1.0, 4.0), (3.0, 2.0)]
    steps = [front, front + 1, front + 2]
    scattered = mean_front(steps, CORNER)
    mean = np.mean([hypervolume(step, CORNER) for step in steps])
    # The second of three is below the mean, so the mean front is the best of them.
    assert hypervolume(steps[1], CORNER) < mean < hypervolume(steps[0], CORNER)
    assert sorted(map(tuple, scattered.points)) == [(1.0, 4.0), (3.0, 2.0)]
    off = [abs(hypervolume(step, CORNER) - hypervolume(front, CORNER)) for step in steps]
    assert scattered.deviation == pytest.approx(np.mean(off))


def test_a_box_without_width_has_a_mean_front_too() -> None:
    front = np.array([[0.0, 2.0]])
    assert mean_front([front, front], np.array([0.0, 2.2])).points.tolist() == [[0, 2]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_signed_rank_test_counts_all_signs(gaps: list[int]) -> None:
    found = np.array([gap for gap in gaps if gap], dtype=float)
    ranks = stats.rankdata(np.abs(found))
    seen = float(ranks[found > 0].sum())
    sums = [
        sum(rank for rank, plus in zip(ranks, signs, strict=True) if plus)
        for signs in itertools.product([0, 1], repeat=len(found))
    ]
    tail = min(np.mean([s <= seen for s in sums]), np.mean([s >= seen for s in sums]))
    assert signed_rank_p(np.array(gaps, dtype=float)) == pytest.approx(min(1, 2 * tail))


def test_the_signed_rank_test_is_scipys_where_that_is_exact() -> None:
    gaps = np.random.default_rng(0).normal(0.4, 1, 11)
    assert signed_rank_p(gaps) == pytest.approx(stats.wilcoxon(gaps, method="exact").pvalue)


def test_few_pairs_get_a_t_test_and_fewer_none() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(1, 0.2, 7), rng.normal(0, 0.2, 7)
    many = paired_test(list(one), list(two))
    assert (many.test, many.pairs, many.up) == ("wilcoxon", 7, 7)
    assert many.p == pytest.approx(2 / 2**7)
    few = paired_test(list(one[:4]), list(two[:4]))
    oracle = stats.ttest_rel(one[:4], two[:4])
    interval = oracle.confidence_interval()
    assert few.test == "t"
    assert few.p == pytest.approx(oracle.pvalue)
    assert (few.low, few.high) == pytest.approx((interval.low, interval.high))
    two_alone = paired_test([1.0, 2.0], [0.0, 0.0])
    assert (two_alone.test, two_alone.p, two_alone.low) == ("none", None, None)
    assert two_alone.mean == 1.5


def test_equal_runs_do_not_differ() -> None:
    for count in (3, 8):
        found = paired_test([0.5] * count, [0.5] * count)
        assert (found.mean, found.p, found.up) == (0, 1, 0)
    assert paired_test([1.0] * 3, [0.5] * 3).p == 0


def test_holm_steps_down_over_the_tests_that_were_made() -> None:
    assert holm_over([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm_over([None]) == [None]
    assert holm_over([]) == []


def test_a_spread_has_an_interval_from_three_runs_on() -> None:
    found = spread([1.0, 2.0, 6.0])
    oracle = stats.ttest_1samp([1.0, 2.0, 6.0], 0).confidence_interval()
    assert (found.count, found.mean, found.median) == (3, 3, 2)
    assert (found.least, found.greatest) == (1, 6)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    assert spread([1.0, 2.0]).low is None
