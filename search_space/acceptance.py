"""How many networks of a space meet its constraints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from search_space.architecture import Architecture
from search_space.errors import SpaceError
from search_space.space import DesignSpace

if TYPE_CHECKING:
    import numpy as np

LEAST_SHARE = 0.001
"""Below this share of accepted networks a search would draw more than it trains."""

LATENCY = "latency_ms"
"""The constraint that cannot be judged from an architecture alone."""

_Z95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """How many networks meet the constraints; exact where all were checked, else an estimate."""

    accepted: float
    """Number of distinct networks that meet them all: an int where exact; else share times size."""
    low: float
    """Lower end of the 95 per cent interval of `accepted`; `accepted` itself where exact."""
    high: float
    exact: bool
    checked: int
    """Number of networks that were measured."""
    met: int
    """How many of the measured ones meet every constraint."""
    killed: Mapping[str, int]
    """Measured networks that break a constraint, by its name; one may break several."""
    seen: Mapping[str, tuple[float, float]]
    """Least and greatest measured value of each constraint's number."""

    @property
    def share(self) -> float:
        """Share of the measured networks that meet every constraint; 1 where there is none."""
        return self.met / self.checked if self.checked else 1.0

    def text(self) -> str:
        """Say it in a line: how many, how sure."""
        if not self.checked:
            return "no constraints"
        if self.exact:
            return f"{self.accepted:,} within the constraints, all checked"
        share = f"{self.share:.1%} of {self.checked:,} drawn evenly"
        if math.isinf(self.accepted):
            return f"{share} are within the constraints"
        return (
            f"about {self.accepted:,.0f} within the constraints "
            f"(95 %: {self.low:,.0f} to {self.high:,.0f}), {share}"
        )


Measure = Callable[[Architecture], Mapping[str, float]]
"""Gives the numbers that the constraints name, for one network."""


def acceptance(
    space: DesignSpace,
    measure: Measure,
    *,
    rng: np.random.Generator,
    samples: int = 2000,
    exact_up_to: int = 20_000,
) -> Acceptance:
    """Measure all networks of a small space, or an even sample of a large one.

    Args:
        space: Bound to images.
        measure: Asked once for each network; not at all where there are no constraints.
        rng: Draws the sample.
        samples: Networks to measure where the space has more than `exact_up_to`.
        exact_up_to: Size up to which every network is measured.

    Returns:
        The count with its 95 per cent interval (Wilson's, which holds at none and at all).
    """
    size = space.count()
    if not space.constraints:
        return Acceptance(
            accepted=size, low=size, high=size, exact=True, checked=0, met=0, killed={}, seen={}
        )
    exact = size <= exact_up_to
    networks = space.census.all() if exact else (space.sample(rng) for _ in range(samples))
    names = [constraint.name for constraint in space.constraints]
    killed = dict.fromkeys(names, 0)
    seen = dict.fromkeys(names, (math.inf, -math.inf))
    checked = met = 0
    for network in networks:
        values = measure(network)
        broken = [c.name for c in space.constraints if not c.met_by(values[c.name])]
        for name, (low, high) in seen.items():
            seen[name] = (min(low, values[name]), max(high, values[name]))
        for name in broken:
            killed[name] += 1
        checked += 1
        met += not broken
    least, most = wilson(met, checked)
    return Acceptance(
        accepted=met if exact else _times(met / checked, size),
        low=met if exact else _times(least, size),
        high=met if exact else _times(most, size),
        exact=exact,
        checked=checked,
        met=met,
        killed=killed,
        seen=seen,
    )


def require_acceptance(
    space: DesignSpace,
    measure: Measure,
    *,
    rng: np.random.Generator,
    samples: int = 2000,
    exact_up_to: int = 20_000,
) -> Acceptance:
    """Give the acceptance, and refuse constraints that less than one network in a thousand meets.

    Args:
        space: As for `acceptance`, like the rest.
        measure: Likewise.
        rng: Likewise.
        samples: Likewise.
        exact_up_to: Likewise.

    Raises:
        SpaceError: at the constraint that refuses most, with the nearest value that was seen.
    """
    found = acceptance(space, measure, rng=rng, samples=samples, exact_up_to=exact_up_to)
    if found.share >= LEAST_SHARE:
        return found
    worst = max(space.constraints, key=lambda constraint: found.killed[constraint.name])
    low, high = found.seen[worst.name]
    fewest = worst.high is not None and low > worst.high
    near = _figure(low, up=True) if fewest else _figure(high, up=False)
    seen = f"from {_figure(low, up=False)} to {_figure(high, up=True)}"
    word = f"predicted {LATENCY}" if worst.name == LATENCY else worst.name
    raise SpaceError(
        f"{worst.where}: must be met by at least 1 network in 1,000 together with the other "
        f"constraints, got {found.met:,} of {found.checked:,}; {worst.bounds()} refuses "
        f"{found.killed[worst.name]:,} of them, whose {word} is {seen}; nearest: "
        f"{near}; widen it or change the axes"
    )


def known_beforehand(space: DesignSpace) -> DesignSpace:
    """Give the space without its constraint on latency, which only a device can judge."""
    known = tuple(constraint for constraint in space.constraints if constraint.name != LATENCY)
    return space if known == space.constraints else replace(space, constraints=known)


def wilson(met: int, checked: int) -> tuple[float, float]:
    """Give Wilson's 95 per cent interval of a share."""
    share, square = met / checked, _Z95**2
    middle = (share + square / (2 * checked)) / (1 + square / checked)
    half = _Z95 / (1 + square / checked)
    half *= math.sqrt(share * (1 - share) / checked + square / (4 * checked**2))
    low = 0.0 if met == 0 else middle - half
    return low, 1.0 if met == checked else middle + half


def _figure(value: float, *, up: bool) -> str:
    """Write a number, one that is not whole with three digits: what it is rounded to holds it."""
    if float(value).is_integer():
        return f"{value:,.10g}"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return f"{(math.ceil if up else math.floor)(value / step) * step:,.3g}"


def _times(share: float, size: float) -> float:
    # Nothing of an infinite space is nothing.
    return share * size if share else 0.0
