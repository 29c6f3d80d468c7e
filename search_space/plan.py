"""A space on images of known size, worked out: which network-wide parts, which traits in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from search_space.architecture import (
    Architecture,
    Stage,
    Stem,
    canonical_ffn,
    canonical_stage,
    cropped_kernel,
    plain_number,
)
from search_space.axes import Axis, FloatRange
from search_space.branches import expanded, written_stage
from search_space.families import FAMILIES, stage_maps
from search_space.keys import DEFAULT, NETWORK_KEYS, STAGE_KEYS
from search_space.traits import PATTERN, TRAITS, Made, Trait, TraitSet, axis_values

if TYPE_CHECKING:
    from search_space.space import DesignSpace

Columns = tuple[tuple[Made, ...], ...]
"""For each trait: its values, one a stage."""
Floats = Mapping[str, float]
"""Numbers drawn from ranges of floats, by the name of the axis."""

_NEUTRAL = {key: rule.default for key, rule in STAGE_KEYS.items()}
_NEUTRAL |= {"depth": 1, "width": 1, "kernel": 3, "layer_scale": "none", "small_kernel": "none"}


class Shell(NamedTuple):
    """The network-wide part, with settings that cannot act at their defaults."""

    block: str
    stem: str
    stride: int
    transition: str
    head: str
    width_factor: float
    weights_sparsity: float


def shell_of(words: Mapping[str, Any]) -> Shell:
    """Give the network-wide part that one value for each network key describes."""
    family = FAMILIES[words["block"]]
    acts = family.network_keys

    def named(key: str, own: str) -> str:
        return own if words[key] == DEFAULT else str(words[key])

    return Shell(
        block=words["block"],
        stem=named("stem.kind", family.stem),
        stride=words["stem.stride"],
        transition=named("transition", family.transition),
        head=named("head", family.head),
        width_factor=words["width_factor"] if "width_factor" in acts else 1,
        weights_sparsity=words["weights_sparsity"] if "weights_sparsity" in acts else 0,
    )


class Plan:
    """The shells of a space and, for each, the sets of its traits; made once, then looked up."""

    def __init__(self, space: DesignSpace) -> None:
        self.space = space
        self.size, self.channels = space.image()
        self._sets: dict[tuple[object, ...], TraitSet] = {}
        self._large: dict[tuple[object, ...], Made | None] = {}

    @cached_property
    def network(self) -> TraitSet:
        """The shells, as a trait of one stage; a shell in which no stage can exist is left out."""

        def make(_index: int, words: Mapping[str, Any]) -> Shell | None:
            shell = shell_of(words)
            return shell if all(found.kept for found in self.sets(shell)) else None

        keys = Trait(keys=tuple(NETWORK_KEYS))
        return TraitSet(keys, make, own=[self.space.network], shared={})

    @property
    def shells(self) -> list[Shell]:
        """Every distinct shell."""
        return [Shell(*made) for (made,) in self.network.all()]

    def sides(self, shell: Shell) -> tuple[int, ...]:
        """Give the longer side in pixels of every stage's map."""
        maps = stage_maps(
            self.size,
            len(self.space.stages),
            stem=shell.stem,
            stride=shell.stride,
            transition=shell.transition,
        )
        return tuple(max(side) for side in maps)

    def sets(self, shell: Shell) -> tuple[TraitSet, ...]:
        """Give what each trait can be under a shell, in the order of TRAITS."""
        sides = self.sides(shell)
        return tuple(self._set(trait, block=shell.block, sides=sides) for trait in TRAITS)

    def _set(self, trait: Trait, *, block: str, sides: tuple[int, ...]) -> TraitSet:
        key = (trait.keys, block, sides if trait is PATTERN else None)
        if key not in self._sets:

            def make(index: int, words: Mapping[str, Any]) -> Made | None:
                if trait is PATTERN:
                    return self._pattern(words, block=block, side=sides[index])
                return _simple(trait, words, block=block)

            self._sets[key] = TraitSet(trait, make, own=self.space.stages, shared=self.space.shared)
        return self._sets[key]

    def _pattern(self, words: Mapping[str, Any], *, block: str, side: int) -> Made | None:
        """Give kernels, placement and branches; only the letters depend on the depth."""
        depth = words["depth"]
        letters = expanded(words["placement"], depth)
        small = (depth, 3, "S" * depth, (), None, None)
        # A branch that is wider than its kernel is no trouble where no large kernel is built.
        if "L" not in letters or cropped_kernel(words["kernel"], side) == 3:
            return small
        parts = {key: words[key] for key in PATTERN.keys[1:]}
        key = (block, side, *(value for k, value in parts.items() if k != "placement"))
        if key not in self._large:
            one = written_stage({**_NEUTRAL, **parts, "placement": "L"}, block=block)
            if one is None:
                self._large[key] = None
            else:
                one = canonical_stage(one, side=side, block=block)
                self._large[key] = (one.kernel, one.dilations, one.small_kernel, one.strip)
        made = self._large[key]
        return None if made is None else (depth, made[0], letters, *made[1:])

    def build(self, shell: Shell, columns: Columns, floats: Floats) -> Architecture:
        """Put a network together.

        Raises:
            KeyError: a range of floats acts in it and `floats` has no number for it.
        """
        stages = []
        for index in range(len(self.space.stages)):
            words: dict[str, Any] = {}
            for trait, column in zip(TRAITS, columns, strict=True):
                words.update(zip(trait.keys, column[index], strict=True))
            for key, value in words.items():
                if isinstance(value, FloatRange):
                    words[key] = plain_number(floats[self.name(index, key)])
            stages.append(canonical_ffn(Stage(**words), factor=shell.width_factor))
        return Architecture(
            size=self.size,
            channels=self.channels,
            block=shell.block,
            stem=Stem(kind=shell.stem, stride=shell.stride),
            transition=shell.transition,
            head=shell.head,
            width_factor=shell.width_factor,
            weights_sparsity=shell.weights_sparsity,
            stages=tuple(stages),
        )

    def locate(self, architecture: Architecture) -> tuple[Shell, Columns, Floats] | None:
        """Find the canonical form of a network in the space; None where it cannot be drawn."""
        origin = architecture.canonical
        if (origin.size, origin.channels) != (self.size, self.channels):
            return None
        if len(origin.stages) != len(self.space.stages):
            return None
        shell = Shell(
            block=origin.block,
            stem=origin.stem.kind,
            stride=origin.stem.stride,
            transition=origin.transition,
            head=origin.head,
            width_factor=origin.width_factor,
            weights_sparsity=origin.weights_sparsity,
        )
        if not self.network.contains([shell]):
            return None
        floats: dict[str, float] = {}
        columns = []
        stages = [
            self._as_named(index, stage, hidden=built.ffn_width)
            for index, (stage, built) in enumerate(
                zip(origin.stages, origin.built_stages, strict=True)
            )
        ]
        for trait, found in zip(TRAITS, self.sets(shell), strict=True):
            column = [tuple(getattr(stage, key) for key in trait.keys) for stage in stages]
            if not found.contains(column):
                (key, *_) = trait.keys
                column = list(self._ranged(key, column, floats))
                if not found.contains(column):
                    return None
            columns.append(tuple(column))
        return shell, tuple(columns), floats

    def _as_named(self, index: int, stage: Stage, *, hidden: int) -> Stage:
        """Write a hidden width as the space does: `build` may have put a ratio in its place."""
        if axis_values(self.axis(index, "ffn_hidden")) != (hidden,):
            return stage
        # Beside a hidden width the ratio is one value.
        (ratio,) = axis_values(self.axis(index, "ffn_ratio"))
        return replace(stage, ffn_ratio=ratio, ffn_hidden=hidden)

    def _ranged(self, key: str, column: Sequence[Made], floats: dict[str, float]) -> Iterator[Made]:
        """Put the range of floats in the place of each number that lies in it; note the number."""
        for index, made in enumerate(column):
            axis, name = self.axis(index, key), self.name(index, key)
            if isinstance(axis, FloatRange) and axis.contains(made[0]):
                # One number for all stages that share the range.
                same = floats.setdefault(name, made[0]) == made[0]
                yield (axis, *made[1:]) if same else made
            else:
                yield made

    def axis(self, index: int, key: str) -> Axis:
        """Give the axis that decides a key of a stage."""
        own = self.space.stages[index]
        return own[key] if key in own else self.space.shared[key]

    def name(self, index: int, key: str) -> str:
        """Name the axis that decides a key of a stage, as messages and Optuna do."""
        return f"stages[{index}].{key}" if key in self.space.stages[index] else f"shared.{key}"


def _simple(trait: Trait, words: Mapping[str, Any], *, block: str) -> Made:
    """Give the canonical fields of a trait that depends on no map."""
    probes = {k: v.high if isinstance(v, FloatRange) else v for k, v in words.items()}
    written = written_stage({**_NEUTRAL, **probes}, block=block)
    assert written is not None
    stage = canonical_stage(written, side=1, block=block)
    # A range of floats stands for its numbers where it acts.
    return tuple(
        words[key]
        if isinstance(words[key], FloatRange) and getattr(stage, key) == probes[key]
        else getattr(stage, key)
        for key in trait.keys
    )
