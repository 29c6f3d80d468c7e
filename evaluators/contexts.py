"""Matched networks that differ in the four guidelines alone: contexts drawn from a user's space.

A context is everything in which the networks of one block agree. Its members follow the guidelines
or not (`evaluators.moves`), and have the same multiply-adds (`evaluators.matching`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluators.bases import design
from evaluators.factors import Factor as Factor
from evaluators.factors import described, reason, together
from evaluators.matching import matched
from evaluators.moves import Levels, Pattern
from evaluators.protocol import GUIDELINES
from search_space.acceptance import Measure
from search_space.architecture import Architecture
from search_space.errors import SpaceError
from search_space.space import DesignSpace

OVERSAMPLE = 4
"""Contexts that are drawn for each that is kept, so that all sizes are among them."""

PATIENCE = 4000
"""Bases in a row that bring no new context before there are said to be no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What the networks of a block share."""

    base: Architecture
    """The member that follows guidelines 1, 2 and 4 and not 3, as the space draws it."""
    kernel: int
    """Kernel of stage 1 where guideline 3 is not followed; where it is not tested, always."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain data."""
        return {"base": self.base.to_dict(), "kernel": self.kernel}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Context:
        """Read back what `to_dict` gave."""
        return cls(base=Architecture.from_dict(plain["base"]), kernel=plain["kernel"])


def factors(space: DesignSpace) -> tuple[Factor, ...]:
    """Give the four guidelines in the words of a space that is bound to images.

    Where `block` is an axis, they are those of the family in which most of them can be tested.
    """
    found = design(space.plan)
    rows = []
    for guideline in GUIDELINES:
        missing = None
        if guideline not in found.active:
            missing = reason(found.moves, guideline)
            missing = missing or together(found.moves, guideline, found.active)
        rows.append(described(found.moves, guideline, missing))
    return tuple(rows)


