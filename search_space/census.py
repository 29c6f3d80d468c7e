"""The set of distinct networks of a space: its size, its members, even draws, what it wastes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from search_space.architecture import Architecture
from search_space.axes import Axis, FloatRange, Value, text_key
from search_space.neighbours import neighbours
from search_space.plan import Shell
from search_space.traits import Profiles, TraitSet, axis_values, below

if TYPE_CHECKING:
    import numpy as np

    from search_space.space import DesignSpace


class Census:
    """Counts, draws and lists the distinct canonical networks of a space.

    Axes of floats make a space infinite: `size` is then infinite, and neighbours leave those axes
    alone.
    """

    def __init__(self, space: DesignSpace) -> None:
        self.space = space
        self.plan = space.plan

    @cached_property
    def size(self) -> float:
        """Number of distinct networks, an int where it is finite."""
        if any(isinstance(axis, FloatRange) for axis in self.space.axes().values()):
            return math.inf
        return sum(self._weights)

    @cached_property
    def _shells(self) -> list[Shell]:
        return self.plan.shells

    @cached_property
    def _weights(self) -> list[int]:
        sets = map(self.plan.sets, self._shells)
        return [math.prod(found.count for found in row) for row in sets]

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a network, each as likely as any other; with axes of floats, axis by axis."""
        if math.isinf(self.size):
            return self.space.draw(lambda _name, axis, options: _even(rng, axis, options))
        point, chosen = below(rng, int(self.size)), 0
        while point >= self._weights[chosen]:
            point -= self._weights[chosen]
            chosen += 1
        shell = self._shells[chosen]
        columns = tuple(found.sample(rng) for found in self.plan.sets(shell))
        return self.plan.build(shell, columns, {})

    def all(self) -> Iterator[Architecture]:
        """List every distinct network of a finite space."""
        for shell in self._shells:
            ways = (found.all() for found in self.plan.sets(shell))
            for columns in itertools.product(*ways):
                yield self.plan.build(shell, columns, {})

    def contains(self, architecture: Architecture) -> bool:
        """Whether the space can draw the canonical form of a network."""
        return self.plan.locate(architecture) is not None

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """List the distinct networks one axis away; see `search_space.neighbours`."""
        return neighbours(self.plan, architecture)

    @cached_property
    def impossible(self) -> int:
        """Pairs of a kernel and its branches that cannot exist, counted once in every stage."""
        pairs = set()
        for found in self._sets_with("kernel"):
            for index, rows in enumerate(found.rows):
                for values, row in zip(found.tuples, rows, strict=True):
                    for raw, made in row.items():
                        if made is None:
                            words = _words(found, index, values, raw)
                            pairs.add((index, words["kernel"], words["dilations"]))
        return len(pairs)

    def wasted(self) -> list[str]:
        """Name the choices that make no other network than those before them on their axis."""
        lines = []
        for name, axis in self.space.axes().items():
            if isinstance(axis, FloatRange):
                continue
            where, _, key = name.rpartition(".")
            if where.startswith("stages["):
                found = self._own_waste(int(where[len("stages[") : -1]), key, axis)
            elif where == "shared":
                found = self._shared_waste(key, axis)
            else:
                found = self._network_waste(name, axis)
            lines += [f"{name}: {text_key(value)} {why}" for value, why in found]
        return lines

    def _own_waste(self, index: int, key: str, axis: Axis) -> Iterator[tuple[Value, str]]:
        images: dict[Value, set[object]] = {value: set() for value in axis_values(axis)}
        for number, found in enumerate(self._sets_with(key)):
            place = list(found.own[index]).index(key)
            for s, row in enumerate(found.rows[index]):
                if all(options[s] for options in found.options):
                    for raw, made in row.items():
                        if made is not None:
                            images[raw[place]].add((number, s, made))
        return _repeats(images)

    def _shared_waste(self, key: str, axis: Axis) -> Iterator[tuple[Value, str]]:
        """Compare the sets that each value leaves to the stages, pair by pair of assignments."""
        sets = self._sets_with(key)
        places = [list(found.shared).index(key) for found in sets]
        seen = [Profiles() for _ in sets]
        for value in axis_values(axis):
            news, any_drawn = False, False
            for found, place, before in zip(sets, places, seen, strict=True):
                mine = [
                    tuple(options[s] for options in found.options)
                    for s, values in enumerate(found.tuples)
                    if values[place] == value and all(options[s] for options in found.options)
                ]
                any_drawn = any_drawn or bool(mine)
                news = news or any(next(before.covering(m), None) is None for m in mine)
                for profile in mine:
                    before.add(profile)
            if not any_drawn:
                yield value, _NEVER
            elif not news:
                yield value, _AGAIN

    def _network_waste(self, key: str, axis: Axis) -> Iterator[tuple[Value, str]]:
        images: dict[Value, set[object]] = {value: set() for value in axis_values(axis)}
        place = list(self.plan.network.own[0]).index(key)
        (row,) = self.plan.network.rows[0]
        for raw, made in row.items():
            if made is not None:
                images[raw[place]].add(made)
        return _repeats(images)

    def _sets_with(self, key: str) -> list[TraitSet]:
        """Give every distinct set of the trait that has a key; shells may share one."""
        sets = {
            id(found): found
            for shell in self._shells
            for found in self.plan.sets(shell)
            if key in found.trait.keys
        }
        return list(sets.values())


_NEVER = "can never be drawn"
_AGAIN = "makes only networks that the values before it make"


def _repeats(images: dict[Value, set[object]]) -> Iterator[tuple[Value, str]]:
    seen: set[object] = set()
    for value, image in images.items():
        if not image:
            yield value, _NEVER
        elif image <= seen:
            yield value, _AGAIN
        seen |= image


def _words(
    found: TraitSet, index: int, values: tuple[Any, ...], raw: tuple[Any, ...]
) -> dict[str, Any]:
    shared = dict(zip(found.shared, values, strict=True))
    return shared | dict(zip(found.own[index], raw, strict=True))


def _even(rng: np.random.Generator, axis: Axis, options: tuple[Value, ...]) -> Value:
    if not isinstance(axis, FloatRange):
        return options[int(rng.integers(len(options)))]
    if axis.log:
        drawn = math.exp(rng.uniform(math.log(axis.low), math.log(axis.high)))
        return min(max(drawn, axis.low), axis.high)
    return float(rng.uniform(axis.low, axis.high))
