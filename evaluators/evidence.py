"""Which guidelines hold on a task: the design of a block, the protocol, the verdicts.

A block is one context (a base network) built at several combinations of the four factors, matched
in multiply-adds. Its contrast for a guideline is the mean of its runs at level 1 (as the guideline
says) minus the mean at level 0, in points (100 x share). Contexts are the unit: the many runs of a
block are one observation. Four hypotheses are registered before the first training; those that the
space and the task can test form the family whose error rate is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evaluators.contrasts import (
    CONTRADICTS,
    DISAGREES,
    EQUIVALENT,
    G3,
    G4,
    OPEN,
    SUPPORTS,
    Assessment,
    Contrasts,
    Estimate,
    Floats,
    assess,
    block_contrasts,
    estimate,
    holm,
    settle,
)
from evaluators.power import detectable_effect

GUIDELINES = ("g1", "g2", "g3", "g4")

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
NO_EFFECT = "no practical effect"
UNDECIDED = "undecided"
NOT_TESTABLE = "not testable"

RECHECK_BLOCKS = 4
"""Blocks at four times the training length that must agree before "contradicted" is final."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a study says about one guideline, at the training length of its runs.

    Intervals hold for a number of blocks fixed beforehand. Where a sequential rule stopped early
    (`decided_at` below the planned blocks) effect and interval lean away from 0: simulated, by
    0.02 to 0.06 points.
    """

    guideline: str
    word: str
    """supported, contradicted, no practical effect, undecided, not testable."""
    provisional: bool = False
    """Contradicted, and no recheck at four times the length agreed yet."""
    reason: str = ""
    """Why not testable or undecided; that the study ended early."""
    blocks: int = 0
    """Contexts it rests on."""
    up: int = 0
    """Of them with a contrast above 0."""
    effect: float | None = None
    """Points; of guideline 3 the effect by reading "all" minus the effect by "last"."""
    low: float | None = None
    """95 % t interval over contexts."""
    high: float | None = None
    new_low: float | None = None
    """95 % prediction interval for the contrast that the block of a new context would show."""
    new_high: float | None = None
    loss: float | None = None
    """Nats, the same contrast of the cross-entropy: less is better."""
    loss_low: float | None = None
    loss_high: float | None = None
    p: float | None = None
    """Of the direction that the data take (see contrasts.assess); None between looks."""
    p_holm: float | None = None
    """Adjusted for the family, and for the looks under a sequential rule."""
    detectable: float | None = None
    """Smallest effect seen with power .8 at alpha / 4 with so many blocks of this s.d.; of
    guideline 4 the smallest margin that could be shown were the effect 0."""
    between_sd: float | None = None
    """S.d. of the contrasts."""
    macs_change: float | None = None
    """Relative, level 1 against level 0."""
    latency_change: float | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    decided_at: int | None = None
    """Blocks at which a sequential rule decided."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sanity:
    """Whether the task rewards large kernels at all: with minus without, points."""

    effect: float | None
    low: float | None
    """95 % interval by Welch's t."""
    high: float | None
    word: str
    """rewarded, punished, not shown."""


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


def decided(protocol: Protocol, results: Sequence[BlockResult]) -> dict[str, int]:
    """Give the guidelines that a sequential rule has decided and at how many blocks.

    Only the planned looks reached so far count; the fixed rule decides nothing before its end.
    """
    if protocol.rule == "fixed":
        return {}
    raise NotImplementedError


def judge(
    protocol: Protocol,
    results: Sequence[BlockResult],
    rechecked: Sequence[BlockResult] = (),
    *,
    ended: bool = False,
) -> tuple[Verdict, ...]:
    """Give the verdict on each guideline, always four, in order.

    Args:
        protocol: As registered before the first training.
        results: The finished blocks in any order; those beyond the planned number do not count.
        rechecked: The same contexts at four times the training length.
        ended: That no further block will come. Under the fixed rule a study that ended early,
            for a reason that has nothing to do with its scores, is judged at what there is.
    """
    done = sorted(results, key=lambda result: result.block)[: protocol.blocks]
    contrasts = gather(done)
    reasons = [untestable(protocol, done, contrasts, g) for g in range(len(GUIDELINES))]
    found = assess(contrasts, margin=protocol.margin, practical=protocol.practical)
    looked = bool(done) and (ended or len(done) == protocol.blocks)
    p_holm = holm(np.where([not reason for reason in reasons], found.p, np.nan))
    codes = settle(found, p_holm <= protocol.alpha)
    verdicts = []
    for g, reason in enumerate(reasons):
        if reason:
            verdicts.append(Verdict(guideline=GUIDELINES[g], word=NOT_TESTABLE, reason=reason))
            continue
        numbers = estimates(protocol, contrasts, found, g)
        word, said = UNDECIDED, ""
        if not looked:
            said = (
                f"{len(done)} of {protocol.blocks} planned blocks: "
                "the fixed rule looks once, after the last"
            )
        else:
            numbers |= {"p": float(found.p[g]), "p_holm": float(p_holm[g])}
            word, said = worded(int(codes[g]), numbers)
            if len(done) < protocol.blocks:
                early = f"the study ended after {len(done)} of {protocol.blocks} planned blocks"
                said = f"{early}; {said}" if said else early
        verdict = Verdict(guideline=GUIDELINES[g], word=word, reason=said, **numbers)
        verdicts.append(after_recheck(verdict, g, rechecked))
    return tuple(verdicts)


