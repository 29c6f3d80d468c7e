"""The networks one axis away."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from search_space.architecture import Architecture
from search_space.plan import Columns, Plan, Shell
from search_space.traits import Made, Raw, TraitSet, axis_values


def neighbours(plan: Plan, architecture: Architecture) -> list[Architecture]:
    """List the distinct networks that one axis away from a network can reach, itself left out.

    b is a neighbour of a where some assignment of all axes makes a and, with the value of one axis
    changed, makes b; axes that cannot act on a may stand anywhere. Axes of floats are left alone.

    Returns:
        Canonical networks in the order of their ids; none for a network outside the space.
    """
    found = plan.locate(architecture)
    if found is None:
        return []
    shell, columns, floats = found
    near: dict[str, Architecture] = {}
    for other in _changes(plan, shell, columns):
        try:
            network = plan.build(*other, floats)
        except KeyError:
            continue  # A range of floats starts to act, which leaves its number open.
        near[network.id] = network
    near.pop(architecture.id, None)
    return [near[key] for key in sorted(near)]


def _changes(plan: Plan, shell: Shell, columns: Columns) -> Iterator[tuple[Shell, Columns]]:
    sets = plan.sets(shell)
    for t, (traits, column) in enumerate(zip(sets, columns, strict=True)):
        for changed in {*_own_changes(traits, column), *_shared_changes(traits, column)}:
            yield shell, (*columns[:t], changed, *columns[t + 1 :])
    for other in _other_shells(plan, shell):
        ways = [
            _carried(traits, into, column)
            for traits, into, column in zip(sets, plan.sets(other), columns, strict=True)
        ]
        for combination in itertools.product(*ways):
            yield other, combination


def _own_changes(traits: TraitSet, column: Sequence[Made]) -> Iterator[tuple[Made, ...]]:
    """Change one stage's own axis."""
    for s in traits.makers(column):
        for index, made in enumerate(column):
            row = traits.rows[index][s]
            domains = [axis_values(axis) for axis in traits.own[index].values()]
            for raw in _sources(traits, index, s, made):
                for changed in _one_away(raw, domains):
                    if (other := row[changed]) is not None:
                        yield (*column[:index], other, *column[index + 1 :])


def _shared_changes(traits: TraitSet, column: Sequence[Made]) -> Iterator[tuple[Made, ...]]:
    """Change one shared axis, with the stages' own axes where they can stand."""
    domains = [axis_values(axis) for axis in traits.shared.values()]
    numbers = {values: s for s, values in enumerate(traits.tuples)}
    for s in traits.makers(column):
        for values in _one_away(traits.tuples[s], domains):
            yield from _moved(traits, s, traits, numbers[values], column)


def _carried(traits: TraitSet, into: TraitSet, column: Sequence[Made]) -> set[tuple[Made, ...]]:
    """Give what the assignments that make a column make under another shell."""
    return {other for s in traits.makers(column) for other in _moved(traits, s, into, s, column)}


def _moved(
    traits: TraitSet, s: int, into: TraitSet, to: int, column: Sequence[Made]
) -> Iterator[tuple[Made, ...]]:
    """Keep the stages' own axes, and change what stands around them."""
    ways = []
    for index, made in enumerate(column):
        row = into.rows[index][to]
        others = (row[raw] for raw in _sources(traits, index, s, made))
        ways.append({other for other in others if other is not None})
    return itertools.product(*ways)


def _sources(traits: TraitSet, index: int, s: int, made: Made) -> list[Raw]:
    return [raw for raw, value in traits.rows[index][s].items() if value == made]


def _one_away(raw: Raw, domains: Sequence[Sequence[object]]) -> Iterator[Raw]:
    for place, domain in enumerate(domains):
        for value in domain:
            if value != raw[place]:
                yield (*raw[:place], value, *raw[place + 1 :])


def _other_shells(plan: Plan, shell: Shell) -> set[Shell]:
    (row,) = plan.network.rows[0]
    domains = [axis_values(axis) for axis in plan.network.own[0].values()]
    others = {
        row[changed]
        for raw, made in row.items()
        if made == shell
        for changed in _one_away(raw, domains)
    }
    return {Shell(*other) for other in others if other is not None and other != shell}
