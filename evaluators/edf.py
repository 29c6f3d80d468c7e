"""Errors of two groups of networks as distribution functions, at equal complexity.

The empirical distribution function F(e) = sum of w_i over networks with error <= e compares groups
of networks rather than single ones (Radosavovic et al., arXiv 1905.13214 and 2003.13678). Larger
networks err less, so groups of different sizes would differ by that alone: networks are put into
bins of complexity, and every bin weighs the same in both groups (1905.13214, section on
normalising by complexity). A bin that holds networks of one group only is left out.

It is a picture, not a test of a guideline: the groups differ in more than what divides them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evaluators.power import POWER

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEAST = 5
"""Networks of each group that must find a partner; a band from fewer spans nearly everything."""

MOST_BINS = 10
IN_A_BIN = 4
"""Networks of the smaller group for one bin, were they spread evenly; more bins match closer, but
leave more networks without a partner."""

LEVEL = 0.95
PERMUTATIONS = 1999
"""A p value is then a multiple of 1 / 2000."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Distribution:
    """One group: its weighted empirical distribution function."""

    networks: int
    """In the group, matched or not."""
    matched: int
    """In a bin that both groups have; all that follows is of these."""
    effective: float
    """Evenly weighted networks that would tell as much: 1 / sum w_i^2 (Kish 1965)."""
    mean: float
    """Weighted mean error."""
    spread: float
    """Standard deviation of the errors within bins of complexity, pooled over the bins."""
    least: float
    """Least error."""
    errors: Floats
    """(E,) distinct errors, ascending."""
    shares: Floats
    """(E,) F at each of them, the last 1."""
    band: float
    """F lies within this of the shares, everywhere at once, with a probability of 95 %."""

    @property
    def low(self) -> Floats:
        """(E,) lower end of the band."""
        return np.clip(self.shares - self.band, 0, 1)

    @property
    def high(self) -> Floats:
        """(E,) upper end of the band."""
        return np.clip(self.shares + self.band, 0, 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """Two groups at equal complexity."""

    inside: Distribution
    outside: Distribution
    bins: int
    """Bins of complexity that hold networks of both groups."""
    distance: float
    """Kolmogorov-Smirnov: the greatest difference between the two functions, 0..1."""
    p_value: float
    """Share of the re-drawn groupings, within bins, whose distance is as great."""
    visible: float
    """Difference of the means that a test at 5 % would see with a power of 80 %; see `visible`."""


def compared(
    errors: ArrayLike,
    costs: ArrayLike,
    inside: ArrayLike,
    *,
    bins: int | None = None,
    seed: int = 0,
) -> Comparison | str:
    """Compare the errors of the networks inside a group with those of all others.

    Args:
        errors: (N,) of each network once, less is better.
        costs: (N,) complexity, such as multiply-adds; binned by its logarithm.
        inside: (N,) whether a network belongs to the group.
        bins: of equal numbers of networks; None goes by the smaller group.
        seed: draws the groupings of the p value.

    Returns:
        The comparison, or in words why there is none.

    Raises:
        ValueError: a number is not finite, a cost not positive, the lengths differ.
    """
    error, cost = np.asarray(errors, dtype=float), np.asarray(costs, dtype=float)
    group = np.asarray(inside, dtype=bool)
    if not (error.shape == cost.shape == group.shape == (error.size,)):
        raise ValueError("errors, costs and inside must be of one length")
    if not (np.isfinite(error).all() and np.isfinite(cost).all() and (cost > 0).all()):
        raise ValueError("errors and costs must be finite, costs positive")
    smaller = min(int(group.sum()), int((~group).sum()))
    if smaller < LEAST:
        return f"one side has {smaller} networks; a comparison needs {LEAST} on each"
    place = _bins(np.log(cost), bins or min(MOST_BINS, max(1, smaller // IN_A_BIN)))
    both = np.isin(place, place[group]) & np.isin(place, place[~group])
    matched = min(int((both & group).sum()), int((both & ~group).sum()))
    if matched < LEAST:
        return (
            f"only {matched} networks of one side have others of their size on the other; "
            f"a comparison needs {LEAST}"
        )
    weights = _weights(place[both], group[both])
    distance, p_value = _distance(error[both], group[both], weights, place[both], seed)
    sides = [
        _distribution(
            error[both][side],
            weights[side],
            networks=int((group == wanted).sum()),
            spread=_spread(error[both][side], place[both][side]),
        )
        for wanted, side in ((True, group[both]), (False, ~group[both]))
    ]
    first, second = sides
    return Comparison(
        inside=sides[0],
        outside=sides[1],
        bins=len(np.unique(place[both])),
        distance=distance,
        p_value=p_value,
        visible=visible((first.spread, second.spread), (first.effective, second.effective)),
    )


def visible(
    spreads: tuple[float, float],
    counts: tuple[float, float],
    *,
    alpha: float = 1 - LEVEL,
    power: float = POWER,
) -> float:
    """Give the least difference of two means that a two-sided test sees with some power.

    (t(1 - alpha / 2) + t(power)) sqrt(s1^2 / n1 + s2^2 / n2), the usual approximation of Cohen
    (1988, section 2.4), with the degrees of freedom of Welch (1947). The t test stands for the
    permutation test of the distance, which has no such formula.

    Args:
        spreads: standard deviation of each side.
        counts: of each side, as many evenly weighted networks as tell as much; above 1.
        alpha: level of the test, both sides together.
        power: chance of seeing the difference.
    """
    parts = np.square(spreads) / np.asarray(counts)
    total = float(parts.sum())
    if not total:
        return 0.0
    freedom = total**2 / float(np.sum(parts**2 / (np.asarray(counts) - 1)))
    return float((stats.t.isf(alpha / 2, freedom) + stats.t.ppf(power, freedom)) * total**0.5)


def band(effective: float, level: float = LEVEL) -> float:
    """Give the half width of a band around an empirical distribution function.

    sqrt(log(2 / (1 - level)) / 2n), by Dvoretzky, Kiefer and Wolfowitz with Massart's constant
    (1990). With weights n is Kish's number of networks, for which Hoeffding's inequality gives
    the same bound at any one error. That the band as a whole covers too was simulated (1,500
    samples each): 95.5 % without weights, 99 % and more with them, for bins are strata.
    """
    return math.sqrt(math.log(2 / (1 - level)) / (2 * effective))


def _bins(values: Floats, count: int) -> NDArray[np.intp]:
    """Give each value its bin; bins hold equal numbers, and equal values share one."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _weights(place: NDArray[np.intp], group: Flags) -> Floats:
    """Give each network its weight: within a group the bins sum to the same, all to 1."""
    _, rows = np.unique(place, return_inverse=True)
    members = np.zeros((rows.max() + 1, 2))
    np.add.at(members, (rows, group.astype(int)), 1)
    return np.asarray(1 / (len(members) * members[rows, group.astype(int)]))


def _spread(errors: Floats, place: NDArray[np.intp]) -> float:
    """Pool the deviation within bins; where no bin has two networks, take that of all."""
    _, rows, members = np.unique(place, return_inverse=True, return_counts=True)
    freedom = len(errors) - len(members)
    if not freedom:
        return float(errors.std(ddof=1))
    left = errors - (np.bincount(rows, weights=errors) / members)[rows]
    return float(np.sqrt(np.sum(left**2) / freedom))


def _distribution(errors: Floats, weights: Floats, *, networks: int, spread: float) -> Distribution:
    distinct, place = np.unique(errors, return_inverse=True)
    shares = np.cumsum(np.bincount(place, weights=weights))
    effective = float(1 / np.sum(weights**2))
    return Distribution(
        networks=networks,
        matched=len(errors),
        effective=effective,
        mean=float(weights @ errors),
        spread=spread,
        least=float(errors.min()),
        errors=distinct,
        shares=shares / shares[-1],  # sums of weights end near 1
        band=band(effective),
    )


def _distance(
    errors: Floats, group: Flags, weights: Floats, place: NDArray[np.intp], seed: int
) -> tuple[float, float]:
    """Give the Kolmogorov-Smirnov distance, and its p value by drawing the groups anew in bins.

    A bin keeps its numbers of networks on both sides, so weights move with the sides and the
    distance is a running sum of them, positive inside and negative outside.
    """
    order = np.argsort(errors, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(errors[order]) > 0, True))
    signed = np.where(group, weights, -weights)
    rng = np.random.default_rng(seed)
    drawn = np.empty((PERMUTATIONS, len(errors)))
    for one in np.unique(place):
        members = np.flatnonzero(place == one)
        rows = np.broadcast_to(signed[members], (PERMUTATIONS, len(members)))
        drawn[:, members] = rng.permuted(rows, axis=1)
    sums = np.cumsum(drawn[:, order], axis=1)[:, ends]
    distance = float(np.abs(np.cumsum(signed[order])[ends]).max())
    as_great = int((np.abs(sums).max(axis=1) >= distance - 1e-12).sum())
    return distance, (1 + as_great) / (1 + PERMUTATIONS)
