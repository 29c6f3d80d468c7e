"""Whether two rankings of networks agree, and what it costs to trust the wrong one.

Intervals are over networks, not over trainings: how far what this set shows holds for the space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

RESAMPLES = 2000
LEAST_RESAMPLES = 200
ALL_RESAMPLES_TO = 500
"""Networks up to which every resample is drawn; beyond, each costs their number squared."""
LIMITS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Tau:
    """Kendall's tau-b of two rankings with its 95 % interval over networks.

    All three are nan where fewer than three networks were ranked, or one ranking is all ties.
    """

    value: float
    low: float
    high: float


def agreement(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> Tau:
    """Measure how far two scores of the same networks rank them alike.

    Args:
        x: (N,) one score of each network; where it is not finite the network is left out.
        y: (N,) the other.
        rng: draws the resampled sets of networks.
        resamples: how many; of more than 500 networks fewer, down to 200.
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    if len(first) < 3 or not (np.ptp(first) and np.ptp(second)):
        return Tau(math.nan, math.nan, math.nan)
    value = float(stats.kendalltau(first, second).statistic)
    if abs(value) > 1 - 1e-9 or len(first) < 5:
        low, high = _fieller(value, len(first))
    else:
        affordable = int(resamples * min(1.0, (ALL_RESAMPLES_TO / len(first)) ** 2))
        times = min(resamples, max(LEAST_RESAMPLES, affordable))
        low, high = np.nanquantile(_resampled(first, second, rng, times), LIMITS)
    # Where nearly all tie, or all agree, the measured value could lie outside.
    return Tau(value, min(float(low), value), max(float(high), value))


def _fieller(tau: float, networks: int) -> tuple[float, float]:
    """Give the interval of a tau whose resamples say nothing: all alike, or of too few networks.

    For normal scores atanh(tau) has variance .437 / (N - 4) (Fieller, Hartley and Pearson 1957). A
    perfect tau is moved by half a pair, or its interval would have no width.
    """
    if networks < 5:
        return -1.0, 1.0
    most = 1 - 1 / math.comb(networks, 2)
    middle = math.atanh(min(max(tau, -most), most))
    half = stats.norm.ppf(LIMITS[1]) * math.sqrt(0.437 / (networks - 4))
    return math.tanh(middle - half), math.tanh(middle + half)


def _resampled(x: Floats, y: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """Give tau-b of each resampled set, over its pairs of distinct networks."""
    networks = len(x)
    # How often each network was drawn. A network and its copy are no pair: their signs are 0.
    times = rng.multinomial(networks, np.full(networks, 1 / networks), size=resamples).astype(float)
    sign_x, sign_y = (np.sign(np.subtract.outer(score, score)) for score in (x, y))

    def pairs(signs: Floats) -> Floats:
        return np.asarray(np.sum((times @ signs) * times, axis=1))

    with np.errstate(invalid="ignore"):
        return pairs(sign_x * sign_y) / np.sqrt(pairs(sign_x**2) * pairs(sign_y**2))


def seed_agreement(groups: Sequence[Sequence[float]], rng: np.random.Generator) -> Tau:
    """Measure how far first and second trainings rank alike the networks that have both."""
    twice = [group for group in groups if len(group) > 1]
    return agreement([group[0] for group in twice], [group[1] for group in twice], rng)


def regret(proxy: ArrayLike, truth: ArrayLike, k: int) -> float:
    """Say what is lost by looking for the best among the proxy's first k networks only.

    Where the proxy ties at the k-th place, it is the mean over who of the tied is let in.

    Args:
        proxy: (N,) what the networks are ranked by, more is better.
        truth: (N,) points; the best of the k is then found by it.
        k: from 1; with k >= N nothing is lost.

    Returns:
        Points, 0 or more.
    """
    shown, worth = np.asarray(proxy, dtype=float), np.asarray(truth, dtype=float)
    if k >= len(worth):
        return 0.0
    last = np.sort(shown)[-k]
    sure = worth[shown > last]
    tied = np.sort(worth[shown == last])
    places = k - len(sure)
    # The best of `places` out of the tied is the j-th smallest in C(j - 1, places - 1) cases.
    cases = [math.comb(j, places - 1) / math.comb(len(tied), places) for j in range(len(tied))]
    found = np.maximum(tied, sure.max(initial=-math.inf))
    return float(worth.max() - np.dot(cases, found))


@dataclass(frozen=True, slots=True)
class Regret:
    """Top-k regret in points; 95 % of other sets of as many networks lie from `low` to `high`."""

    k: int
    value: float
    low: float
    high: float


def regret_interval(
    proxy: ArrayLike,
    truth: ArrayLike,
    k: int,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Regret:
    """Give `regret` with what other networks of this space would have shown, by resampling.

    The best of a set is one network, so plain resampling, which only ever finds the best of this
    set again, is right 70 to 85 % of the time at k = 1. The smoothed bootstrap (Silverman and Young
    1987) moves every drawn network by a normal step of the sample's covariance, and is right 90 %
    and more. Of the proxy only the order matters, so it is smoothed as normal scores.
    """
    worth = np.asarray(truth, dtype=float)
    networks = len(worth)
    places = stats.norm.ppf((stats.rankdata(np.asarray(proxy, dtype=float)) - 0.5) / networks)
    both = np.column_stack([places, worth])
    centre = both.mean(axis=0)
    # Scott's bandwidth in two dimensions; the factor gives the drawn sets the sample's covariance.
    width = networks ** (-1 / 6)
    spread = np.cov(both, rowvar=False) if networks > 1 else np.zeros((2, 2))
    steps = rng.multivariate_normal(np.zeros(2), spread, size=(resamples, networks), method="eigh")
    drawn = both[rng.integers(networks, size=(resamples, networks))]
    drawn = centre + (drawn - centre + width * steps) / math.hypot(1, width)
    # A random second key lets in any of those that tie.
    order = np.lexsort((rng.random((resamples, networks)), -drawn[:, :, 0]), axis=1)
    found = np.take_along_axis(drawn[:, :, 1], order[:, :k], axis=1).max(axis=1)
    low, high = np.quantile(drawn[:, :, 1].max(axis=1) - found, LIMITS)
    value = regret(proxy, truth, k)
    return Regret(k, value, min(float(low), value), max(float(high), value))
