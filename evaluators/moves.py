"""What the four guidelines change in the networks of a space, as factors of two levels.

Level 1 follows the guideline, level 0 goes against it. A network in which all factors but the third
stand at 1 says by itself what it is at every other combination: it is the base of a context.

Source of the guidelines: UniRepLKNet, arXiv 2311.15599, section 3.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from evaluators.protocol import GUIDELINES
from search_space.architecture import (
    LARGE_KERNEL,
    Architecture,
    Branches,
    Stage,
    paper_branches,
)
from search_space.branches import span
from search_space.plan import Plan, Shell
from search_space.traits import Made, TraitSet

Levels = tuple[int, ...]
"""0 or 1 for each guideline."""

EXTRAS = ("se", "bottleneck", "pointwise", "depthwise")
"""Structures that add depth to a block, by what they gained in UniRepLKNet's table 1."""


class Pattern(NamedTuple):
    """Depthwise kernels of a stage, in the order of the trait's keys."""

    depth: int
    kernel: int
    letters: str
    dilations: Branches
    small_kernel: int | None
    strip: int | None

    @classmethod
    def of(cls, stage: Stage) -> Pattern:
        """Give that of a canonical stage."""
        return cls(
            stage.depth,
            stage.kernel,
            stage.placement,
            stage.dilations,
            stage.small_kernel,
            stage.strip,
        )

    def put_into(self, stage: Stage) -> Stage:
        """Give a stage with it."""
        return replace(
            stage,
            depth=self.depth,
            kernel=self.kernel,
            placement=self.letters,
            dilations=self.dilations,
            small_kernel=self.small_kernel,
            strip=self.strip,
        )

    @property
    def is_large(self) -> bool:
        """Whether a block of it is large."""
        return self.kernel >= LARGE_KERNEL

    @property
    def small(self) -> Pattern:
        """The same depth of 3x3 blocks."""
        return Pattern(self.depth, 3, "S" * self.depth, (), None, None)

    @property
    def plain(self) -> Pattern:
        """The same without branches."""
        return self._replace(dilations=())

    @property
    def full(self) -> Pattern:
        """The same with the stage's kernel in every block."""
        return self._replace(letters="L" * self.depth)