def draw_contexts(
    space: DesignSpace, count: int, *, measure: Measure, rng: np.random.Generator
) -> list[Context]:
    """Draw distinct contexts, as many of each third of the sizes that the space has.

    Contexts that differ in the kernel of stage 1 alone, where guideline 3 changes it, are one. Of
    every context all members meet the space's constraints, as far as `measure` gives their numbers,
    before and after their MACs are matched.

    Args:
        space: bound to images.
        count: how many are wanted.
        measure: gives `macs` and what the constraints name.
        rng: draws them.

    Returns:
        The contexts, small, middle and large ones in turn; fewer where the space has fewer.
    """
    pool = list(itertools.islice(_drawn(space, measure, rng), OVERSAMPLE * count))
    pool.sort(key=lambda row: row[0])
    thirds = [pool[len(pool) * i // 3 : len(pool) * (i + 1) // 3] for i in range(3)]
    turns = [[third[place][1] for place in rng.permutation(len(third))] for third in thirds]
    mixed = [context for row in itertools.zip_longest(*turns) for context in row if context]
    return mixed[:count]


def count_contexts(space: DesignSpace, *, measure: Measure, most: int = 100) -> int:
    """Count the distinct contexts of a space, up to `most`; 0 where no guideline is testable.

    Args:
        space: bound to images.
        measure: as for `draw_contexts`.
        most: where counting ends.
    """
    drawn = _drawn(space, measure, np.random.default_rng(0))
    return sum(1 for _ in itertools.islice(drawn, most))


def members(
    context: Context, levels: Iterable[Sequence[int]], space: DesignSpace, *, measure: Measure
) -> list[Architecture]:
    """Give the networks of a block.

    Their MACs are within 1 per cent of the largest that the context has at any levels, so that the
    same levels are the same network in every block.

    Args:
        context: as drawn from the space.
        levels: for each network 0 or 1 for each of the four guidelines; the level of one that the
            space cannot test is ignored.
        space: where the context comes from.
        measure: as it was drawn with.

    Returns:
        Canonical networks in the order of `levels`; outside the space where FFNs had to grow.

    Raises:
        SpaceError: the context is none of this space.
    """
    found = design(space.plan)
    networks = None
    if space.contains(context.base):
        networks = found.bases.moves(context.base).networks(context.base, found.active)
    alike = None if networks is None else _matched(networks, measure)
    if alike is None:
        raise SpaceError(
            f"{space.where}: a context must be one that this space draws, got one of base "
            f"{context.base.id}; draw contexts from the space itself"
        )
    used = [guideline in found.active for guideline in GUIDELINES]
    return [
        alike[tuple(int(z) if use else 1 for z, use in zip(row, used, strict=True))]
        for row in levels
    ]


def sanity_pair(
    context: Context, space: DesignSpace, *, measure: Measure
) -> tuple[Architecture, Architecture]:
    """Give two networks that say whether a task rewards large kernels at all.

    The first follows all four guidelines, with the largest kernels that its later stages can have
    within the constraints. The second has 3x3 kernels everywhere, or the smallest below 7 that the
    space offers. Their MACs are within 1 per cent.

    Args:
        context: as drawn from the space.
        space: where the context comes from.
        measure: as it was drawn with.

    Raises:
        SpaceError: the space has no large kernel, or 3x3 networks of so many MACs would need FFNs
            of more than four times the width.
    """
    found = design(space.plan)
    moves = found.bases.moves(context.base)
    follows = moves.at(context.base, found.active, (1, 1, 1, 1))
    larger = _with(follows, lambda i, own: moves.largest(found.active, i, own))
    smaller = _with(follows, moves.smallest)
    if not space.contains(smaller):
        smaller = _with(follows, lambda _, own: own.small)
    for large in (larger, follows):
        has_large = any(Pattern.of(stage).is_large for stage in large.stages)
        if has_large and space.contains(large) and _meets(space, measure(large)):
            pair = matched([large, smaller], measure)
            if pair is not None:
                return pair[0], pair[1]
    raise SpaceError(
        f"{space.where}: kernel: must be 7 or more in some network that a 3x3 network of the same "
        f"MACs can be compared with, got none around {follows.id}; add larger kernels or wider FFNs"
    )


def _with(network: Architecture, choose: Callable[[int, Pattern], Pattern]) -> Architecture:
    """Give the canonical network with another pattern in each stage."""
    stages = tuple(
        choose(index, Pattern.of(stage)).put_into(stage)
        for index, stage in enumerate(network.stages)
    )
    return replace(network, stages=stages).canonical


def _matched(
    networks: Mapping[Levels, Architecture], measure: Measure
) -> dict[Levels, Architecture] | None:
    """Give the members of a context, at every combination of levels, with their MACs matched."""
    equal = matched(list(networks.values()), measure)
    return None if equal is None else dict(zip(networks, equal, strict=True))


def _drawn(
    space: DesignSpace, measure: Measure, rng: np.random.Generator
) -> Iterator[tuple[float, Context]]:
    """Give distinct contexts that hold, with the MACs of each."""
    found = design(space.plan)
    if not found.active:
        return
    seen: set[str] = set()
    tries = 0
    for base in found.bases.draws(rng):
        if (tries := tries + 1) > PATIENCE:
            return
        moves = found.bases.moves(base)
        # With a 3x3 there, its kernel in stage 1 no longer tells two contexts apart.
        key = moves.at(base, found.active, (0, 0, 1, 0)).id
        if key in seen:
            continue
        # What all members are brought to; where it is too large nothing else needs a look.
        values = measure(moves.at(base, found.active, (1, 1, 0, 0)))
        if not _meets(space, values) or (networks := moves.networks(base, found.active)) is None:
            continue
        alike = _matched(networks, measure)
        if alike is None or not all(_meets(space, measure(n)) for n in alike.values()):
            continue
        seen.add(key)
        tries = 0
        yield values["macs"], Context(base=base, kernel=base.stages[0].kernel)


def _meets(space: DesignSpace, values: Mapping[str, float]) -> bool:
    return all(c.met_by(values[c.name]) for c in space.constraints if c.name in values)
