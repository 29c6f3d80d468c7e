"""What a guideline study fixes before its first training, and what a finished block hands in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluators.contrasts import Floats

GUIDELINES = ("g1", "g2", "g3", "g4")


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What is fixed before the first training."""

    task: str
    metric: str
    """accuracy or miou."""
    blocks: int
    """Planned."""
    rule: Literal["fixed", "obrien_fleming"] = "fixed"
    alpha: float = 0.05
    """Family-wise error over the four guidelines."""
    margin: float = 0.5
    """Points that guideline 4 may cost."""
    practical: float = 0.5
    """Points; an effect whose 95 % interval lies within +-practical is not worth having."""
    first_look: int = 8
    every: int = 4
    missing: Mapping[str, str] = field(default_factory=dict)
    """Guideline -> why it cannot be tested here; testable ones are absent."""
    contexts: int = 2
    """Distinct contexts that the space has; with 1 nothing is testable."""

    def looks(self) -> tuple[int, ...]:
        """Give the numbers of finished blocks at which the rule may decide, the last included."""
        if self.rule == "fixed":
            return (self.blocks,)
        return (*range(self.first_look, self.blocks, self.every), self.blocks)

    def document(self) -> dict[str, Any]:
        """Give the protocol as plain data, for run.yaml and its hash."""
        return {**asdict(self), "missing": dict(self.missing)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Protocol:
        """Rebuild the protocol that `document` wrote."""
        return cls(**document)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockResult:
    """One finished block; diverged runs stand at chance level."""

    block: int
    """Its place in the plan, from 0."""
    levels: NDArray[np.int64]
    """(runs, 4) of 0 and 1."""
    varied: tuple[bool, bool, bool, bool]
    """False: the space lacks the factor, or its level was drawn for the whole block."""
    scores: Floats
    """(runs,) points, by reading "all" or of the classifier."""
    losses: Floats
    """(runs,) nats."""
    scores_last: Floats | None = None
    """(runs,) points by reading "last"; None in classification."""
    losses_last: Floats | None = None
    latency_ms: Floats
    """(runs,); NaN where it was not measured."""
    macs: Floats
    """(runs,)."""


def block_levels(varied: Sequence[bool], block: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Give the levels of a block's members, (runs, 4) of 0 and 1.

    Up to two varied factors stand in all combinations; of more, the half fraction whose sum of
    levels is even in blocks 0, 2, ... and odd in the others: four factors in 8 runs, three in 4.
    Halves alternate so that over two blocks interactions cancel from the main effects. The level
    of a factor that is not varied is drawn for the block: frozen at its winner instead, it would
    change what the other contrasts estimate and triple the family-wise error.
    """
    free = np.flatnonzero(varied)
    combinations = np.array(list(product((0, 1), repeat=len(free))), dtype=np.int64)
    if len(free) > 2:
        combinations = combinations[combinations.sum(axis=1) % 2 == block % 2]
    # Four are drawn whatever is varied, so that a decision does not shift the stream.
    levels = np.tile(rng.integers(0, 2, size=len(GUIDELINES)), (len(combinations), 1))
    levels[:, free] = combinations
    return levels
