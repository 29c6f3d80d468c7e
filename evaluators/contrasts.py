"""Contrasts of matched blocks and their tests, over any leading axes.

The unit is the context: each block gives one contrast per guideline, and every statistic runs
over the blocks of one study. Arrays are (..., blocks, 4), the last axis guidelines 1 to 4; NaN
marks a block that says nothing about a guideline. One study has no leading axis, the simulations
that prove the error rates have thousands.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]

G3, G4 = 2, 3
"""Places of the two guidelines that are not plain superiority."""

CONFIDENCE = 0.95
DIGITS = 9
"""Contrasts are rounded to so many decimals: sums of equal scores in another order then differ by
exactly 0, and a factor without any effect has a spread of exactly 0."""


def means_by_level(values: Floats, levels: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Average the runs of a block at level 1 and at level 0 of each factor.

    Args:
        values: (..., runs); NaN marks a run that is not there.
        levels: (..., runs, 4) of 0 and 1.

    Returns:
        Two arrays (..., 4), NaN where no run has the level.
    """
    there = ~np.isnan(values)
    rows = np.stack([there, np.where(there, values, 0.0)], axis=-2)
    (count, total) = np.moveaxis(rows @ np.ones_like(levels, dtype=np.float64), -2, 0)
    (count_1, total_1) = np.moveaxis(rows @ levels.astype(np.float64), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total_1 / count_1, (total - total_1) / (count - count_1)


def contrast(values: Floats, levels: NDArray[np.int64]) -> Floats:
    """Give mean at level 1 minus mean at level 0, (..., 4), in the unit of the values."""
    one, zero = means_by_level(values, levels)
    return np.round(one - zero, DIGITS)


def relative_change(values: Floats, levels: NDArray[np.int64]) -> Floats:
    """Give mean at level 1 over mean at level 0, minus 1, (..., 4)."""
    one, zero = means_by_level(values, levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.round(one / zero - 1, DIGITS)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contrasts:
    """What the blocks of a study measured, each (..., blocks, 4)."""

    score: Floats
    """Points; of guideline 3 the contrast by reading "all" minus the contrast by "last"."""
    loss: Floats
    """Nats, formed as the score."""
    latency: Floats
    """Relative change."""
    macs: Floats
    """Relative change."""

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return int(self.score.shape[-2])

    def first(self, blocks: int) -> Contrasts:
        """Give the contrasts of the first blocks only."""
        return Contrasts(**{f.name: getattr(self, f.name)[..., :blocks, :] for f in fields(self)})

    def until(self, stop: NDArray[np.int64]) -> Contrasts:
        """Leave out what each guideline (..., 4) measured after its first `stop` blocks."""
        kept = np.arange(self.blocks)[:, None] < stop[..., None, :]
        return Contrasts(
            **{f.name: np.where(kept, getattr(self, f.name), np.nan) for f in fields(self)}
        )


def block_contrasts(
    levels: NDArray[np.int64],
    varied: NDArray[np.bool_],
    *,
    scores: Floats,
    losses: Floats,
    scores_last: Floats,
    losses_last: Floats,
    latency: Floats,
    macs: Floats,
) -> Contrasts:
    """Form the contrasts of blocks from their runs.

    Args:
        levels: (..., runs, 4) of 0 and 1.
        varied: (..., 4); a factor that is not varied in a block has no contrast there.
        scores: (..., runs), NaN where a block has fewer runs than the widest; the others alike.
        losses: Cross-entropies, nats.
        scores_last: Of the reading "last"; all NaN where there is none.
        losses_last: Of the reading "last".
        latency: Any unit.
        macs: Any unit.
    """

    def read(values: Floats, last: Floats) -> Floats:
        both = contrast(values, levels)
        both[..., G3] = np.round(both[..., G3] - contrast(last, levels)[..., G3], DIGITS)
        return np.where(varied, both, np.nan)

    return Contrasts(
        score=read(scores, scores_last),
        loss=read(losses, losses_last),
        latency=np.where(varied, relative_change(latency, levels), np.nan),
        macs=np.where(varied, relative_change(macs, levels), np.nan),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Estimate:
    """Mean of contrasts with its t interval; every array is (..., 4)."""

    blocks: NDArray[np.int64]
    mean: Floats
    """NaN without a block."""
    sd: Floats
    """Of the contrasts, n - 1 in the denominator; NaN below two blocks."""
    low: Floats
    high: Floats

    def of(self, guideline: int) -> Estimate:
        """Give the estimate of one guideline, each array (...)."""
        return Estimate(**{f.name: getattr(self, f.name)[..., guideline] for f in fields(self)})

    @property
    def error(self) -> Floats:
        """Standard error of the mean."""
        return self.sd / np.sqrt(np.maximum(self.blocks, 1))

    def t(self, null: float = 0.0) -> Floats:
        """Give the t statistic against a null value; without spread it is 0 or infinite."""
        away = self.mean - null
        with np.errstate(invalid="ignore", divide="ignore"):
            edge = np.where(away == 0, 0.0, np.copysign(np.inf, away))
            return np.where(self.error == 0, edge, away / self.error)

    def p_two_sided(self) -> Floats:
        """Give the p of a mean other than 0."""
        return 2 * self._tail(-np.abs(self.t()))

    def p_above(self, null: float) -> Floats:
        """Give the one-sided p of a mean above the null value."""
        return self._tail(-self.t(null))

    def p_below(self, null: float) -> Floats:
        """Give the one-sided p of a mean below the null value."""
        return self._tail(self.t(null))

    def _tail(self, t: Floats) -> Floats:
        return np.asarray(stdtr(np.maximum(self.blocks - 1, 1), t), dtype=np.float64)


def estimate(contrasts: Floats) -> Estimate:
    """Average contrasts (..., blocks, 4) over the blocks that have one."""
    there = ~np.isnan(contrasts)
    blocks = np.einsum("...bg->...g", there, dtype=np.int64)
    degrees = np.maximum(np.arange(contrasts.shape[-2] + 1) - 1, 1)
    critical = stdtrit(degrees, (1 + CONFIDENCE) / 2)[blocks]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.einsum("...bg->...g", np.where(there, contrasts, 0.0)) / blocks
        away = np.where(there, contrasts - mean[..., None, :], 0.0)
        sd = np.sqrt(np.einsum("...bg,...bg->...g", away, away) / (blocks - 1))
        sd = np.where(blocks > 1, np.where(sd < 10.0**-DIGITS, 0.0, sd), np.nan)
        half = critical * sd / np.sqrt(blocks)
    return Estimate(blocks=blocks, mean=mean, sd=sd, low=mean - half, high=mean + half)


def holm(p: Floats) -> Floats:
    """Adjust p-values (..., m) by Holm's step-down rule; NaN stands outside the family.

    Source: Holm (1979). The i-th smallest of m is multiplied by m - i + 1, what grows stays.
    """
    order = np.argsort(p, axis=-1)  # NaN last
    steps = (~np.isnan(p)).sum(axis=-1, keepdims=True) - np.arange(p.shape[-1])
    sorted_p = np.take_along_axis(p, order, axis=-1) * np.maximum(steps, 1)
    adjusted = np.minimum(np.maximum.accumulate(sorted_p, axis=-1), 1.0)
    back = np.empty_like(p)
    np.put_along_axis(back, order, adjusted, axis=-1)
    return back


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Assessment:
    """The four hypotheses tested on the same blocks; every array is (..., 4)."""

    score: Estimate
    up: NDArray[np.int64]
    """Blocks whose contrast of the score is above 0."""
    loss: Estimate
    latency: Estimate
    p: Floats
    """Two-sided; of guideline 4 in support one-sided. NaN below two blocks."""
    direction: NDArray[np.int64]
    """1 as the guideline says, -1 against it: what a small p would show."""
    agrees: NDArray[np.bool_]
    """Whether the cross-entropy goes the same way."""
    equivalent: NDArray[np.bool_]
    """Whether the 95 % interval lies within +-practical (and guideline 4 is not faster)."""


def assess(contrasts: Contrasts, *, margin: float, practical: float) -> Assessment:
    """Test guidelines 1 to 3 for an effect other than 0, guideline 4 for "no worse and faster".

    Guideline 4 holds where the effect is above -margin and the latency lower: an
    intersection-union test, whose p is the larger of both one-sided ones (Berger 1982). It is
    contradicted where the effect is below -margin, tested two-sided. Claim and contradiction
    exclude each other, so at most one of the two words is an error whatever the truth, and both
    keep the level.

    The cross-entropy agrees where its contrast has the other sign (less is better). Support of
    guideline 4 claims no gain, so there it disagrees only where the score says "not worse" and
    the 95 % interval of the cross-entropy says worse.
    """
    score, loss = estimate(contrasts.score), estimate(contrasts.loss)
    latency = estimate(contrasts.latency)
    p, direction = score.p_two_sided(), np.where(score.mean < 0, -1, 1)
    agrees = score.mean * loss.mean < 0
    equivalent = (score.low > -practical) & (score.high < practical)

    costs, paces = score.of(G4), latency.of(G4)
    supports = np.maximum(costs.p_above(-margin), paces.p_below(0.0))
    contradicts = np.minimum(2 * costs.p_below(-margin), 1.0)
    p[..., G4] = np.fmin(supports, contradicts)
    direction[..., G4] = np.where(contradicts < supports, -1, 1)
    worse = (score.mean[..., G4] >= 0) & (loss.low[..., G4] > 0)
    agrees[..., G4] = np.where(contradicts < supports, loss.mean[..., G4] > 0, ~worse)
    equivalent[..., G4] &= ~(latency.high[..., G4] < 0)
    return Assessment(
        score=score,
        up=(contrasts.score > 0).sum(axis=-2),
        loss=loss,
        latency=latency,
        p=np.where(score.blocks > 1, p, np.nan),
        direction=direction,
        agrees=agrees,
        equivalent=equivalent,
    )
