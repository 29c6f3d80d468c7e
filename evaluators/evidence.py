"""Which guidelines hold on a task: the design of a block, the protocol, the verdicts.

A block is one context (a base network) built at several combinations of the four factors, matched
in multiply-adds. Its contrast for a guideline is the mean of its runs at level 1 (as the guideline
says) minus the mean at level 0, in points (100 x share). Contexts are the unit: the many runs of a
block are one observation. Four hypotheses are registered before the first training; those that the
space and the task can test form the family whose error rate is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from evaluators.contrasts import (
    CONFIDENCE,
    G3,
    G4,
    Assessment,
    Contrasts,
    Estimate,
    Floats,
    block_contrasts,
    estimate,
)
from evaluators.decisions import (
    CONTRADICTS,
    DISAGREES,
    EQUIVALENT,
    OPEN,
    SUPPORTS,
    Decision,
    adjusted,
    decide,
)
from evaluators.power import detectable_effect
from evaluators.protocol import GUIDELINES, BlockResult, Protocol, block_levels

__all__ = [
    "GUIDELINES",
    "RECHECK_BLOCKS",
    "BlockResult",
    "Protocol",
    "Sanity",
    "Verdict",
    "block_levels",
    "decided",
    "judge",
    "sanity",
]

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
UNDECIDED = "undecided"
NOT_TESTABLE = "not testable"
WORDS = {
    SUPPORTS: SUPPORTED,
    CONTRADICTS: CONTRADICTED,
    EQUIVALENT: "no practical effect",
    OPEN: UNDECIDED,
    DISAGREES: UNDECIDED,
}

RECHECK_BLOCKS = 4
"""Blocks at four times the training length that must agree before "contradicted" is final."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a study says about one guideline, at the training length of its runs.

    Intervals hold for a number of blocks fixed beforehand. Where a sequential rule stopped early
    (`decided_at` below the planned blocks) effect and interval lean away from 0, because a lucky
    start stops: simulated at 24 blocks, by .17 points where the truth is .5 and by .04 where it is
    1.0. Over all verdicts, late and open ones too, it is less than .03.
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


