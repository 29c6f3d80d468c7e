"""What a stage can be, trait by trait: sets that are counted without listing networks.

A trait is a group of keys that act on each other (`kernel` and `dilations` do, `width` not), so
a network is a free combination of its traits. One trait is a union of products: for each
assignment of the axes that the stages share, any value that each stage can then make. Assignments
overlap (two kernels are one on a small map), so the union is walked stage by stage with the
assignments that still fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_space.axes import Axis, FloatRange

if TYPE_CHECKING:
    import numpy as np

Made = tuple[Any, ...]
"""Canonical fields that a trait decides in a stage; a FloatRange stands for its numbers."""
Raw = tuple[Any, ...]
"""One value for each of some axes, as declared."""
Profile = tuple[frozenset[Any], ...]
"""Sets of values, one a stage: what a shared assignment leaves to each."""
Alive = frozenset[int]
"""Shared assignments, by index, that fit what was chosen so far."""
Make = Callable[[int, Mapping[str, Any]], Made | None]
"""From the index of a stage and its words to its canonical fields; None where it cannot exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trait:
    """Keys of a stage that decide together."""

    keys: tuple[str, ...]
    """In the order they are drawn."""
    is_small: Callable[[Made], bool] = lambda _made: False
    """Whether a value leaves a stage without a large kernel."""


PATTERN = Trait(
    keys=("depth", "kernel", "placement", "dilations", "small_kernel", "strip"),
    is_small=lambda made: "L" not in str(made[2]),
)
TRAITS = (
    Trait(keys=("width",)),
    PATTERN,
    Trait(keys=("ffn_ratio", "ffn_hidden")),
    Trait(keys=("structure", "se_ratio")),
    Trait(keys=("layer_scale",)),
    Trait(keys=("dw_ratio",)),
)
"""Every key of a stage, once. A new key that acts with others joins their trait."""


class TraitSet:
    """Everything that one trait can be in the stages of a network, first to last."""

    def __init__(
        self,
        trait: Trait,
        make: Make,
        *,
        own: Sequence[Mapping[str, Axis]],
        shared: Mapping[str, Axis],
    ) -> None:
        """Work out what every assignment of the axes makes.

        Args:
            trait: Its keys; each is in `own` of a stage or in `shared`.
            make: What some words make in a stage.
            own: Axes of every stage alone.
            shared: Axes that are drawn once for all stages.
        """
        self.trait = trait
        self.own = [{k: axes[k] for k in trait.keys if k in axes} for axes in own]
        self.shared = {k: shared[k] for k in trait.keys if k in shared}
        self.tuples: list[Raw] = list(itertools.product(*map(axis_values, self.shared.values())))
        """Every shared assignment; its index stands for it."""
        self.rows = [self._rows(index, make) for index in range(len(own))]
        """For a stage and a shared assignment: what each assignment of its own axes makes."""
        self.options = [
            [frozenset(made for made in row.values() if made is not None) for row in rows]
            for rows in self.rows
        ]
        """For a stage and a shared assignment: the distinct values."""
        self.kept: Alive = undominated(
            {
                s: tuple(options[s] for options in self.options)
                for s in range(len(self.tuples))
                if all(options[s] for options in self.options)
            }
        )
        """Shared assignments that together make all there is; empty where nothing can exist."""
        self._fits = [self._fitting(index) for index in range(len(own))]
        self._places = [{made: place for place, made in enumerate(fits)} for fits in self._fits]
        self._counts: dict[tuple[int, Alive], int] = {}

    def _rows(self, index: int, make: Make) -> list[dict[Raw, Made | None]]:
        own = self.own[index]
        choices = list(itertools.product(*map(axis_values, own.values())))
        known: dict[Raw, dict[Raw, Made | None]] = {}
        rows = []
        for values in self.tuples:
            words = {k: v for k, v in zip(self.shared, values, strict=True) if k not in own}
            key = tuple(words.values())
            if key not in known:
                known[key] = {
                    raw: make(index, {**words, **dict(zip(own, raw, strict=True))})
                    for raw in choices
                }
            rows.append(known[key])
        return rows

    def _fitting(self, index: int) -> dict[Made, Alive]:
        fits: dict[Made, set[int]] = {}
        for s in sorted(self.kept):
            for raw_made in self.rows[index][s].values():
                if raw_made is not None:
                    fits.setdefault(raw_made, set()).add(s)
        return {made: frozenset(alive) for made, alive in fits.items()}

    @property
    def count(self) -> int:
        """Number of distinct rows of values, a range of floats counted as one value."""
        return self._count(0, self.kept)

    def contains(self, column: Sequence[Made]) -> bool:
        """Whether some shared assignment makes these values, one a stage."""
        return any(True for _ in self.makers(column))

    def makers(self, column: Sequence[Made]) -> Iterator[int]:
        """Give every shared assignment that makes these values, also those that others cover."""
        for s in range(len(self.tuples)):
            if all(m in options[s] for options, m in zip(self.options, column, strict=True)):
                yield s

    def all(self) -> Iterator[tuple[Made, ...]]:
        """List every distinct row of values."""
        return self._walk(0, self.kept)

    def sample(self, rng: np.random.Generator) -> tuple[Made, ...]:
        """Draw one row of values, each as likely as any other."""
        alive, column = self.kept, []
        for index in range(len(self.rows)):
            table = self._table(index, alive)
            weights = [len(made) * self._count(index + 1, rest) for rest, made in table.items()]
            point = below(rng, sum(weights))
            for (rest, made), weight in zip(table.items(), weights, strict=True):
                if point < weight:
                    alive = rest
                    column.append(made[point % len(made)])
                    break
                point -= weight
        return tuple(column)

    def _table(self, index: int, alive: Alive) -> dict[Alive, list[Made]]:
        """Group the values of a stage by the shared assignments that are left with them."""
        table: dict[Alive, list[Made]] = {}
        fits = self._fits[index]
        # Of many values few are left with few assignments; the order stays that of the axes.
        near = {made for s in alive for made in self.options[index][s]}
        for made in sorted(near, key=self._places[index].__getitem__):
            table.setdefault(fits[made] & alive, []).append(made)
        return table

    def _count(self, index: int, alive: Alive) -> int:
        if index == len(self.rows):
            return 1 if alive else 0
        key = (index, alive)
        if key not in self._counts:
            self._counts[key] = sum(
                len(made) * self._count(index + 1, rest)
                for rest, made in self._table(index, alive).items()
            )
        return self._counts[key]

    def _walk(self, index: int, alive: Alive) -> Iterator[tuple[Made, ...]]:
        if index == len(self.rows):
            yield ()
            return
        for rest, values in self._table(index, alive).items():
            for tail in self._walk(index + 1, rest):
                for made in values:
                    yield (made, *tail)


