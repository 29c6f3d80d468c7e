"""Estimates of networks: the noise arithmetic, shrinkage, standing and the front, calibrated."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from evaluators.estimates import (
    Shrunken,
    front_probability,
    noise,
    seed_deviation,
    shrunken,
    standing,
)

Floats = NDArray[np.float64]

NONE = np.zeros((0, 0))
S = 0.8
"""Points between seeds, as the pilot measured."""


class Population(NamedTuple):
    """Networks whose worth is known, and what one or more trainings of each said."""

    worth: Floats
    scores: list[Floats]
    covariates: Floats
    cost: Floats


def population(
    rng: np.random.Generator,
    networks: int,
    between: float,
    *,
    slope: float = 0.0,
    columns: int = 1,
    most_seeds: int = 1,
) -> Population:
    """Draw networks as the model has them; the first covariate is worth `slope` a deviation."""
    covariates = rng.standard_normal((networks, columns))
    worth = 75 + slope * covariates[:, 0] + between * rng.standard_normal(networks)
    scores = [
        one + S * rng.standard_normal(rng.integers(1, most_seeds, endpoint=True)) for one in worth
    ]
    return Population(worth, scores, covariates, rng.random(networks))


def on_front(worth: Floats, cost: Floats) -> NDArray[np.bool_]:
    """Say by definition which networks no other beats in worth and cost."""
    better = (worth[None] >= worth[:, None]) & (cost[None] <= cost[:, None])
    strictly = (worth[None] > worth[:, None]) | (cost[None] < cost[:, None])
    return ~np.asarray((better & strictly).any(axis=1))


# The arithmetic of noise


@pytest.mark.parametrize(
    ("between", "one", "three"),
    [
        (0.5, (0.28, 0.18, 0.36), (0.54, 0.36, 0.53)),
        (0.8, (0.50, 0.33, 0.50), (0.75, 0.54, 0.67)),
        (1.5, (0.78, 0.57, 0.69), (0.91, 0.73, 0.81)),
        (2.5, (0.91, 0.72, 0.80), (0.97, 0.84, 0.88)),
    ],
)
def test_the_ceilings_of_tau_at_a_seed_deviation_of_0_8(
    between: float, one: tuple[float, ...], three: tuple[float, ...]
) -> None:
    for seed_sd, expected in ((S, one), (S / math.sqrt(3), three)):
        told = noise(seed_sd, 60, between)
        given = (told.reliability, told.tau_repeat, told.tau_ceiling)
        assert given == pytest.approx(expected, abs=0.005)


def test_the_ceilings_are_what_kendall_finds() -> None:
    rng = np.random.default_rng(1)
    truth = rng.standard_normal(4000) * 1.5
    first, second = truth + S * rng.standard_normal((2, 4000))
    told = noise(S, 60, 1.5)
    assert stats.kendalltau(first, second).statistic == pytest.approx(told.tau_repeat, abs=0.02)
    assert stats.kendalltau(first, truth).statistic == pytest.approx(told.tau_ceiling, abs=0.02)


def test_without_any_variance_nothing_is_reliable() -> None:
    assert noise(0.0, 0, 0.0).tau_ceiling == 0
    assert noise(0.0, 4, 1.0).tau_ceiling == 1
    assert noise(0.8, 4, 0.0).tau_repeat == 0


def test_seed_deviations_are_pooled_by_their_degrees_of_freedom() -> None:
    groups = [[1.0, 3.0], [5.0], [2.0, 2.0, 5.0]]
    squares = 2.0 + 6.0
    assert seed_deviation(groups, None) == pytest.approx((math.sqrt(squares / 3), 3))
    pooled = math.sqrt((squares + 7 * 0.25) / 10)
    assert seed_deviation(groups, (0.5, 7)) == pytest.approx((pooled, 10))
    assert seed_deviation([], (0.5, 7)) == (0.5, 7)
    assert seed_deviation([[5.0]], None) == pytest.approx((math.nan, 0), nan_ok=True)


# Shrinkage


def test_the_posterior_is_the_integral_over_a() -> None:
    scores, seeds = np.array([70.0, 71.0, 71.5, 73.0, 76.0]), np.array([1.0, 3, 1, 2, 1])
    variances = S**2 / seeds
    found = shrunken([[y] * int(k) for y, k in zip(scores, seeds, strict=True)], NONE, S)

    def density(a: float) -> float:
        # Flat in A^2; the mean is integrated out by the density of the n - 1 differences.
        total = np.diag(a**2 + variances)
        contrast = np.eye(5)[1:] - np.eye(5)[:1]
        centred = stats.multivariate_normal(cov=contrast @ total @ contrast.T)
        return float(a * centred.pdf(contrast @ scores))

    def weighted(a: float, network: int) -> float:
        weights = 1 / (a**2 + variances)
        mean = np.average(scores, weights=weights)
        own = a**2 * weights[network]
        return density(a) * float(own * scores[network] + (1 - own) * mean)

    whole = integrate.quad(density, 0, 200, limit=400)[0]
    for network in range(5):
        mean = integrate.quad(weighted, 0, 200, args=(network,), limit=400)[0] / whole
        assert found.mean[network] == pytest.approx(mean, abs=0.001)


def test_the_moments_are_those_of_the_draws() -> None:
    rng = np.random.default_rng(2)
    some = population(rng, 30, 0.8, slope=1.0, columns=3, most_seeds=3)
    found = shrunken(some.scores, some.covariates, S, freedom=8)
    drawn = found.posterior.draw(rng, 20000)
    assert drawn.mean(axis=0) == pytest.approx(found.mean, abs=0.03)
    assert drawn.std(axis=0) == pytest.approx(found.sd, rel=0.03)


def test_between_networks_it_is_the_analysis_of_variance_where_seeds_are_balanced() -> None:
    rng = np.random.default_rng(3)
    scores = 75 + rng.standard_normal((40, 1)) + S * rng.standard_normal((40, 3))
    between = float(scores.mean(axis=1).var(ddof=1)) - S**2 / 3
    found = shrunken(scores.tolist(), NONE, S)
    assert found.between_sd == pytest.approx(math.sqrt(between), rel=1e-6)
    assert found.reliability == pytest.approx(between / (between + S**2))


def test_the_deviation_between_networks_is_right_on_average_and_never_negative() -> None:
    rng = np.random.default_rng(4)
    for between in (0.0, 0.5, 2.5):
        found = [
            shrunken(some.scores, NONE, S).between_sd
            for some in (population(rng, 60, between, most_seeds=3) for _ in range(60))
        ]
        assert min(found) >= 0
        mean_square = float(np.mean(np.square(found)))
        assert math.sqrt(mean_square) == pytest.approx(between, abs=0.12 if between else 0.3)


def test_what_covariates_tell_is_signal() -> None:
    rng = np.random.default_rng(5)
    some = population(rng, 200, 0.3, slope=1.5)
    with_them = shrunken(some.scores, some.covariates, S)
    without = shrunken(some.scores, NONE, S)
    assert with_them.between_sd == without.between_sd == pytest.approx(1.53, abs=0.2)
    miss, miss_without = (np.std(x.mean - some.worth) for x in (with_them, without))
    assert miss < 0.7 * miss_without
    assert with_them.sd.mean() < 0.7 * without.sd.mean()


def test_covariates_count_by_what_they_span() -> None:
    rng = np.random.default_rng(6)
    some = population(rng, 25, 0.8, slope=1.0, columns=2)
    first, second = some.covariates.T
    plain = shrunken(some.scores, some.covariates, S)
    other = np.column_stack([1e9 + 1e7 * first, np.full(25, 3.0), second - first, second, first])
    spanned = shrunken(some.scores, other, S)
    assert spanned.posterior.columns.shape == (25, 3)
    assert spanned.mean == pytest.approx(plain.mean, abs=1e-5)
    assert spanned.sd == pytest.approx(plain.sd, abs=1e-5)


@pytest.mark.parametrize(("networks", "columns"), [(3, 2), (4, 4), (3, 8), (2, 1), (1, 3)])
def test_too_few_networks_for_their_covariates_are_drawn_to_their_mean(
    networks: int, columns: int
) -> None:
    some = population(np.random.default_rng(7), networks, 0.8, columns=columns)
    with_them = shrunken(some.scores, some.covariates, S)
    assert with_them.posterior.columns.shape == (networks, 1)
    assert with_them.mean.tolist() == shrunken(some.scores, NONE, S).mean.tolist()
    assert np.isfinite(with_them.sd).all()


def test_a_lone_network_is_worth_its_score() -> None:
    found = shrunken([[70.0, 72.0]], NONE, S)
    assert found.mean == pytest.approx([71.0])
    assert found.sd == pytest.approx([S / math.sqrt(2)])
    assert found.between_sd == 0
    where = standing(found, cost=[1.0], cost_sd=None, rng=np.random.default_rng(8))
    assert (where.p_best, where.p_front, where.rank_high, where.tied) == (1, 1, 1, True)


def test_without_noise_scores_are_the_truth() -> None:
    found = shrunken([[70.0], [71.0], [75.0]], NONE, 0.0)
    assert found.mean == pytest.approx([70, 71, 75], abs=1e-4)
    assert found.sd.max() < 1e-4
    assert found.reliability == 1
    where = standing(found, cost=[1, 2, 3], cost_sd=None, rng=np.random.default_rng(8))
    assert where.tied.tolist() == [False, False, True]


def test_equal_scores_stay_equal() -> None:
    for seed_sd in (0.0, 0.8):
        found = shrunken([[70.0]] * 6, np.arange(6), seed_sd)
        assert found.mean == pytest.approx(np.full(6, 70.0))
        assert (found.between_sd, found.reliability) == (0, 0)


def test_more_seeds_shrink_less_and_are_surer() -> None:
    found = shrunken([[72.0], [72.0] * 4, *([y] for y in (68.0, 69, 70, 71, 70))], NONE, S)
    assert found.mean[0] < found.mean[1] < 72
    assert found.sd[1] < found.sd[0]


def test_many_degrees_of_freedom_are_as_good_as_a_known_deviation() -> None:
    some = population(np.random.default_rng(9), 40, 2.5)
    known = shrunken(some.scores, NONE, S)
    many = shrunken(some.scores, NONE, S, freedom=100_000)
    few = shrunken(some.scores, NONE, S, freedom=6)
    assert many.mean == pytest.approx(known.mean, abs=0.02)
    assert many.sd == pytest.approx(known.sd, rel=0.02)
    assert few.sd.mean() > 1.05 * known.sd.mean()


@pytest.mark.parametrize(
    ("scores", "covariates", "seed_sd"),
    [
        ([], NONE, S),
        ([[70.0], []], NONE, S),
        ([[70.0], [math.nan]], NONE, S),
        ([[70.0], [71.0]], [[1.0], [math.inf]], S),
        ([[70.0], [71.0]], NONE, math.nan),
        ([[70.0], [71.0]], NONE, -0.1),
    ],
)
def test_what_cannot_be_estimated_is_refused(
    scores: list[list[float]], covariates: object, seed_sd: float
) -> None:
    with pytest.raises(ValueError, match="must be"):
        shrunken(scores, np.asarray(covariates), seed_sd)


# Standing


def simple(seed: int = 10, networks: int = 12) -> tuple[Population, Shrunken]:
    some = population(np.random.default_rng(seed), networks, 1.0)
    return some, shrunken(some.scores, NONE, S)


def test_a_standing_is_what_counting_world_by_world_gives() -> None:
    some, found = simple()
    worlds = found.posterior.draw(np.random.default_rng(11), 1000)
    where = standing(found, cost=some.cost, cost_sd=None, rng=np.random.default_rng(11), draws=1000)
    ranks = np.array([[1 + int((world > one).sum()) for one in world] for world in worlds])
    best = int(np.argmax(found.mean))
    for network in range(12):
        mine = np.sort(ranks[:, network])
        assert mine[24] <= where.rank_low[network] <= mine[25]
        assert mine[974] <= where.rank_high[network] <= mine[975]
        assert where.p_best[network] == np.mean(mine == 1)
        lead = np.sort(worlds[:, best] - worlds[:, network])
        assert where.tied[network] == (lead[24] + 0.975 * (lead[25] - lead[24]) <= 0)
    front = np.mean([on_front(world, some.cost) for world in worlds], axis=0)
    assert where.p_front == pytest.approx(front)
    assert where.p_best.sum() == pytest.approx(1)
    assert (where.low < found.mean).all()
    assert (found.mean < where.high).all()


def test_the_same_generator_gives_the_same_standing() -> None:
    some, found = simple()
    runs = [
        standing(found, cost=some.cost, cost_sd=0.1, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    assert runs[0].p_front.tolist() == runs[1].p_front.tolist()
    assert runs[0].low.tolist() == runs[1].low.tolist()
    assert runs[0].p_front.tolist() != runs[2].p_front.tolist()


def test_the_front_against_more_costs_than_one() -> None:
    rng = np.random.default_rng(12)
    worlds, costs = rng.standard_normal((50, 8)), rng.random((8, 2))
    found = front_probability(worlds, costs, None, rng)
    for network in range(8):
        free = 0
        for world in worlds:
            beaten = [
                other
                for other in range(8)
                if world[other] > world[network] and (costs[other] <= costs[network]).all()
            ]
            free += not beaten
        assert found[network] == free / 50


def test_equal_networks_share_the_front_and_unmeasured_ones_are_on_none() -> None:
    worlds = np.tile([70.0, 70.0, 80.0, 60.0], (5, 1))
    rng = np.random.default_rng(13)
    found = front_probability(worlds, [1.0, 1.0, math.nan, 2.0], None, rng)
    assert found.tolist() == pytest.approx([1, 1, math.nan, 0], nan_ok=True)


def test_costs_that_are_not_exact_blur_the_front() -> None:
    worlds = np.tile([70.0, 71.0], (4000, 1))
    rng = np.random.default_rng(14)
    assert front_probability(worlds, [1.0, 0.9], None, rng).tolist() == [0, 1]
    blurred = front_probability(worlds, [1.0, 0.9], [0.1, 0.0], rng)
    assert blurred[0] == pytest.approx(stats.norm.cdf(-1), abs=0.03)
    assert blurred[1] == 1
    each = front_probability(worlds, [[1.0], [0.9]], [[0.1], [0.0]], rng)
    assert each[0] == pytest.approx(blurred[0], abs=0.03)


# Calibration over simulated populations


@pytest.mark.parametrize("between", [0.5, 0.8, 2.5])
def test_intervals_cover_the_worth_and_the_rank(between: float) -> None:
    rng = np.random.default_rng(15)
    covered, ranks = [], []
    for _ in range(40):
        some = population(rng, 80, between, slope=0.5, columns=2, most_seeds=2)
        where = standing(
            shrunken(some.scores, some.covariates, S),
            cost=some.cost,
            cost_sd=None,
            rng=rng,
            draws=400,
        )
        covered.append(np.mean((where.low <= some.worth) & (some.worth <= where.high)))
        rank = stats.rankdata(-some.worth)
        ranks.append(np.mean((where.rank_low <= rank) & (rank <= where.rank_high)))
    assert 0.93 <= np.mean(covered) <= 0.97
    assert 0.93 <= np.mean(ranks) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("networks", [20, 200])
@pytest.mark.parametrize("between", [0.25, 0.5, 0.8, 2.5])
@pytest.mark.parametrize("freedom", [None, 60])
def test_intervals_cover_at_every_size(networks: int, between: float, freedom: int | None) -> None:
    rng = np.random.default_rng(16)
    covered = []
    for _ in range(12_000 // networks):
        some = population(rng, networks, between, slope=0.5)
        given = S if freedom is None else S * math.sqrt(rng.chisquare(freedom) / freedom)
        found = shrunken(some.scores, some.covariates, given, freedom=freedom)
        worlds = found.posterior.draw(rng, 400)
        low, high = np.quantile(worlds, (0.025, 0.975), axis=0)
        covered.append(np.mean((low <= some.worth) & (some.worth <= high)))
    # A third of the noise is not told from none by 20 networks, so there they claim too little.
    assert 0.93 <= np.mean(covered) <= (0.99 if between == 0.25 else 0.97)


@pytest.mark.parametrize("between", [0.8, 2.5])
def test_probabilities_of_the_front_and_the_first_place_come_true(between: float) -> None:
    rng = np.random.default_rng(17)
    claimed, true, best, first, tied = [], [], [], [], []
    for _ in range(60):
        some = population(rng, 100, between)
        found = shrunken(some.scores, NONE, S)
        where = standing(found, cost=some.cost, cost_sd=None, rng=rng, draws=400)
        claimed.append(where.p_front)
        true.append(on_front(some.worth, some.cost))
        best.append(where.p_best.max())
        first.append(np.argmax(where.p_best) == np.argmax(some.worth))
        tied.append(where.tied[np.argmax(some.worth)])
    probability, on = np.concatenate(claimed), np.concatenate(true)
    for low, high in ((0.02, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        band = (low <= probability) & (probability < high)
        assert on[band].mean() == pytest.approx(probability[band].mean(), abs=0.1)
    assert probability.sum() == pytest.approx(on.sum(), rel=0.1)
    assert np.mean(best) == pytest.approx(np.mean(first), abs=0.15)
    assert np.mean(tied) >= 0.93


@pytest.mark.parametrize(("between", "curse"), [(0.5, 1.87), (1.0, 1.37), (2.5, 0.69)])
def test_the_leader_is_too_good_to_be_true_and_its_estimate_is_not(
    between: float, curse: float
) -> None:
    rng = np.random.default_rng(18)
    score, estimate = [], []
    for _ in range(250):
        some = population(rng, 200, between)
        found = shrunken(some.scores, NONE, S)
        leader = int(np.argmax(found.mean))
        score.append(some.scores[leader][0] - some.worth[leader])
        estimate.append(found.mean[leader] - some.worth[leader])
    assert np.mean(score) == pytest.approx(curse, abs=0.15)
    assert np.mean(estimate) == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize(("between", "right", "seen"), [(0.8, 0.52, 0.42), (2.5, 0.77, 0.75)])
def test_the_observed_front_is_half_luck_and_a_probability_finds_the_true_one(
    between: float, right: float, seen: float
) -> None:
    rng = np.random.default_rng(19)
    hits, observed, true, recovered = 0, 0, 0, 0
    for _ in range(40):
        some = population(rng, 200, between)
        truth = on_front(some.worth, some.cost)
        shown = on_front(np.concatenate(some.scores), some.cost)
        worlds = shrunken(some.scores, NONE, S).posterior.draw(rng, 300)
        likely = front_probability(worlds, some.cost, None, rng) > 0.1
        hits += int((truth & shown).sum())
        observed += int(shown.sum())
        true += int(truth.sum())
        recovered += int((truth & likely).sum())
    assert hits / observed == pytest.approx(right, abs=0.15)
    assert hits / true == pytest.approx(seen, abs=0.15)
    assert recovered / true > hits / true + 0.1
