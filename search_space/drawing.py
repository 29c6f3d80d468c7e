"""The tree of decisions that leads to every network of a space, and asks nothing that cannot act.

At each node the tree knows which values of a stage are still open. A key is asked for only where
its options lead to different values; an option is offered only where it leads to one that no option
before it has. So two paths through the axes of one stage never meet, and none ends in what cannot
exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from search_space.architecture import Architecture
from search_space.axes import Axis, FloatRange, Value
from search_space.keys import STAGE_KEYS
from search_space.plan import Plan, Shell
from search_space.traits import Alive, Made, Raw, TraitSet, axis_values, undominated

Pick = Callable[[str, Axis, tuple[Value, ...]], Value]
"""Picks one of the options of a named axis; () stands for all of a range of floats."""
Answer = tuple[str, Axis, tuple[Value, ...], Value]
"""The name of an axis, the axis, the options that were offered (() for a range of floats), and the
one that was taken."""
Entry = tuple[int, Raw, Made]
"""A shared assignment, an assignment of a stage's own axes, and what they make there."""


@dataclass(slots=True)
class _Node:
    """A point of the tree: settled (`made`), or a question."""

    alive: Alive
    made: Made | None = None
    key: str = ""
    branches: Mapping[Value, list[Entry]] = field(default_factory=dict)
    """What is left with each option of `key`, in the order of the axis."""
    children: dict[Value, _Node] = field(default_factory=dict)


class Tree:
    """The decisions of one trait; nodes are worked out when first reached."""

    def __init__(self, traits: TraitSet) -> None:
        self.traits = traits
        self._roots: dict[tuple[int, Alive], _Node] = {}

    def decide(
        self, index: int, alive: Alive, ask: Callable[[str, Mapping[Value, list[Entry]]], Value]
    ) -> tuple[Made, Alive]:
        """Settle one stage.

        Args:
            index: Of the stage.
            alive: Shared assignments that fit the stages before.
            ask: Picks one of at least two options of a key; sees what is left with each.

        Returns:
            What the stage is, and the shared assignments that are left.
        """
        root = (index, alive)
        if root not in self._roots:
            rows = self.traits.rows[index]
            entries = [
                (s, raw, made)
                for s in sorted(alive)
                for raw, made in rows[s].items()
                if made is not None
            ]
            self._roots[root] = self._node(index, entries)
        node = self._roots[root]
        while node.made is None:
            value = ask(node.key, node.branches)
            if value not in node.children:
                node.children[value] = self._node(index, node.branches[value])
            node = node.children[value]
        return node.made, node.alive

    def _node(self, index: int, entries: list[Entry]) -> _Node:
        waiting: _Node | None = None
        keys = self._order(index, entries)
        while keys:
            entries = self._without_covered(index, entries)
            alive = frozenset(s for s, _, _ in entries)
            if len({made for _, _, made in entries}) == 1:
                return _Node(alive, made=entries[0][2])
            key = keys.pop(0)
            branches = self._branches(index, key, entries)
            if len(branches) == 1:
                (only,) = branches.values()
                if len(only) < len(entries):
                    entries, waiting = only, None
                    keys = self._order(index, entries)
                continue
            node = _Node(alive, key=key, branches=branches)
            if len({frozenset(made for _, _, made in left) for left in branches.values()}) > 1:
                return node
            # A shared key that changes nothing here waits for the stage in which it does.
            waiting = waiting or node
        assert waiting is not None
        return waiting

    def _order(self, index: int, entries: list[Entry]) -> list[str]:
        """Put first, after the depth, the key that can settle a stage as one of small blocks.

        Placement S makes the kernel idle, and a 3x3 kernel the placement: the other comes after.
        """
        keys = list(self.traits.trait.keys)
        own = self.traits.own[index]
        settling = []
        if any(self.traits.trait.is_small(made) for _, _, made in entries):
            for key in ("placement", "kernel"):
                left: dict[Value, bool] = {}
                for s, raw, made in entries:
                    value = self._value(index, key, s, raw)
                    left[value] = left.get(value, True) and self.traits.trait.is_small(made)
                if any(left.values()):
                    settling.append(key)
            settling.sort(key=lambda key: key not in own)
            keys = [keys[0], *settling, *(k for k in keys[1:] if k not in settling)]
        return keys

    def _value(self, index: int, key: str, s: int, raw: Raw) -> Value:
        own = self.traits.own[index]
        values, names = (raw, own) if key in own else (self.traits.tuples[s], self.traits.shared)
        value: Value = values[list(names).index(key)]
        return value

    def _branches(self, index: int, key: str, entries: list[Entry]) -> dict[Value, list[Entry]]:
        """Split the entries by a key, without those options of it that bring nothing new."""
        split: dict[Value, list[Entry]] = {}
        for entry in entries:
            split.setdefault(self._value(index, key, entry[0], entry[1]), []).append(entry)
        if key in self.traits.own[index]:
            split = self._disjoint(key, split)
        axis = self.traits.own[index].get(key) or self.traits.shared[key]
        return {value: split[value] for value in axis_values(axis) if value in split}

    def _disjoint(self, key: str, split: dict[Value, list[Entry]]) -> dict[Value, list[Entry]]:
        """Leave every (shared assignment, value) with the first option of an own axis that has it.

        First are options of small blocks alone, then kernels from large to small, since a large one
        has room for all that the smaller one has.
        """
        is_small = self.traits.trait.is_small

        def rank(value: Value) -> tuple[bool, float]:
            small = all(is_small(made) for _, _, made in split[value])
            return not small, -float(value) if key == "kernel" else 0.0  # type: ignore[arg-type]

        seen: set[tuple[int, Made]] = set()
        kept: dict[Value, list[Entry]] = {}
        for value in sorted(split, key=rank):
            fresh = [entry for entry in split[value] if (entry[0], entry[2]) not in seen]
            seen.update((s, made) for s, _, made in fresh)
            if fresh:
                kept[value] = fresh
        return kept

    def _without_covered(self, index: int, entries: list[Entry]) -> list[Entry]:
        """Drop shared assignments with which nothing is left, here and later, that others lack."""
        here: dict[int, set[Made]] = {}
        for s, _, made in entries:
            here.setdefault(s, set()).add(made)
        if len(here) == 1:
            return entries
        later = self.traits.options[index + 1 :]
        kept = undominated({s: (frozenset(now), *(o[s] for o in later)) for s, now in here.items()})
        return [entry for entry in entries if entry[0] in kept]