def decided(protocol: Protocol, results: Sequence[BlockResult]) -> dict[str, int]:
    """Give the guidelines that a sequential rule has decided and at how many blocks.

    Only the planned looks reached so far count; the fixed rule decides nothing before its end.
    """
    done, contrasts, reasons = examined(protocol, results)
    if not done:
        return {}
    at = decide(protocol, contrasts, np.array([not reason for reason in reasons])).at
    return {name: int(at[g]) for g, name in enumerate(GUIDELINES) if at[g]}


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
        ended: That no further block will come. A study that ended early, for a reason that has
            nothing to do with its scores, is judged at what there is, and says so.
    """
    done, contrasts, reasons = examined(protocol, results)
    testable = np.array([not reason for reason in reasons])
    decision = decide(protocol, contrasts, testable, ended=ended)
    p_holm = adjusted(protocol, decision)
    macs = estimate(contrasts.until(decision.stop).macs).mean
    verdicts = []
    for g, reason in enumerate(reasons):
        if reason:
            verdicts.append(Verdict(guideline=GUIDELINES[g], word=NOT_TESTABLE, reason=reason))
            continue
        verdict = Verdict(
            guideline=GUIDELINES[g],
            word=WORDS[int(decision.code[g])],
            p=finite(decision.found.p[g]) if decision.tested[g] else None,
            p_holm=finite(p_holm[g]),
            macs_change=finite(macs[g]),
            decided_at=int(decision.at[g]) or None,
            **numbers(decision.found, g, protocol.alpha / len(GUIDELINES)),
        )
        verdict = replace(verdict, reason=why(protocol, decision, verdict, len(done), ended=ended))
        verdicts.append(after_recheck(protocol, verdict, g, rechecked))
    return tuple(verdicts)


def examined(
    protocol: Protocol, results: Sequence[BlockResult]
) -> tuple[list[BlockResult], Contrasts, list[str]]:
    """Give the blocks that count, in order, their contrasts, and why a guideline is untestable."""
    done = sorted(results, key=lambda result: result.block)[: protocol.blocks]
    contrasts = gather(done)
    return done, contrasts, [untestable(protocol, done, contrasts, g) for g in range(4)]


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
        found = "one context: the space has one base network"
        if not protocol.contexts:
            found = "no context: no network meets the constraints with all its twins of equal MACs"
        return f"{found}, and an effect needs several"
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
        counted = "1 finished block" if blocks == 1 else f"{blocks} finished blocks"
        return f"{counted}: an interval over contexts needs at least 2"
    if guideline == G4 and (~np.isnan(contrasts.latency[:, guideline])).sum() < 2:
        return "no latency was measured, and it claims a lower one"
    return ""


def numbers(found: Assessment, g: int, alpha: float) -> dict[str, Any]:
    """Give what a verdict says about one guideline whatever the rule decides."""
    score = found.score
    blocks, mean, sd = int(score.blocks[g]), float(score.mean[g]), float(score.sd[g])
    ahead = float(stats.t.ppf((1 + CONFIDENCE) / 2, blocks - 1)) * sd * np.sqrt(1 + 1 / blocks)
    # Support of guideline 4 is one-sided: how far above -margin a mean of 0 must lie.
    sides = 1 if g == G4 else 2
    return {
        "blocks": blocks,
        "up": int(found.up[g]),
        "effect": mean,
        "low": float(score.low[g]),
        "high": float(score.high[g]),
        "new_low": float(mean - ahead),
        "new_high": float(mean + ahead),
        **known("loss", found.loss, g),
        "detectable": sd * detectable_effect(blocks, alpha, sides=sides),
        "between_sd": sd,
        **known("latency", found.latency, g, mean="latency_change"),
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


def why(protocol: Protocol, decision: Decision, verdict: Verdict, done: int, *, ended: bool) -> str:
    """Give the reason of a verdict: what it waits for, what it could not show, that it ended."""
    planned, looks = protocol.blocks, protocol.looks()
    g = GUIDELINES.index(verdict.guideline)
    open_still = decision.code[g] in (OPEN, DISAGREES)
    said = []
    if ended and done < planned and verdict.decided_at not in looks:
        said.append(f"the study ended after {done} of {planned} planned blocks")
    elif open_still and done < planned:
        ahead = next(look for look in looks if look > done)
        said.append(f"{done} of {planned} planned blocks: the rule looks next after {ahead}")
    if decision.code[g] == DISAGREES:
        said.append("the score is significant, but the cross-entropy does not agree")
    elif open_still and (decision.tested[g] or ended):
        if g == G4 and (verdict.latency_high or 0.0) >= 0:
            said.append("its latency is not shown to be lower")
        shows = "a margin of" if g == G4 else "an effect of"
        said.append(
            f"{verdict.blocks} blocks like these can show {shows} {verdict.detectable:.2f} points"
        )
    return "; ".join(said)


def after_recheck(
    protocol: Protocol, verdict: Verdict, g: int, rechecked: Sequence[BlockResult]
) -> Verdict:
    """Make "contradicted" final or take it back, by the mean contrast at four times the length.

    It must lie below 0, that of guideline 4 below its margin.
    """
    if verdict.word != CONTRADICTED:
        return verdict
    longer = estimate(gather(rechecked).score)
    if longer.blocks[g] < min(RECHECK_BLOCKS, verdict.blocks):
        return replace(verdict, provisional=True)
    if longer.mean[g] < (-protocol.margin if g == G4 else 0.0):
        return verdict
    said = "is within its margin" if g == G4 else "reverses"
    reasons = [verdict.reason, f"{said} at four times the length"]
    return replace(verdict, word=UNDECIDED, reason="; ".join(filter(None, reasons)))


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
