"""The O'Brien-Fleming boundary against published constants, a normal integral and random walks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evaluators.sequential import boundary, crossing_probability, nominal_level, repeated_p

LOOKS = (8, 12, 16, 20, 24)


def test_the_levels_of_24_blocks_are_the_published_ones() -> None:
    levels = nominal_level(LOOKS, LOOKS, 24, 0.0125)
    assert [float(f"{level:.0e}") for level in levels[:1]] == [9e-6]
    np.testing.assert_allclose(levels, [1e-5, 0.0003, 0.0017, 0.0051, 0.0106], rtol=0.06)
    np.testing.assert_array_equal(np.round(levels, 4), [0.0, 0.0003, 0.0017, 0.0051, 0.0106])


@pytest.mark.parametrize(
    ("looks", "constant"), [(1, 1.960), (2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040), (10, 2.087)]
)
def test_the_constants_at_equal_gaps_are_those_of_the_textbook(looks: int, constant: float) -> None:
    # Jennison and Turnbull (2000), table 2.3, two-sided alpha .05.
    times = tuple((k + 1) / looks for k in range(looks))
    assert boundary(times, 0.05) == pytest.approx(constant, abs=0.0006)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("looks", [(8,), (8, 12), LOOKS, (8, 9, 24), (4, 13, 14, 20)])
def test_a_normal_integral_gives_the_same_crossing(looks: tuple[int, ...], sides: int) -> None:
    times = np.array(looks) / 24
    bound = boundary(tuple(times), 0.0125, sides=sides)
    low = np.full(len(times), -bound if sides == 2 else -np.inf)
    inside = stats.multivariate_normal(
        np.zeros(len(times)), np.minimum.outer(times, times), seed=np.random.default_rng(0)
    ).cdf(np.full(len(times), bound), lower_limit=low)
    assert 1 - inside == pytest.approx(0.0125, abs=2e-5)


def test_a_random_walk_crosses_as_often_as_it_may() -> None:
    steps = np.random.default_rng(0).normal(size=(100_000, 24)) / np.sqrt(24)
    walk = steps.cumsum(axis=1)[:, np.array(LOOKS) - 1]
    bound = boundary(tuple(look / 24 for look in LOOKS), 0.05)
    assert (np.abs(walk) >= bound).any(axis=1).mean() == pytest.approx(0.05, abs=0.003)
    one = boundary(tuple(look / 24 for look in LOOKS), 0.05, sides=1)
    assert (walk >= one).any(axis=1).mean() == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize("sides", [1, 2])
def test_one_look_is_the_plain_test(sides: int) -> None:
    assert nominal_level(12, (12,), 12, 0.0125, sides=sides) == pytest.approx(0.0125)
    assert crossing_probability(1.5, (1.0,), sides=sides) == pytest.approx(
        sides * stats.norm.sf(1.5)
    )


def test_a_look_after_every_block_is_still_integrated_well() -> None:
    times = tuple((k + 1) / 50 for k in range(50))
    # Siegmund's correction for a walk in steps: the bound moves out by .583 of a step.
    continuous = 2 * stats.norm.sf(2.5 + 0.583 / np.sqrt(50))
    assert crossing_probability(2.5, times, sides=1) == pytest.approx(continuous, rel=0.03)


@pytest.mark.parametrize("sides", [1, 2])
def test_the_repeated_p_reaches_alpha_where_the_look_stops(sides: int) -> None:
    levels = nominal_level(LOOKS, LOOKS, 24, 0.0125, sides=sides)
    for look, level in zip(LOOKS, levels, strict=True):
        found = repeated_p(float(level), look, LOOKS, 24, sides=sides)
        assert found == pytest.approx(0.0125, rel=1e-6)
        assert repeated_p(float(level) / 2, look, LOOKS, 24, sides=sides) < 0.0125
        assert repeated_p(float(level) * 2, look, LOOKS, 24, sides=sides) > 0.0125


@pytest.mark.parametrize("end", [9, 15, 23])
def test_an_end_between_looks_spends_no_more(end: int) -> None:
    bound = boundary(tuple(look / 24 for look in LOOKS), 0.0125)
    times = tuple(look / 24 for look in (*(look for look in LOOKS if look < end), end))
    assert crossing_probability(bound, times) < 0.0125
    assert nominal_level(end, LOOKS, 24, 0.0125) == pytest.approx(
        2 * stats.norm.sf(bound / np.sqrt(end / 24))
    )


def test_the_repeated_p_has_ends() -> None:
    assert repeated_p(1.0, 8, LOOKS, 24) == 1.0
    assert repeated_p(0.7, 8, LOOKS, 24, sides=1) == 1.0
    assert repeated_p(0.0, 24, LOOKS, 24) == 0.0
    assert repeated_p(1e-30, 24, LOOKS, 24) == pytest.approx(0.0, abs=1e-12)
