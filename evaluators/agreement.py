"""Whether two rankings of networks agree, and what it costs to trust the wrong one.

Intervals are over networks, not over trainings: they say what another set of networks from the same
space would have shown.
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
LIMITS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Tau:
    """Kendall's tau-b of two rankings with its 95 % interval over networks.

    All three are nan where fewer than three networks were ranked, or one ranking says nothing.
    """

    value: float
    low: float
    high: float


def agreement(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> Tau:
    """Measure how far two scores of the same networks rank them alike.

    Args:
        x: (N,) one score of each network.
        y: (N,) the other.
        rng: draws the resampled sets of networks.
        resamples: how many.
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(first) < 3 or not (np.ptp(first) and np.ptp(second)):
        return Tau(math.nan, math.nan, math.nan)
    value = float(stats.kendalltau(first, second).statistic)
    low, high = np.nanquantile(_resampled(first, second, rng, resamples), LIMITS)
    return Tau(value, float(low), float(high))


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
    """Top-k regret in points with its 95 % interval over networks."""

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
    """Give `regret` with its bootstrap interval; networks that were drawn twice count twice."""
    shown, worth = np.asarray(proxy, dtype=float), np.asarray(truth, dtype=float)
    chosen = rng.integers(len(worth), size=(resamples, len(worth)))
    # A random second key lets in any of those that tie.
    order = np.lexsort((rng.random(chosen.shape), -shown[chosen]), axis=1)
    first = np.take_along_axis(chosen, order[:, :k], axis=1)
    lost = worth[chosen].max(axis=1) - worth[first].max(axis=1)
    low, high = np.quantile(lost, LIMITS)
    return Regret(k, regret(shown, worth, k), float(low), float(high))