class Drawer:
    """Draws the networks of a plan through any `pick`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._trees: dict[int, Tree] = {}

    def draw(self, pick: Pick) -> Architecture:
        """Draw a canonical network; `pick` decides at every axis that can act."""
        plan = self.plan
        network = plan.network

        def ask_network(key: str, branches: Mapping[Value, list[Entry]]) -> Value:
            return pick(key, network.own[0][key], tuple(branches))

        made, _ = self._tree(network).decide(0, network.kept, ask_network)
        shell = Shell(*made)
        sets = plan.sets(shell)
        alive = [traits.kept for traits in sets]
        columns: list[list[Made]] = [[] for _ in sets]
        floats: dict[str, float] = {}
        for index in range(len(plan.space.stages)):

            def ask(key: str, branches: Mapping[Value, list[Entry]], index: int = index) -> Value:
                return pick(plan.name(index, key), plan.axis(index, key), tuple(branches))

            for t, traits in enumerate(sets):
                made, alive[t] = self._tree(traits).decide(index, alive[t], ask)
                columns[t].append(made)
                for key, value in zip(traits.trait.keys, made, strict=True):
                    name = plan.name(index, key)
                    if isinstance(value, FloatRange) and name not in floats:
                        floats[name] = pick(name, value, ())  # type: ignore[assignment]
        return plan.build(shell, tuple(map(tuple, columns)), floats)

    def answers(self, architecture: Architecture) -> list[Answer]:
        """Give every question that `draw` asks on its way to a network, with the answer.

        Raises:
            ValueError: the space cannot draw the network.
        """
        found = self.plan.locate(architecture)
        if found is None:
            raise ValueError(f"{architecture.id}: must be a network of {self.plan.space.name}")
        plan, (shell, columns, floats) = self.plan, found
        answers: list[Answer] = []

        def follow(traits: TraitSet, column: tuple[Made, ...], *, shells: bool) -> None:
            # An assignment that covers another makes all that it makes: one of them is left.
            makers, alive = frozenset(traits.makers(column)), traits.kept
            for index, made in enumerate(column):

                def ask(
                    key: str,
                    branches: Mapping[Value, list[Entry]],
                    index: int = index,
                    made: Made = made,
                ) -> Value:
                    name = key if shells else plan.name(index, key)
                    axis = traits.own[0][key] if shells else plan.axis(index, key)
                    value = next(
                        value
                        for value, entries in branches.items()
                        if any(s in makers and there == made for s, _, there in entries)
                    )
                    answers.append((name, axis, tuple(branches), value))
                    return value

                _, alive = self._tree(traits).decide(index, alive, ask)

        follow(plan.network, (shell,), shells=True)
        for traits, column in zip(plan.sets(shell), columns, strict=True):
            follow(traits, column, shells=False)
        stages = range(len(plan.space.stages))
        axes = {plan.name(i, key): plan.axis(i, key) for i in stages for key in STAGE_KEYS}
        answers += [(name, axes[name], (), number) for name, number in floats.items()]
        return answers

    def _tree(self, traits: TraitSet) -> Tree:
        # Trait sets live as long as their plan, which this drawer holds: an id stays theirs.
        if id(traits) not in self._trees:
            self._trees[id(traits)] = Tree(traits)
        return self._trees[id(traits)]
