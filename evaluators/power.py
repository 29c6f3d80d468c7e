"""How small an effect so many blocks can show: the power of the one-sample t test."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import stats
from scipy.optimize import brentq

POWER = 0.8
"""The customary chance of seeing an effect that is there (Cohen 1988)."""


def t_power(effect: float, blocks: int, alpha: float, *, sides: int = 2) -> float:
    """Give the chance that a t test over `blocks` contrasts sees an effect of their mean.

    Args:
        effect: The true mean of a contrast in units of the s.d. of the contrasts.
        blocks: How many contrasts; at least 2.
        alpha: Level of the test, both sides together.
        sides: 2 counts a rejection on either side, 1 only one in the effect's direction.

    Under an effect the t statistic follows the noncentral t with blocks - 1 degrees of freedom
    and noncentrality effect x sqrt(blocks).
    """
    freedom, shift = blocks - 1, effect * np.sqrt(blocks)
    critical = stats.t.isf(alpha / sides, freedom)
    above = stats.nct.sf(critical, freedom, shift)
    # The lower tail by its mirror: scipy's cdf is not a number where it is nearly nothing.
    below = stats.nct.sf(critical, freedom, -shift) if sides == 2 else 0.0
    return float(above + below)


@cache
def detectable_effect(blocks: int, alpha: float, *, sides: int = 2, power: float = POWER) -> float:
    """Give the smallest effect, in s.d. of the contrasts, that has the power; blocks >= 2."""
    high = 1.0
    while t_power(high, blocks, alpha, sides=sides) < power:
        high *= 2
    return float(brentq(lambda d: t_power(d, blocks, alpha, sides=sides) - power, 0, high))
