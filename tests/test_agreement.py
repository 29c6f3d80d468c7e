"""Agreement of two rankings and top-k regret, with intervals that cover."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from evaluators.agreement import agreement, regret, regret_interval, seed_agreement

Floats = NDArray[np.float64]


def normal_pair(rng: np.random.Generator, networks: int, tau: float) -> tuple[Floats, Floats]:
    """Draw a proxy and the truth with this Kendall's tau; the truth's s.d. is 2.5 points."""
    r = math.sin(tau * math.pi / 2)
    proxy, rest = rng.standard_normal((2, networks))
    return proxy, 2.5 * (r * proxy + math.sqrt(1 - r * r) * rest)


# Tau


@pytest.mark.parametrize("places", [1, 6])
def test_the_value_is_scipys_tau_b(places: int) -> None:
    rng = np.random.default_rng(1)
    x, y = (score.round(places) for score in normal_pair(rng, 40, 0.4))
    assert agreement(x, y, rng).value == stats.kendalltau(x, y).statistic


def test_the_interval_is_the_bootstrap_over_pairs_of_distinct_networks() -> None:
    x, y = normal_pair(np.random.default_rng(2), 25, 0.4)
    y[:6] = y[6:12]
    rng, resampled = np.random.default_rng(3), []
    for _ in range(3000):
        drawn = rng.integers(25, size=25)
        pairs = [(i, j) for i, j in itertools.combinations(drawn, 2) if i != j]
        signs = np.array([(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs])
        size = np.sqrt((signs[:, 0] ** 2).sum() * (signs[:, 1] ** 2).sum())
        resampled.append((signs[:, 0] * signs[:, 1]).sum() / size)
    found = agreement(x, y, np.random.default_rng(4))
    assert (found.low, found.high) == pytest.approx(
        np.quantile(resampled, (0.025, 0.975)), abs=0.03
    )


def test_resampled_networks_do_not_pull_tau_anywhere() -> None:
    x, y = normal_pair(np.random.default_rng(5), 12, 0.6)
    found = agreement(x, y, np.random.default_rng(6), resamples=20000)
    assert found.low < found.value < found.high
    assert agreement(x, x, np.random.default_rng(6)).value == pytest.approx(1)


@pytest.mark.parametrize(
    ("networks", "half"),
    [
        *((10, 0.38), (20, 0.25), (30, 0.19), (50, 0.14)),
        pytest.param(100, 0.10, marks=pytest.mark.slow),
        pytest.param(200, 0.07, marks=pytest.mark.slow),
    ],
)
def test_half_widths_of_a_tau_of_a_half(networks: int, half: float) -> None:
    rng = np.random.default_rng(7)
    pairs = [normal_pair(rng, networks, 0.5) for _ in range(400)]
    values = [stats.kendalltau(x, y).statistic for x, y in pairs]
    assert 1.96 * np.std(values) == pytest.approx(half, abs=0.03)
    told = [agreement(x, y, rng, resamples=300) for x, y in pairs[:60]]
    width = float(np.mean([(tau.high - tau.low) / 2 for tau in told]))
    # With ten networks the resampled tau varies by a fifth more than tau does.
    assert width == pytest.approx(half, abs=0.1 if networks == 10 else 0.035)


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_intervals_of_tau_cover(tau: float) -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(400):
        found = agreement(*normal_pair(rng, 20, tau), rng, resamples=200)
        covered += found.low <= tau <= found.high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("networks", [10, 20, 50, 100])
@pytest.mark.parametrize("tau", [0.0, 0.3, 0.5, 0.8])
def test_intervals_of_tau_cover_at_every_size(networks: int, tau: float) -> None:
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(1500):
        found = agreement(*normal_pair(rng, networks, tau), rng, resamples=300)
        covered += found.low <= tau <= found.high
    # Near 1 tau's own spread is less than that of its resamples: they claim too little.
    assert 0.93 <= covered / 1500 <= (0.99 if tau == 0.8 else 0.97)


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_agreement_of_a_few_is_not_certainty(sign: int) -> None:
    rng = np.random.default_rng(10)
    few, more = (agreement(np.arange(n), sign * np.arange(n), rng) for n in (6, 30))
    assert (few.value, more.value) == pytest.approx((sign, sign))
    widths = [tau.high - tau.low for tau in (few, more)]
    assert widths[0] > 0.2 > widths[1] > 0
    assert few.value in (few.low, few.high)


def test_fewer_than_five_networks_say_nothing() -> None:
    found = agreement([1, 2, 3, 4], [1, 2, 4, 3], np.random.default_rng(11))
    assert (found.low, found.high) == (-1, 1)


@pytest.mark.parametrize(
    ("x", "y"), [([], []), ([1, 2], [1, 2]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3], [5, 5, 5])]
)
def test_where_nothing_is_ranked_there_is_no_tau(x: list[float], y: list[float]) -> None:
    found = agreement(x, y, np.random.default_rng(12))
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_networks_that_were_not_measured_are_left_out() -> None:
    x, y = normal_pair(np.random.default_rng(13), 20, 0.5)
    whole = agreement(x, y, np.random.default_rng(13))
    holes = agreement([*x, math.nan, 1], [*y, 2, math.inf], np.random.default_rng(13))
    assert holes == whole


def test_where_nearly_all_tie_the_value_is_in_its_interval() -> None:
    found = agreement([0] * 9 + [1], np.arange(10), np.random.default_rng(14))
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_seeds_agree_as_first_and_second_trainings_do() -> None:
    rng = np.random.default_rng(15)
    worth = rng.standard_normal(60)
    groups = [list(one + rng.standard_normal(1 + place % 3)) for place, one in enumerate(worth)]
    twice = [group for group in groups if len(group) > 1]
    found = seed_agreement(groups, np.random.default_rng(16))
    expected = agreement(
        [group[0] for group in twice],
        [group[1] for group in twice],
        np.random.default_rng(16),
    )
    assert found == expected
    assert math.isnan(seed_agreement([[1.0], [2.0]], rng).value)


# Regret


def test_regret_is_what_the_best_of_the_first_k_is_short_of() -> None:
    proxy, truth = [5, 4, 3, 2, 1], [70.0, 72.0, 71.0, 75.0, 60.0]
    assert [regret(proxy, truth, k) for k in (1, 2, 3, 4, 5, 9)] == [5, 3, 3, 0, 0, 0]


def test_ties_of_the_proxy_are_let_in_at_random() -> None:
    rng = np.random.default_rng(17)
    proxy, truth = rng.integers(3, size=9), rng.standard_normal(9)
    for k in range(1, 9):
        losses = []
        for _ in range(2000):
            first = np.lexsort((rng.random(9), -proxy))[:k]
            losses.append(truth.max() - truth[first].max())
        assert regret(proxy, truth, k) == pytest.approx(np.mean(losses), abs=0.08)


def test_a_proxy_that_says_nothing_is_choice_at_random() -> None:
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert regret(np.zeros(4), truth, 1) == pytest.approx(1.5)
    pairs = [4 - max(pair) for pair in itertools.combinations(truth, 2)]
    assert regret(np.zeros(4), truth, 2) == pytest.approx(np.mean(pairs))
    blind = regret_interval(np.zeros(4), truth, 1, np.random.default_rng(18))
    assert 0 <= blind.low <= 1.5 <= blind.high


@pytest.mark.parametrize(
    ("tau", "first", "ten", "twenty"),
    [(0.3, 3.7, 1.06, 0.63), (0.5, 2.0, 0.33, 0.15), (0.65, 1.0, 0.07, 0.02), (0.8, 0.32, 0, 0)],
)
def test_regrets_of_two_hundred_networks(
    tau: float, first: float, ten: float, twenty: float
) -> None:
    rng = np.random.default_rng(19)
    pairs = [normal_pair(rng, 200, tau) for _ in range(1500)]
    found = [np.mean([regret(x, y, k) for x, y in pairs]) for k in (1, 10, 20)]
    assert found == pytest.approx([first, ten, twenty], abs=0.15)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_other_networks_lose_what_the_interval_says(k: int) -> None:
    rng = np.random.default_rng(20)
    held = 0
    for _ in range(300):
        told = regret_interval(*normal_pair(rng, 20, 0.5), k, rng, resamples=300)
        held += told.low <= regret(*normal_pair(rng, 20, 0.5), k) <= told.high
        assert told.low <= told.value <= told.high
        assert told.low >= 0
    assert held / 300 >= 0.91


def test_the_interval_needs_the_order_of_the_proxy_only() -> None:
    proxy, truth = normal_pair(np.random.default_rng(21), 30, 0.5)
    plain = regret_interval(proxy, truth, 3, np.random.default_rng(22))
    bent = regret_interval(np.exp(5 * proxy), truth, 3, np.random.default_rng(22))
    assert plain == bent


def test_the_same_generator_gives_the_same_intervals() -> None:
    x, y = normal_pair(np.random.default_rng(23), 20, 0.5)
    runs = [
        (agreement(x, y, rng), regret_interval(x, y, 5, rng))
        for rng in (np.random.default_rng(24), np.random.default_rng(24))
    ]
    assert runs[0] == runs[1]


def test_thousands_of_networks_are_resampled_less_often_and_nearly_as_well() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(1200)
    y = x + rng.standard_normal(1200)
    few = agreement(x, y, np.random.default_rng(0))
    fewest = agreement(x, y, np.random.default_rng(0), resamples=100)
    assert few.value == fewest.value
    assert few.low == pytest.approx(few.value - 0.03, abs=0.012)
    assert few.high == pytest.approx(few.value + 0.03, abs=0.012)
