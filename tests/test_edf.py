"""Distribution functions of error against scipy, by hand, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evaluators.edf import Comparison, band, compared, visible

RNG = np.random.default_rng(7)


def groups(
    inside: int, outside: int, *, shift: float = 0.0, rng: np.random.Generator = RNG
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give errors that fall with the cost, costs, and the group; those inside err more."""
    group = np.repeat([True, False], [inside, outside])
    cost = np.exp(rng.normal(16, 0.5, len(group)))
    error = 0.3 - 0.03 * (np.log(cost) - 16) + 0.01 * rng.standard_normal(len(group))
    return error + shift * group, cost, group


def fine(found: Comparison | str) -> Comparison:
    """Take the comparison that must be there."""
    assert isinstance(found, Comparison)
    return found


def test_one_bin_is_the_plain_function_and_the_plain_distance() -> None:
    error, cost, group = groups(40, 70, shift=0.01)
    error = np.round(error, 2)  # ties
    found = fine(compared(error, cost, group, bins=1))
    for side, errors in ((found.inside, error[group]), (found.outside, error[~group])):
        oracle = stats.ecdf(errors).cdf
        np.testing.assert_array_equal(side.errors, oracle.quantiles)
        np.testing.assert_allclose(side.shares, oracle.probabilities, atol=1e-12)
        assert side.mean == pytest.approx(errors.mean())
        assert side.least == errors.min()
        assert side.effective == pytest.approx(len(errors))
        assert side.networks == side.matched == len(errors)
    oracle_test = stats.ks_2samp(error[group], error[~group])
    assert found.distance == pytest.approx(oracle_test.statistic)


def test_the_p_value_of_one_bin_is_that_of_scipy_without_ties() -> None:
    for shift in (0.0, 0.008):
        error, _, group = groups(25, 30, shift=shift, rng=np.random.default_rng(3))
        found = fine(compared(error, np.ones(55), group))
        assert found.bins == 1
        oracle = stats.ks_2samp(error[group], error[~group], method="exact").pvalue
        assert found.p_value == pytest.approx(oracle, abs=0.035)


def test_every_bin_weighs_the_same_in_both_groups() -> None:
    # Two sizes: inside 1 small and 5 large networks, outside 4 small and 2 large ones.
    cost = np.array([1.0] + [9.0] * 5 + [1.0] * 4 + [9.0] * 2)
    error = np.array([0.4] + [0.1] * 5 + [0.4] * 4 + [0.1] * 2)
    group = np.arange(12) < 6
    found = fine(compared(error, cost, group, bins=2))
    assert found.bins == 2
    for side in (found.inside, found.outside):
        np.testing.assert_allclose(side.shares, [0.5, 1.0])
        assert side.mean == pytest.approx(0.25)
    assert found.inside.effective == pytest.approx(1 / (0.5**2 + 5 * 0.1**2))
    assert found.distance == pytest.approx(0)
    assert found.p_value == 1
    # Without the bins the same networks seem to differ by half of them.
    assert fine(compared(error, np.ones(12), group)).distance == pytest.approx(0.5)


def test_groups_that_differ_only_in_size_do_not_differ_when_matched() -> None:
    rng = np.random.default_rng(5)
    cost = np.exp(np.concatenate([rng.uniform(14, 17, 150), rng.uniform(15, 18, 150)]))
    error = 0.9 - 0.04 * np.log(cost) + 0.002 * rng.standard_normal(300)
    group = np.arange(300) < 150
    plain = fine(compared(error, cost, group, bins=1))
    matched = fine(compared(error, cost, group))
    assert plain.inside.mean - plain.outside.mean > 0.03
    assert abs(matched.inside.mean - matched.outside.mean) < 0.006
    assert matched.inside.matched < matched.inside.networks == 150


def test_a_shift_is_seen_and_its_absence_is_not() -> None:
    p_values = []
    for shift in (0.0, 0.02):
        error, cost, group = groups(60, 60, shift=shift, rng=np.random.default_rng(11))
        p_values.append(fine(compared(error, cost, group)).p_value)
    assert p_values[0] > 0.1
    assert p_values[1] == pytest.approx(1 / 2000)


