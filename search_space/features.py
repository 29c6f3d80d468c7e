"""What differs between networks of a run, axis by axis: read off the networks that were built.

The names are those of questions about a network (`search_space.predicates`), so that what a
report shows can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from search_space.architecture import Architecture, Stage
from search_space.predicate_terms import NETWORK_KEYS, STAGE_KEYS

Level = int | float | str

NONE = "none"

_OF_NETWORK = tuple(key for key in NETWORK_KEYS if key != "depth")
_OF_FAMILY = ("stem.kind", "transition", "head")
"""Keys that a family decides where a space leaves them out."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One axis in which networks differ."""

    name: str
    """`stages[1].kernel`; `shared.structure` where all stages of each network agree."""
    values: tuple[Level, ...]
    """Of each network; `none` where it has no such thing."""
    ordered: bool
    """Whether the values are numbers, `none` before them."""

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The distinct values, ascending, `none` first."""
        return tuple(sorted(set(self.values), key=_order))

    @cached_property
    def codes(self) -> tuple[int, ...]:
        """Of each network the place of its value among the levels."""
        place = {level: code for code, level in enumerate(self.levels)}
        return tuple(place[value] for value in self.values)


def features(architectures: Sequence[Architecture]) -> list[Feature]:
    """Give the axes in which the networks differ, those of the whole network first.

    An axis that divides the networks just as another one before it does is left out, and so is
    what follows from the family. A stage that a network lacks has `none` in every axis.
    """
    found = [_of_network(key, architectures) for key in _OF_NETWORK]
    block = next(feature for feature in found if feature.name == "block")
    found = [f for f in found if f.name not in _OF_FAMILY or not _follows(f, block)]
    for key in STAGE_READERS:
        found += _of_stages(key, architectures)
    kept: dict[tuple[int, ...], Feature] = {}
    for feature in found:
        if len(feature.levels) > 1:
            kept.setdefault(_division(feature), feature)
    return list(kept.values())


def _of_network(key: str, architectures: Sequence[Architecture]) -> Feature:
    values = tuple(NETWORK_KEYS[key].read(architecture) for architecture in architectures)
    return Feature(name=key, values=values, ordered=NETWORK_KEYS[key].kind == "number")


def _of_stages(key: str, architectures: Sequence[Architecture]) -> list[Feature]:
    """Give the feature of every stage, or one where the stages of each network agree."""
    read, ordered = STAGE_READERS[key]
    rows = [[read(stage) for stage in architecture.stages] for architecture in architectures]
    most = max(map(len, rows), default=0)
    if most > 1 and all(len(set(row)) == 1 for row in rows):
        return [
            Feature(name=f"shared.{key}", values=tuple(row[0] for row in rows), ordered=ordered)
        ]
    return [
        Feature(
            name=f"stages[{index}].{key}",
            values=tuple(row[index] if index < len(row) else NONE for row in rows),
            ordered=ordered,
        )
        for index in range(most)
    ]


def _number(key: str) -> Callable[[Stage], Level]:
    def read(stage: Stage) -> Level:
        value = STAGE_KEYS[key].read(stage)
        return NONE if value is None else round(float(value), 2) if value % 1 else int(value)

    return read


def _branches(stage: Stage) -> Level:
    """Name the branches by kind: their kernels are cut to each map, so lists would be many."""
    pairs, paper = STAGE_KEYS["dilations"].read(stage)
    count = len(pairs)
    return "paper" if paper else f"{count} branch{'es' if count > 1 else ''}" if pairs else NONE


def _placement(stage: Stage) -> Level:
    """Name the pattern of large and small blocks: all L, all S, or both."""
    letters = set(stage.placement)
    return letters.pop() if len(letters) == 1 else "LS"


_OTHERS: dict[str, tuple[Callable[[Stage], Level], bool]] = {
    "placement": (_placement, False),
    "dilations": (_branches, False),
    "structure": (STAGE_KEYS["structure"].read, False),
}
STAGE_READERS = {
    key: _OTHERS.get(key, (_number(key), True))
    for key in STAGE_KEYS
    if key != "ffn_hidden"  # ffn_ratio tells it
}
"""How each key of a stage is read, and whether its values are numbers."""


def _order(level: Level) -> tuple[bool, float, str]:
    """Sort `none` first, then numbers, then texts."""
    if isinstance(level, str):
        return level != NONE, float("inf"), level
    return True, level, ""


def _division(feature: Feature) -> tuple[int, ...]:
    """Say which networks share a value, whatever it is called."""
    first: dict[Level, int] = {}
    return tuple(first.setdefault(value, len(first)) for value in feature.values)


def _follows(feature: Feature, other: Feature) -> bool:
    """Whether the other feature decides this one."""
    return len(set(zip(other.values, feature.values, strict=True))) == len(other.levels)
