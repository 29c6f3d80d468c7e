"""Whole guideline studies with a synthetic evaluator of known effects, thousands at a time.

Runs are drawn for the very levels that `block_levels` gives and judged by the very `decide` that
judges real studies. An effect is the mean difference between level 1 and 0 over all contexts and
over both levels of the other factors.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evaluators.contrasts import Contrasts, Floats, block_contrasts
from evaluators.decisions import CONTRADICTS, SUPPORTS, Decision, decide
from evaluators.evidence import BlockResult, Protocol, block_levels

RUNS = 8
NULL = (0.0, 0.0, 0.0, -0.5)
"""No claim holds: guideline 4 costs exactly its margin."""
PAIRS = tuple(combinations(range(4), 2))
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class World:
    """What is true; scores in points."""

    effects: tuple[float, ...] = NULL
    tau: float = 0.5
    """S.d. of an effect between contexts."""
    seed_sd: float = 0.8
    interactions: float = 0.0
    """S.d. over studies of a two-factor interaction: how far the effect of one factor at either
    level of another lies from its mean. It is the same in all contexts of a study."""
    rho: float = 0.5
    """Correlation of the two readings' noise."""
    faster: float = 0.1
    """Share of the latency that guideline 4 saves."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What the runs of a block say, each (studies, RUNS), NaN where a block has fewer."""

    scores: Floats
    losses: Floats
    scores_last: Floats
    losses_last: Floats
    latency: Floats
    macs: Floats


def evaluated(world: World, levels: Ints, interactions: Floats, rng: np.random.Generator) -> Runs:
    """Give what one block of each study measures.

    Guideline 3 moves only the reading "all", so its effect there is its difference. The
    cross-entropy follows the quality of a network, and its noise that of the score by .6.
    """
    studies, runs, _ = levels.shape
    of_context = rng.normal(world.effects, world.tau, size=(studies, 1, 4))
    signs = 2 * levels - 1
    pairs = np.stack([signs[..., a] * signs[..., b] for a, b in PAIRS], axis=-1)
    quality = 70 + rng.normal(0, 2, size=(studies, 1))
    last = quality + (levels * of_context)[..., (0, 1, 3)].sum(axis=-1)
    both = quality + (levels * of_context).sum(axis=-1)
    both = both + (pairs * interactions[:, None] / 2).sum(axis=-1)

    def noise() -> Floats:
        return world.seed_sd * rng.normal(size=(studies, runs))

    def loss(truth: Floats, of_score: Floats) -> Floats:
        return 1.5 - 0.03 * (truth - 70 + 0.6 * (0.6 * of_score + 0.8 * noise()))

    first, second = noise(), noise()
    second = world.rho * first + np.sqrt(1 - world.rho**2) * second
    pace = 1 + 0.03 * rng.normal(size=(studies, runs))
    return Runs(
        scores=both + first,
        losses=loss(both, first),
        scores_last=last + second,
        losses_last=loss(last, second),
        latency=5 * (1 - world.faster * levels[..., 3]) * pace,
        macs=1e6 * (1 + 0.01 * rng.uniform(-0.5, 0.5, size=(studies, runs))),
    )


