"""Looks at a growing study without spending its error twice: the O'Brien-Fleming boundary.

After a share t of the planned blocks the z statistic of a contrast times sqrt(t) behaves as a
Brownian motion at time t. The classic boundary of O'Brien and Fleming (1979) stops where that
motion leaves +-C, that is |z| >= C / sqrt(t), with C such that it ever does so at the planned
looks with probability alpha when there is no effect.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

Floats = NDArray[np.float64]

FAR = 8.0
"""How far one-sided crossing lets the motion run: s.d. at the last look, missing 1e-15."""


@cache
def rule(nodes: int) -> tuple[Floats, Floats]:
    """Give nodes and weights of Gauss and Legendre on [-1, 1]."""
    return np.polynomial.legendre.leggauss(nodes)


def crossing_probability(bound: float, times: tuple[float, ...], *, sides: int = 2) -> float:
    """Give the chance that a Brownian motion stands beyond the bound at one of the times.

    Args:
        bound: C > 0.
        times: Increasing, above 0: the share of the planned blocks at each look.
        sides: 2 counts beyond +-bound, 1 above +bound.

    The density of a motion that has not crossed yet is carried from look to look by numerical
    integration (Armitage, McPherson and Rowe 1969).
    """
    low = -bound if sides == 2 else -FAR * np.sqrt(times[-1])
    half = (bound - low) / 2
    # The densities are no narrower than the smallest step: three nodes to each of its s.d.
    finest = np.sqrt(np.diff(times, prepend=0.0).min())
    nodes, weights = rule(max(48, int(np.ceil(6 * half / finest))))
    place, weights = low + half * (nodes + 1), half * weights
    apart = (place[:, None] - place[None, :]) ** 2
    density = normal(place**2, times[0])
    for gap in np.diff(times):
        density = normal(apart, gap) @ (weights * density)
    return float(1 - weights @ density)


def normal(squared: Floats, variance: float) -> Floats:
    """Give the normal density at a squared distance from its mean."""
    return np.asarray(np.exp(-squared / (2 * variance)) / np.sqrt(2 * np.pi * variance))


@cache
def boundary(times: tuple[float, ...], alpha: float, *, sides: int = 2) -> float:
    """Give C: the motion stands beyond it at one of the times with probability alpha."""
    last = float(np.sqrt(times[-1]))
    # Between the bound of a single look and that of looks that share no information.
    single = stats.norm.isf(alpha / sides) * last
    spread = stats.norm.isf(alpha / sides / len(times)) * last
    if len(times) == 1:
        return float(single)

    def excess(bound: float) -> float:
        return crossing_probability(bound, times, sides=sides) - alpha

    return float(brentq(excess, single, spread, xtol=1e-10))


def nominal_level(
    look: ArrayLike, looks: tuple[int, ...], planned: int, alpha: float, *, sides: int = 2
) -> Floats:
    """Give the p at or below which a test may stop after so many blocks, the shape of `look`.

    Args:
        look: Finished blocks. One that was not planned is safe in place of all later ones: the
            motion has had less time to leave.
        looks: The planned ones, increasing.
        planned: Blocks at time 1.
        alpha: Error of the whole sequence, both sides together where there are two.
        sides: Of the test, and of the p that is compared.
    """
    bound = boundary(tuple(each / planned for each in looks), alpha, sides=sides)
    z = bound / np.sqrt(np.asarray(look, dtype=np.float64) / planned)
    return np.asarray(sides * stats.norm.sf(z), dtype=np.float64)


def repeated_p(
    p: float, look: int, looks: tuple[int, ...], planned: int, *, sides: int = 2
) -> float:
    """Give the smallest alpha whose boundary a nominal p at this look would reach.

    It is below alpha exactly where the look stops, and keeps its meaning whenever a study stops
    (repeated p-value of Jennison and Turnbull 2000, chapter 9).
    """
    times = tuple(each / planned for each in looks)
    bound = float(stats.norm.isf(p / sides) * np.sqrt(look / planned))
    if bound <= 0 or not np.isfinite(bound):
        return 1.0 if bound <= 0 else p
    # The integral ends at 1e-14 or so, where p itself may be smaller yet.
    return max(p, crossing_probability(bound, times, sides=sides))