class Moves:
    """What the factors can change in the networks of one shell, stage by stage."""

    def __init__(self, plan: Plan, shell: Shell) -> None:
        self.plan, self.shell = plan, shell
        sets = {found.trait.keys[0]: found for found in plan.sets(shell)}
        self.patterns = [{Pattern(*made) for made in row} for row in _offered(sets["depth"])]
        self.structures = [{made[0] for made in row} for row in _offered(sets["structure"])]
        stages = range(len(self.patterns))
        self.later = stages[1:] or stages
        """Stages that guidelines 3 and 4 call later; of a single stage, itself."""
        self.large = [i for i in self.later if any(p.is_large for p in self.patterns[i])]
        """Later stages that can have a large kernel."""
        # Where stages share an axis, one level is one word for all of them.
        self._same_branches = [plan.name(i, "dilations").startswith("shared.") for i in stages]
        shared = [plan.name(i, "placement").startswith("shared.") for i in stages]
        first_too = shared[0] and any(shared[i] for i in self.later)
        self._placed = set(stages) if first_too else set(self.later)
        self._branches = [_by_branches(row) for row in self.patterns]
        self._letters = [_by_letters(row) for row in self.patterns]

    def extra(self, index: int) -> str | None:
        """Name the structure that guideline 1 adds to a stage; None where it cannot act."""
        offered = self.structures[index]
        found = [name for name in EXTRAS if name in offered]
        return found[0] if found and "none" in offered else None

    def dilated(self, index: int, pattern: Pattern) -> Branches | None:
        """Give the branches that guideline 2 puts into a stage; None where it cannot act."""
        least = 5 if self._same_branches[index] else LARGE_KERNEL
        if pattern.kernel < least:
            return None
        offered = self._branches[index][pattern.plain]
        dilated = [b for b in offered if any(r > 1 for _, r in b)]
        if () not in offered or not dilated:
            return None
        paper = paper_branches(pattern.kernel)
        return paper if paper in dilated else max(dilated, key=lambda b: (max(map(span, b)), b))

    def mixed(self, index: int, pattern: Pattern) -> str | None:
        """Give the letters of a stage whose added blocks are 3x3; None where 4 cannot act."""
        if index not in self._placed or not pattern.is_large:
            return None
        offered = self._letters[index][pattern.full]
        mixed = [letters for letters in offered if letters[0] == "L" and "S" in letters]
        if pattern.full.letters not in offered or not mixed:
            return None
        return min(mixed, key=lambda letters: (-letters.count("S"), letters))

    def may_hold(self, active: frozenset[str], index: int, pattern: Pattern) -> bool:
        """Whether a stage of the base of a context may be like this."""
        if "g3" in active and index == 0:
            has_small = pattern.small in self.patterns[0]
            if not (pattern.is_large and pattern.letters[0] == "L" and has_small):
                return False
        if active - {"g1"} and index in self.large and not pattern.is_large:
            return False
        if "g2" in active and self.dilated(index, pattern) not in (None, pattern.dilations):
            return False
        return not ("g4" in active and self.mixed(index, pattern) not in (None, pattern.letters))

    def largest(self, active: frozenset[str], index: int, own: Pattern) -> Pattern:
        """Give the pattern of a later stage with the largest kernel, all else as near as can be."""

        def rank(pattern: Pattern) -> tuple[object, ...]:
            beside = (pattern.small_kernel == own.small_kernel, pattern.strip == own.strip)
            alike = (pattern.letters == own.letters, *beside, bool(pattern.dilations))
            return (pattern.kernel, *alike, pattern.letters, pattern.dilations)

        offered = [
            pattern
            for pattern in self.patterns[index]
            if pattern.depth == own.depth and self.may_hold(active, index, pattern)
        ]
        return max(offered, key=rank) if index in self.large and offered else own

    def smallest(self, index: int, own: Pattern) -> Pattern:
        """Give the pattern of a stage with the smallest kernel, 3 where all are large."""
        offered = [
            pattern
            for pattern in self.patterns[index]
            if pattern.depth == own.depth and not pattern.is_large
        ]
        return min(offered, key=lambda p: (p.kernel, p.letters, p.dilations), default=own.small)

    def acting(self, base: Architecture, active: frozenset[str]) -> dict[str, list[int]]:
        """Give the stages of a base in which each factor acts."""
        patterns = [Pattern.of(stage) for stage in base.stages]
        where = {
            "g1": [i for i, _ in enumerate(patterns) if self.extra(i)],
            "g2": [i for i, pattern in enumerate(patterns) if self.dilated(i, pattern)],
            "g3": [0],
            "g4": [i for i, pattern in enumerate(patterns) if self.mixed(i, pattern)],
        }
        return {guideline: where[guideline] for guideline in sorted(active)}

    def networks(
        self, base: Architecture, active: frozenset[str]
    ) -> dict[Levels, Architecture] | None:
        """Give a base's network at every combination of levels; None where it is no base.

        In a base every factor changes a network at every level of the others, and the space can
        draw them all.
        """
        acting = self.acting(base, active)
        # A 3x3 in stage 1 has no branches to take away: another stage must have them.
        first = {0} if "g3" in active else set()
        branched = [i for i in acting.get("g2", ()) if base.stages[i].kernel >= LARGE_KERNEL]
        if "g2" in active and not set(branched) - first:
            return None
        if "g4" in active and not set(acting["g4"]) & set(self.later):
            return None
        networks = {}
        for levels in combinations(active):
            networks[levels] = network = _at(base, acting, levels)
            if not self.plan.space.contains(network):
                return None
        return networks

    def at(self, base: Architecture, active: frozenset[str], levels: Levels) -> Architecture:
        """Give a base's network at some levels; those of guidelines not active are ignored."""
        return _at(base, self.acting(base, active), levels)


def _at(base: Architecture, acting: Mapping[str, Sequence[int]], levels: Levels) -> Architecture:
    """Change a base, which stands at level 0 of guideline 3 and at level 1 of the others."""
    changed = {g for g, level in zip(GUIDELINES, levels, strict=True) if level == (g == "g3")}
    stages = list(base.stages)
    for guideline in changed & acting.keys():
        for i in acting[guideline]:
            stages[i] = _CHANGES[guideline](stages[i])
    return replace(base, stages=tuple(stages)).canonical


_CHANGES: dict[str, Callable[[Stage], Stage]] = {
    "g1": lambda stage: replace(stage, structure="none"),
    "g2": lambda stage: replace(stage, dilations=()),
    "g3": lambda stage: replace(stage, kernel=3, dilations=()),
    "g4": lambda stage: replace(stage, placement="L" * stage.depth),
}
"""What each factor does to a stage of a base."""


def combinations(active: Iterable[str]) -> Iterator[Levels]:
    """Give all rows of levels, one a guideline; those that are not active stand at 1."""
    return itertools.product(*((0, 1) if g in active else (1,) for g in GUIDELINES))


def _offered(found: TraitSet) -> list[set[Made]]:
    """Give what each stage can be, whatever the stages share."""
    return [{made for s in found.kept for made in row[s]} for row in found.options]


def _by_branches(row: Iterable[Pattern]) -> dict[Pattern, set[Branches]]:
    """Give what branches a pattern can have, by the pattern without them."""
    groups: dict[Pattern, set[Branches]] = {}
    for pattern in row:
        groups.setdefault(pattern.plain, set()).add(pattern.dilations)
    return groups


def _by_letters(row: Iterable[Pattern]) -> dict[Pattern, set[str]]:
    """Give what letters a pattern can have, by the pattern with the kernel in every block."""
    groups: dict[Pattern, set[str]] = {}
    for pattern in row:
        groups.setdefault(pattern.full, set()).add(pattern.letters)
    return groups