def axis_values(axis: Axis) -> tuple[Any, ...]:
    """Give the values of an axis; a range of floats is one value, itself."""
    return (axis,) if isinstance(axis, FloatRange) else axis.values


class Profiles:
    """Some profiles: rows of sets, of which one covers another set by set."""

    def __init__(self, profiles: Iterable[Profile] = ()) -> None:
        self._known: dict[Profile, None] = {}
        self._holders: dict[tuple[int, object], list[Profile]] = {}
        for profile in profiles:
            self.add(profile)

    def add(self, profile: Profile) -> None:
        """Add a profile; of equal ones one is kept."""
        if profile in self._known:
            return
        self._known[profile] = None
        for place, values in enumerate(profile):
            for value in values:
                self._holders.setdefault((place, value), []).append(profile)

    def covering(self, profile: Profile) -> Iterator[Profile]:
        """Give those whose every set holds its partner in `profile`, an equal one included."""
        # They hold each of its values: only those that hold the rarest one need a look.
        places = ((place, value) for place, values in enumerate(profile) for value in values)
        lists = (self._holders.get(at, []) for at in places)
        for other in min(lists, key=len, default=self._known):
            if all(mine <= theirs for mine, theirs in zip(profile, other, strict=True)):
                yield other


def undominated(profiles: Mapping[int, Profile]) -> Alive:
    """Drop each profile of sets that another covers set by set; of equal ones the first stays."""
    first: dict[Profile, int] = {}
    for s in sorted(profiles):
        first.setdefault(profiles[s], s)
    known = Profiles(first)
    return frozenset(
        s
        for profile, s in first.items()
        if all(other == profile for other in known.covering(profile))
    )


def below(rng: np.random.Generator, n: int) -> int:
    """Draw an integer from 0 to n - 1, each equally likely, for n of any length."""
    if n < 2**62:
        return int(rng.integers(n))
    length = (n.bit_length() + 7) // 8
    while True:
        drawn = int.from_bytes(rng.bytes(length), "big") >> (8 * length - n.bit_length())
        if drawn < n:
            return drawn
