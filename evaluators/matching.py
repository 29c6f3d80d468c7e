"""Networks brought to one number of multiply-adds through the hidden width of their FFNs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from search_space.acceptance import Measure
from search_space.architecture import Architecture

TOLERANCE = 0.01
"""Networks whose MACs differ by at most this share count as equally large."""

MOST_GROWTH = 4
"""How many times as wide an FFN may become; beyond it the FFN would be what is compared."""


def matched(networks: Sequence[Architecture], measure: Measure) -> list[Architecture] | None:
    """Bring all networks to within 1 per cent of the largest, by wider pointwise pairs alone.

    Those that are within 1 per cent stay as they are. The others grow by one factor for all their
    stages, then by single units, and end at or below the largest wherever one unit allows it.

    Args:
        networks: canonical.
        measure: gives `macs`, to which every hidden unit of a stage adds the same.

    Returns:
        The networks in their order; None where one would need FFNs of more than four times the
        width, or where a single unit is too coarse.
    """
    macs = [measure(network)["macs"] for network in networks]
    target = max(macs)
    units: dict[object, list[float]] = {}
    found = []
    for network, own in zip(networks, macs, strict=True):
        if own >= (1 - TOLERANCE) * target:
            found.append(network)
            continue
        # What a unit costs depends on these alone, and the members of a context share them.
        key = (network.block, network.maps, [(s.depth, s.width) for s in network.built_stages])
        if str(key) not in units:
            units[str(key)] = _macs_of_units(network, own, measure)
        wider = _wider(network, target - own, units[str(key)], slack=TOLERANCE * target)
        if wider is None:
            return None
        macs[len(found)] = measure(wider)["macs"]
        found.append(wider)
    return found if min(macs) >= (1 - TOLERANCE) * max(macs) else None


def with_hidden(network: Architecture, hidden: Sequence[int]) -> Architecture:
    """Give the canonical network with these hidden widths, one a stage, as they are built."""
    stages = tuple(
        replace(stage, ffn_hidden=width)
        for stage, width in zip(network.stages, hidden, strict=True)
    )
    return replace(network, stages=stages).canonical


def _macs_of_units(network: Architecture, own: float, measure: Measure) -> list[float]:
    """Measure what one more hidden unit costs in every stage, in MACs of the whole network."""
    hidden = [stage.ffn_width for stage in network.built_stages]
    costs = []
    for index in range(len(hidden)):
        more = [width + (place == index) for place, width in enumerate(hidden)]
        costs.append(measure(with_hidden(network, more))["macs"] - own)
    return costs


def _wider(
    network: Architecture, gap: float, units: Sequence[float], *, slack: float
) -> Architecture | None:
    """Give the network with the hidden units that fill a gap in its MACs."""
    hidden = [stage.ffn_width for stage in network.built_stages]
    growth = 1 + gap / sum(unit * width for unit, width in zip(units, hidden, strict=True))
    new = [int(width * growth) for width in hidden]
    rest = gap - sum(u * (n - h) for u, n, h in zip(units, new, hidden, strict=True))
    by_cost = sorted(range(len(units)), key=units.__getitem__, reverse=True)
    for place in by_cost:
        fitting = int(rest // units[place])
        new[place] += fitting
        rest -= fitting * units[place]
    if rest > slack:
        # One unit is more than the slack: the cheapest one too many may still be near enough.
        new[by_cost[-1]] += 1
    if any(n > MOST_GROWTH * h for n, h in zip(new, hidden, strict=True)):
        return None
    return with_hidden(network, new)
