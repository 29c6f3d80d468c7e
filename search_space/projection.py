"""A published network in somebody else's space: the nearest one that the space can draw.

Family, stem, downsampling and head must be values of the space, but for the dense head, which every
network takes. All else becomes its nearest value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from search_space.architecture import (
    Architecture,
    Branches,
    Stage,
    canonical_stage,
    cropped_branches,
    paper_branches,
    plain_number,
)
from search_space.axes import FloatRange
from search_space.branches import expanded
from search_space.families import DENSE, STRUCTURES
from search_space.plan import Shell
from search_space.space import DesignSpace
from search_space.traits import Made, TraitSet, axis_values

Distance = tuple[float, ...]
"""What differs, the weightiest first: the first entry that is not equal decides."""
Measure = Callable[[Made], Distance]
"""Tells how far a value of a trait is from what is looked for."""

STAGES = {1: (2,), 2: (0, 2), 3: (0, 1, 2), 4: (0, 1, 2, 3)}
"""For a number of stages: which of the four published ones stand in them.

The third is never left out: it is the deepest, and the one in which published networks differ.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How the published widths or depths of one stage become those of the space.

    Where the space has room for half of the published networks, numbers stay as they are. Otherwise
    the smallest published one becomes the smallest of the space, the largest the largest, and the
    others lie between them as they do among the published, by the logarithm.
    """

    published: tuple[float, float]
    """Smallest and largest of the networks that fit the space."""
    own: tuple[float, float]
    """Smallest and largest that the space has."""
    kept: bool

    def scaled(self, number: float) -> float:
        """Give what number to look for in the space."""
        (low, high), (own_low, own_high) = self.published, self.own
        if self.kept or low == high:
            return number
        return float(own_low * (own_high / own_low) ** (math.log(number / low, high / low)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What to look for in one stage of the space."""

    stage: Stage
    """As published."""
    width: float
    depth: float
    """Both scaled to the space."""
    ffn_ratio: float
    side: int
    """Longer side in pixels of the map in the space."""
    block: str
    is_paper: bool
    """Whether the network has the published branches beside its large kernels."""

    def number(self, key: str) -> float:
        """Give the number to look for."""
        own = {"width": self.width, "depth": self.depth, "ffn_ratio": self.ffn_ratio}
        return own[key] if key in own else float(getattr(self.stage, key))


class Projection:
    """Published networks of four stages, projected onto one space."""

    def __init__(self, space: DesignSpace, networks: Sequence[Architecture]) -> None:
        """Prepare for a space that is bound to its data; together the networks set the scale."""
        self.plan = space.plan
        self.stages = STAGES[len(space.stages)]
        self.networks = [network for network in networks if self.misfit(network) is None]
        self._scales: dict[tuple[str, float], list[Scale]] = {}

    def misfit(self, network: Architecture) -> str | None:
        """Name what the space lacks of a network, such as `block slak`; None where it fits."""
        return self._shells(network)[1]

    def nearest(self, network: Architecture) -> Architecture:
        """Give the canonical network of the space that is nearest to one that fits.

        Kernels, placements and branches are compared as they are built: on the maps of the space,
        cut to the taps that can act there.
        """
        shells, missing = self._shells(network)
        assert missing is None, f"{missing} was to be looked for with `misfit`"
        shell = min(
            shells,
            key=lambda shell: (
                abs(math.log2(shell.stride / network.stem.stride)),
                abs(shell.width_factor - network.width_factor),
                abs(shell.weights_sparsity - network.weights_sparsity),
            ),
        )
        targets = self._targets(network, shell)
        columns, floats = [], dict[str, float]()
        for traits in self.plan.sets(shell):
            key = traits.trait.keys[0]
            column = _closest(traits, targets)
            for index, (made, target) in enumerate(zip(column, targets, strict=True)):
                if isinstance(made[0], FloatRange):
                    number = plain_number(_within(made[0], target.number(key)))
                    floats.setdefault(self.plan.name(index, key), number)
            columns.append(column)
        return self.plan.build(shell, tuple(columns), floats)

    def _shells(self, network: Architecture) -> tuple[list[Shell], str | None]:
        """Give the shells of the space with the parts of a network, or the first part it lacks."""
        shells = self.plan.shells
        wanted_parts = {
            "block": network.block,
            "stem": network.stem.kind,
            "transition": network.transition,
            "head": network.head,
        }
        if {shell.head for shell in shells} == {DENSE}:
            # That head is the task's: it reads any backbone, and none was published with it.
            del wanted_parts["head"]
        for key, wanted in wanted_parts.items():
            shells = [shell for shell in shells if getattr(shell, key) == wanted]
            if not shells:
                return [], f"{key} {wanted}"
        return shells, None

    def _targets(self, network: Architecture, shell: Shell) -> list[Target]:
        factor = shell.width_factor
        is_paper = any(
            stage.dilations and stage.dilations == paper_branches(stage.kernel)
            for stage in network.stages
        )
        return [
            Target(
                stage=network.stages[place],
                width=width.scaled(network.widths[place]) / factor,
                depth=depth.scaled(network.stages[place].depth),
                ffn_ratio=_ffn_ratio(network.built_stages[place]),
                side=side,
                block=network.block,
                is_paper=is_paper,
            )
            for place, width, depth, side in zip(
                self.stages,
                self._scale("width", factor),
                self._scale("depth", 1),
                self.plan.sides(shell),
                strict=True,
            )
        ]

    def _scale(self, key: str, factor: float) -> list[Scale]:
        """Give the scale of every stage for width or depth; the space's numbers times a factor."""
        if (key, factor) not in self._scales:
            rows = [
                [
                    network.widths[place] if key == "width" else network.stages[place].depth
                    for place in self.stages
                ]
                for network in self.networks
            ]
            ends = []
            for index in range(len(self.stages)):
                values = axis_values(self.plan.axis(index, key))
                ends.append((factor * min(values), factor * max(values)))
            held = [
                all(low <= number <= high for number, (low, high) in zip(row, ends, strict=True))
                for row in rows
            ]
            self._scales[key, factor] = [
                Scale(
                    published=(min(numbers), max(numbers)),
                    own=own,
                    kept=2 * sum(held) >= len(rows),
                )
                for numbers, own in zip(zip(*rows, strict=True), ends, strict=True)
            ]
        return self._scales[key, factor]