def gather(results: Sequence[BlockResult]) -> Contrasts:
    """Form the contrasts of finished blocks, each (blocks, 4)."""
    runs = max((len(result.scores) for result in results), default=0)

    def rows(name: str) -> Floats:
        table = np.full((len(results), runs), np.nan)
        for row, result in zip(table, results, strict=True):
            if (values := getattr(result, name)) is not None:
                row[: len(values)] = values
        return table

    levels = np.zeros((len(results), runs, len(GUIDELINES)), dtype=np.int64)
    for block, result in zip(levels, results, strict=True):
        block[: len(result.levels)] = result.levels
    return block_contrasts(
        levels,
        np.array([result.varied for result in results], dtype=bool).reshape(-1, len(GUIDELINES)),
        scores=rows("scores"),
        losses=rows("losses"),
        scores_last=rows("scores_last"),
        losses_last=rows("losses_last"),
        latency=rows("latency_ms"),
        macs=rows("macs"),
    )


def untestable(
    protocol: Protocol, results: Sequence[BlockResult], contrasts: Contrasts, guideline: int
) -> str:
    """Say why a guideline cannot be tested here; empty where it can."""
    if reason := protocol.missing.get(GUIDELINES[guideline]):
        return reason
    if protocol.contexts < 2:
        return "one context: the space has one base network, and an effect needs several"
    readings = [[result.scores for result in results]]
    if guideline == G3:
        readings += [[r.scores_last for r in results if r.scores_last is not None]]
        if len(readings[1]) < len(results):
            return "needs a dense task: its effect is a difference between two readings"
    for reading in readings:
        scores = np.concatenate(reading) if reading else np.array([])
        if len(scores) > 1 and np.ptp(scores) == 0:
            return f"the metric is constant: every run has {protocol.metric} {scores[0]:.2f} %"
    blocks = int((~np.isnan(contrasts.score[:, guideline])).sum())
    if blocks < 2:
        return f"{blocks} finished blocks: an interval over contexts needs at least 2"
    if guideline == G4 and (~np.isnan(contrasts.latency[:, guideline])).sum() < 2:
        return "no latency was measured, and it claims a lower one"
    return ""


def estimates(
    protocol: Protocol, contrasts: Contrasts, found: Assessment, g: int
) -> dict[str, Any]:
    """Give the numbers of one guideline's verdict that hold whatever the rule decides."""
    score, loss, latency = found.score, found.loss, found.latency
    blocks = int(score.blocks[g])
    sd, mean = float(score.sd[g]), float(score.mean[g])
    ahead = stats.t.ppf(0.975, blocks - 1) * sd * np.sqrt(1 + 1 / blocks)
    # Support of guideline 4 is one-sided.
    sides = 1 if g == G4 else 2
    return {
        "blocks": blocks,
        "up": int((contrasts.score[:, g] > 0).sum()),
        "effect": mean,
        "low": float(score.low[g]),
        "high": float(score.high[g]),
        "new_low": mean - float(ahead),
        "new_high": mean + float(ahead),
        **known("loss", loss, g),
        "detectable": sd * detectable_effect(blocks, protocol.alpha / len(GUIDELINES), sides=sides),
        "between_sd": sd,
        **known("latency", latency, g, mean="latency_change"),
        "macs_change": finite(estimate(contrasts.macs).mean[g]),
    }


def known(name: str, found: Estimate, g: int, *, mean: str | None = None) -> dict[str, Any]:
    """Give mean and interval under the names of a verdict; None for what is not known."""
    return {
        mean or name: finite(found.mean[g]),
        f"{name}_low": finite(found.low[g]),
        f"{name}_high": finite(found.high[g]),
    }


def finite(value: float) -> float | None:
    """Give the number, or None where there is none."""
    return float(value) if np.isfinite(value) else None


def worded(code: int, numbers: Mapping[str, Any]) -> tuple[str, str]:
    """Give word and reason of a code of `settle`."""
    if code == DISAGREES:
        return UNDECIDED, "the score is significant, but the cross-entropy does not agree"
    if code == OPEN:
        seen = f"{numbers['blocks']} blocks like these can show {numbers['detectable']:.2f} points"
        return UNDECIDED, seen
    return {SUPPORTS: SUPPORTED, CONTRADICTS: CONTRADICTED, EQUIVALENT: NO_EFFECT}[code], ""


def after_recheck(verdict: Verdict, g: int, rechecked: Sequence[BlockResult]) -> Verdict:
    """Make "contradicted" final or take it back, by the sign at four times the length."""
    if verdict.word != CONTRADICTED:
        return verdict
    longer = estimate(gather(rechecked).score)
    if longer.blocks[g] < min(RECHECK_BLOCKS, verdict.blocks):
        return replace(verdict, provisional=True)
    if longer.mean[g] < 0:
        return verdict
    return replace(verdict, word=UNDECIDED, reason="reverses at four times the length")


def sanity(with_large: Sequence[float], without_large: Sequence[float]) -> Sanity:
    """Compare runs with large kernels in stages 2 and later with their twins of 3x3, in points.

    Welch's two-sided test at .05; "not shown" also where an arm has fewer than two runs.
    """
    if min(len(with_large), len(without_large)) < 2:
        return Sanity(effect=None, low=None, high=None, word="not shown")
    arms = [np.asarray(arm, dtype=np.float64) for arm in (with_large, without_large)]
    effect = float(arms[0].mean() - arms[1].mean())
    if all(np.ptp(arm) == 0 for arm in arms):
        low = high = effect
    else:
        interval = stats.ttest_ind(*arms, equal_var=False).confidence_interval(0.95)
        low, high = float(interval.low), float(interval.high)
    word = "rewarded" if low > 0 else "punished" if high < 0 else "not shown"
    return Sanity(effect=effect, low=low, high=high, word=word)
