"""The bases of a space's contexts: which guidelines they can test, and even draws of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from evaluators.factors import reason
from evaluators.moves import Moves, Pattern
from evaluators.protocol import GUIDELINES
from search_space.architecture import Architecture
from search_space.axes import FloatRange
from search_space.plan import Columns, Plan, Shell
from search_space.traits import Made, TraitSet, below

PROBES = 256
"""Networks that are tried before some levels are said never to meet in a space."""

LISTED = 4096
"""Up to so many bases are listed and not drawn, so that none of them is missed."""


class Bases:
    """Networks that may be the base of a context, before any constraint: counted, drawn evenly."""

    def __init__(self, rows: Sequence[tuple[Shell, Moves]], active: frozenset[str]) -> None:
        """Narrow what every stage can be.

        Args:
            rows: the shells they may have, at least one, and what the factors can change in each.
            active: guidelines that a context must test.
        """
        self.active = active
        self.plan = rows[0][1].plan
        narrowed = {id(moves): tuple(self._narrowed(moves)) for _, moves in rows}
        self._sets = {shell: narrowed[id(moves)] for shell, moves in rows}
        self._moves = {(shell.block, self.plan.sides(shell)): moves for shell, moves in rows}
        self._weights = [math.prod(found.count for found in row) for row in self._sets.values()]
        axes = self.plan.space.axes().values()
        self._listed = sum(self._weights) <= LISTED and not any(
            isinstance(axis, FloatRange) for axis in axes
        )

    def moves(self, base: Architecture) -> Moves:
        """Give what the factors can change in a base."""
        return self._moves[base.block, tuple(max(side) for side in base.maps)]

    def draws(self, rng: np.random.Generator) -> Iterator[Architecture]:
        """Give bases at random: each of a small space once, else evenly and without end."""
        if self._listed:
            networks = list(self._all())
            order = rng.permutation(len(networks))
            drawn: Iterator[Architecture] = (networks[place] for place in order)
        elif not sum(self._weights):
            return
        else:
            drawn = (self._sample(rng) for _ in itertools.count())
        yield from drawn

    def _all(self) -> Iterator[Architecture]:
        for shell, sets in self._sets.items():
            for columns in itertools.product(*(found.all() for found in sets)):
                yield self.plan.build(shell, columns, {})

    def _sample(self, rng: np.random.Generator) -> Architecture:
        point = below(rng, sum(self._weights))
        for (shell, sets), weight in zip(self._sets.items(), self._weights, strict=True):
            if point < weight:
                columns = tuple(found.sample(rng) for found in sets)
                return self.plan.build(shell, columns, self._floats(sets, columns, rng))
            point -= weight
        raise AssertionError("a point lies below the sum of the weights")

    def _floats(
        self, sets: Sequence[TraitSet], columns: Columns, rng: np.random.Generator
    ) -> dict[str, float]:
        """Draw a number for every range of floats that acts; stages that share one, one number."""
        floats: dict[str, float] = {}
        for found, column in zip(sets, columns, strict=True):
            for index, made in enumerate(column):
                for key, value in zip(found.trait.keys, made, strict=True):
                    name = self.plan.name(index, key)
                    if isinstance(value, FloatRange) and name not in floats:
                        floats[name] = _number(value, rng)
        return floats

    def _narrowed(self, moves: Moves) -> Iterator[TraitSet]:
        for found in self.plan.sets(moves.shell):
            key = found.trait.keys[0]
            if key == "depth" and self.active - {"g1"}:
                yield _restricted(found, lambda i, m: moves.may_hold(self.active, i, Pattern(*m)))
            elif key == "structure" and "g1" in self.active:
                yield _restricted(found, lambda i, m: moves.extra(i) in (None, m[0]))
            else:
                yield found


class Design:
    """The guidelines that a space can test together, and the bases of its contexts."""

    def __init__(self, plan: Plan) -> None:
        known: dict[object, tuple[Moves, frozenset[str]]] = {}
        rows = []
        for shell in plan.shells:
            key = (shell.block, plan.sides(shell))
            if key not in known:
                moves = Moves(plan, shell)
                known[key] = moves, _testable(moves)
            rows.append((shell, *known[key]))
        # All contexts have the same factors, as many as any family and map allow.
        self.active = max((active for _, _, active in rows), key=len)
        chosen = [(shell, moves) for shell, moves, active in rows if active == self.active]
        self.moves = chosen[0][1]
        """Of the first shell from which contexts are drawn."""
        self.bases = Bases(chosen, self.active)


@lru_cache(maxsize=4)
def design(plan: Plan) -> Design:
    """Give the design of a space, worked out once for each."""
    return Design(plan)


def _testable(moves: Moves) -> frozenset[str]:
    """Give the most guidelines, the first ones first, whose levels all meet under a shell."""
    alone = [g for g in GUIDELINES if reason(moves, g) is None]
    for number in range(len(alone), 0, -1):
        for some in map(frozenset, itertools.combinations(alone, number)):
            drawn = Bases([(moves.shell, moves)], some).draws(np.random.default_rng(0))
            if any(moves.networks(base, some) for base in itertools.islice(drawn, PROBES)):
                return some
    return frozenset()


def _restricted(found: TraitSet, holds: Callable[[int, Made], bool]) -> TraitSet:
    """Give the part of a trait in which the value of every stage meets a condition."""
    known: list[dict[tuple[object, ...], Made | None]] = []
    for index, own in enumerate(found.own):
        made_of: dict[tuple[object, ...], Made | None] = {}
        # Shared assignments that the stage does not see apart have one row.
        seen = zip(found.tuples, found.rows[index], strict=True)
        for values, row in {id(row): (values, row) for values, row in seen}.values():
            shared = dict(zip(found.shared, values, strict=True))
            for raw, made in row.items():
                words = shared | dict(zip(own, raw, strict=True))
                keeps = made is not None and holds(index, made)
                made_of[tuple(words[key] for key in found.trait.keys)] = made if keeps else None
        known.append(made_of)
    keys = found.trait.keys
    return TraitSet(
        found.trait,
        lambda index, words: known[index][tuple(words[key] for key in keys)],
        own=found.own,
        shared=found.shared,
    )


def _number(axis: FloatRange, rng: np.random.Generator) -> float:
    if not axis.log:
        return float(rng.uniform(axis.low, axis.high))
    drawn = math.exp(rng.uniform(math.log(axis.low), math.log(axis.high)))
    return min(max(drawn, axis.low), axis.high)