def _closest(traits: TraitSet, targets: Sequence[Target]) -> tuple[Made, ...]:
    """Give the values of a trait that are closest to the targets, one a stage.

    With axes that the stages share, the assignment is taken whose distances add up to the least.
    """
    measures = [_MEASURES[traits.trait.keys[0]](target) for target in targets]
    known: list[dict[Made, Distance]] = [{} for _ in targets]
    best: tuple[list[float], tuple[Made, ...]] | None = None
    for s in range(len(traits.tuples)):
        column, total = [], list[float]()
        for measure, rows, seen in zip(measures, traits.rows, known, strict=True):
            # The order of the axes decides between equals, so that a resumed run finds the same.
            options = dict.fromkeys(made for made in rows[s].values() if made is not None)
            for made in options:
                if made not in seen:
                    seen[made] = measure(made)
            if not options:
                break
            column.append(min(options, key=seen.__getitem__))
            there = seen[column[-1]]
            total = [a + b for a, b in zip(total, there, strict=True)] if total else [*there]
        else:
            if best is None or total < best[0]:
                best = total, tuple(column)
    assert best is not None, "a shell is one in which every trait can exist"
    return best[1]


def _number(key: str) -> Callable[[Target], Measure]:
    """Compare numbers by their ratio; without layer scale is furthest from any."""

    def measure_for(target: Target) -> Measure:
        wanted = target.number(key)

        def measure(made: Made) -> Distance:
            found = _within(made[0], wanted)
            if not found or not wanted:
                return (float(found != wanted), 0.0)
            return (0.0, abs(math.log(found / wanted)))

        return measure

    return measure_for


def _pattern(target: Target) -> Measure:
    """Compare depth, kernel, placement, branches, and what else runs beside a large kernel."""
    stages: dict[int, Stage] = {}
    branches = cropped_branches(target.stage.dilations, target.side)

    def measure(made: Made) -> Distance:
        depth, kernel, letters, beside, small, strip = made
        if depth not in stages:
            placement = expanded(target.stage.placement, depth)
            stage = replace(target.stage, depth=depth, placement=placement)
            stages[depth] = canonical_stage(stage, side=target.side, block=target.block)
        wanted = stages[depth]
        published = paper_branches(kernel) if target.is_paper else branches
        return (
            abs(depth - target.depth),
            abs(kernel - wanted.kernel),
            sum(a != b for a, b in zip(letters, wanted.placement, strict=True)),
            _unlike(beside, published) if "L" in letters else 0,
            abs((small or 0) - (wanted.small_kernel or 0)),
            abs((strip or 0) - (wanted.strip or 0)),
        )

    return measure


def _structure(target: Target) -> Measure:
    """Compare structures: the same one, else none, else the first of the table."""
    wanted, ratio = target.stage.structure, target.stage.se_ratio
    ranks = {name: 1 + place for place, name in enumerate(STRUCTURES)} | {wanted: 0}
    return lambda made: (ranks[made[0]], abs(made[1] - ratio))


_MEASURES: dict[str, Callable[[Target], Measure]] = {
    "width": _number("width"),
    "depth": _pattern,
    "ffn_ratio": _number("ffn_ratio"),
    "structure": _structure,
    "layer_scale": _number("layer_scale"),
    "dw_ratio": _number("dw_ratio"),
}
"""Measures of the distance between a value of a trait and a target, by the trait's first key."""


def _ffn_ratio(stage: Stage) -> float:
    """Give hidden over outer width of a stage as it is built."""
    return stage.ffn_ratio if stage.ffn_hidden is None else stage.ffn_hidden / stage.width


def _within(value: float | FloatRange, wanted: float) -> float:
    """Give a value, or the nearest number of a range."""
    if isinstance(value, FloatRange):
        return min(max(wanted, value.low), value.high)
    return value


def _unlike(some: Branches, others: Branches) -> int:
    """Count the branches that only one of two rows has."""
    left = list(others)
    unmatched = 0
    for branch in some:
        if branch in left:
            left.remove(branch)
        else:
            unmatched += 1
    return unmatched + len(left)