def designed(varied: NDArray[np.bool_], block: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Give levels (studies, RUNS, 4) of one block of each study, and its number of runs.

    Studies that vary the same factors share one call of `block_levels`, but each draws the levels
    of its other factors; a study without any is over and runs nothing.
    """
    levels = np.zeros((len(varied), RUNS, 4), dtype=np.int64)
    runs = np.zeros(len(varied), dtype=np.int64)
    for pattern in np.unique(varied, axis=0):
        if pattern.any():
            same = np.flatnonzero((varied == pattern).all(axis=1))
            rows = block_levels(pattern, block, rng)
            drawn = rng.integers(0, 2, size=(len(same), 1, 4))
            levels[same, : len(rows)] = np.where(pattern, rows, drawn)
            runs[same] = len(rows)
    return levels, runs


def run_block(
    world: World,
    varied: NDArray[np.bool_],
    number: int,
    interactions: Floats,
    rng: np.random.Generator,
    frozen: Ints | None,
) -> Block:
    """Run one block of each study; `frozen` (studies, 4) is the wrong rule's level, -1 for free."""
    levels, runs = designed(varied, number, rng)
    if frozen is not None:
        levels = np.where((frozen < 0)[:, None], levels, frozen[:, None])
    found = evaluated(world, levels, interactions, rng)
    there = np.arange(RUNS) < runs[:, None]
    kept = {f.name: np.where(there, getattr(found, f.name), np.nan) for f in fields(Runs)}
    return Block(varied=varied, levels=levels, runs=Runs(**kept))


def contrasts_of(block: Block) -> Contrasts:
    """Form the contrasts of one block of each study, (studies, 1, 4)."""
    runs = {f.name: getattr(block.runs, f.name)[:, None] for f in fields(Runs)}
    return block_contrasts(block.levels[:, None], block.varied[:, None], **runs)


def joined(parts: list[Contrasts]) -> Contrasts:
    """Put blocks one after another."""
    return Contrasts(
        **{
            f.name: np.concatenate([getattr(part, f.name) for part in parts], axis=1)
            for f in fields(Contrasts)
        }
    )


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of each study: what was asked and what came."""

    varied: NDArray[np.bool_]
    levels: Ints
    runs: Runs

    def result(self, study: int, block: int) -> BlockResult | None:
        """Give the block of one study as a driver would hand it in; None after the study's end."""
        there = ~np.isnan(self.runs.scores[study])
        if not there.any():
            return None
        values = {f.name: getattr(self.runs, f.name)[study][there] for f in fields(Runs)}
        return BlockResult(
            block=block,
            levels=self.levels[study][there],
            varied=tuple(self.varied[study].tolist()),
            latency_ms=values.pop("latency"),
            **values,
        )


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Studies that ran to their end."""

    world: World
    protocol: Protocol
    decision: Decision
    scores: Floats
    """Contrasts of the score, (studies, blocks, 4)."""
    trainings: float
    """Mean number of a study."""
    blocks: list[Block]
    """Empty where they were not to be kept."""

    def said(self, *codes: int) -> NDArray[np.bool_]:
        """Say, (studies, 4), which guidelines got one of the codes."""
        return np.isin(self.decision.code, codes)

    def power(self, guideline: int = 0) -> float:
        """Give the share of studies that support a guideline."""
        return float(self.said(SUPPORTS)[:, guideline].mean())

    def false_claims(self) -> float:
        """Give the share of studies with at least one false verdict.

        Of guidelines 1 to 3 without effect both directions are false; of 4 support, where it
        costs its margin or more or saves no time.
        """
        effects = np.array(self.world.effects)
        wrong = self.said(SUPPORTS, CONTRADICTS) & (effects == 0)
        claim = effects[3] > -self.protocol.margin and self.world.faster > 0
        wrong[:, 3] = self.said(CONTRADICTS if claim else SUPPORTS)[:, 3]
        return float(wrong.any(axis=1).mean())


def simulate(
    world: World,
    protocol: Protocol,
    *,
    studies: int = 2000,
    seed: int = 0,
    freeze: bool = False,
    keep: bool = False,
    ends: int | None = None,
) -> Simulated:
    """Run studies under a protocol from the first block to the end of each.

    Args:
        world: What is true.
        protocol: What is judged.
        studies: How many.
        seed: Of everything that is drawn.
        freeze: The wrong rule: a decided factor keeps the level that looked better.
        keep: Keep the runs of every block.
        ends: Blocks after which the studies end early.
    """
    rng = np.random.default_rng(seed)
    testable = np.ones((studies, 4), dtype=bool)
    interactions = world.interactions * rng.normal(size=(studies, len(PAIRS)))
    varied, frozen, trainings = testable, None, 0.0
    blocks: list[Block] = []
    parts: list[Contrasts] = []
    for number in range(ends or protocol.blocks):
        block = run_block(world, varied, number, interactions, rng, frozen)
        blocks += [block] if keep else []
        trainings += (~np.isnan(block.runs.scores)).sum() / studies
        parts.append(contrasts_of(block))
        if protocol.rule != "fixed" and number + 1 in protocol.looks()[:-1]:
            decision = decide(protocol, joined(parts), testable)
            varied = decision.at == 0
            if freeze:
                better = (decision.found.score.mean > 0).astype(np.int64)
                frozen = np.where(varied, -1, better)
    contrasts = joined(parts)
    return Simulated(
        world=world,
        protocol=protocol,
        decision=decide(protocol, contrasts, testable, ended=ends is not None),
        scores=contrasts.score,
        trainings=trainings,
        blocks=blocks,
    )