def test_the_p_value_is_even_where_nothing_differs_though_sizes_do() -> None:
    p_values = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        cost = np.concatenate([rng.integers(1, 4, 30), rng.integers(2, 5, 30)]).astype(float)
        error = -0.1 * cost + 0.02 * rng.standard_normal(60)
        p_values.append(fine(compared(error, cost, np.arange(60) < 30, seed=seed)).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_the_band_covers_the_whole_function_with_weights_too() -> None:
    # The truth gives each of four sizes a quarter; the samples have 4, 8, 16 and 32 of them.
    numbers, rng = (4, 8, 16, 32), np.random.default_rng(2)
    place = np.repeat(np.arange(4), numbers)
    cost, group = np.tile(np.exp(place), 2), np.arange(120) < 60
    grid = np.linspace(-4, 7, 400)
    truth = stats.norm.cdf(grid[:, None] - np.arange(4)).mean(axis=1)
    inside = 0
    for _ in range(60):
        error = rng.normal(np.tile(place, 2), 1)
        side = fine(compared(error, cost, group, bins=15)).outside
        assert side.effective == pytest.approx(16 / sum(1 / n for n in numbers))
        shares = np.append(0, side.shares)[np.searchsorted(side.errors, grid, side="right")]
        inside += bool((np.abs(shares - truth) <= side.band).all())
    assert inside >= 55  # of 60; 57 are 95 %


def test_the_band_has_massarts_width_and_stays_between_none_and_all() -> None:
    assert band(100) == pytest.approx(0.1358, abs=1e-4)
    assert band(200) == pytest.approx(0.0960, abs=1e-4)
    error, cost, group = groups(20, 20)
    side = fine(compared(error, cost, group)).inside
    assert side.low.min() == 0
    assert side.high.max() == 1


def test_the_same_seed_gives_the_same_result() -> None:
    error, cost, group = groups(30, 30)
    first, again = (fine(compared(error, cost, group, seed=3)) for _ in range(2))
    assert (first.p_value, first.distance) == (again.p_value, again.distance)


def test_too_few_on_a_side_is_said() -> None:
    error, cost, group = groups(4, 50)
    assert compared(error, cost, group) == ("one side has 4 networks; a comparison needs 5 on each")
    assert isinstance(compared([], [], []), str)
    apart = compared(error, np.where(np.arange(54) < 27, 1.0, 2.0), np.arange(54) < 27, bins=2)
    assert apart == (
        "only 0 networks of one side have others of their size on the other; a comparison needs 5"
    )


@pytest.mark.parametrize(
    ("errors", "costs", "inside"),
    [([0.1, float("nan")], [1, 1], [True, False]), ([0.1], [0], [True]), ([0.1], [1, 2], [True])],
)
def test_what_is_no_number_is_refused(
    errors: list[float], costs: list[float], inside: list[bool]
) -> None:
    with pytest.raises(ValueError, match="must be"):
        compared(errors, costs, inside)


def test_the_visible_difference_is_seen_in_four_of_five_samples() -> None:
    rng = np.random.default_rng(5)
    sizes, spreads = (14, 40), (0.02, 0.01)
    least = visible(spreads, sizes)
    sides = [
        rng.normal(mean, spread, (4000, size))
        for mean, spread, size in zip((least, 0), spreads, sizes, strict=True)
    ]
    seen = stats.ttest_ind(*sides, axis=1, equal_var=False).pvalue < 0.05
    assert seen.mean() == pytest.approx(0.8, abs=0.02)
    # G*Power and statsmodels for 64 on each side: half a standard deviation (Cohen 1988).
    assert visible((1, 1), (64, 64)) == pytest.approx(0.5, abs=0.003)
    assert visible((0, 0), (9, 9)) == 0


def test_a_comparison_says_what_it_could_have_seen() -> None:
    error, cost, group = groups(60, 80, rng=np.random.default_rng(2))
    found = fine(compared(error, cost, group))
    # What the size explains is not in the way of a comparison at equal size.
    for side in (found.inside, found.outside):
        assert side.spread == pytest.approx(0.0105, abs=0.002)
    counts = found.inside.effective, found.outside.effective
    assert found.visible == visible((found.inside.spread, found.outside.spread), counts)
    assert fine(compared(np.full(20, 0.3), np.ones(20), np.arange(20) < 9)).visible < 1e-12
    lone = fine(
        compared([0.1, 0.2, 0.3, 0.4, 0.5] * 2, [1, 2, 3, 4, 5] * 2, np.arange(10) < 5, bins=5)
    )
    assert lone.inside.spread == pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1) / 10)
