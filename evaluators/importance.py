"""Which axes of a space matter for the score: two estimators, and how far to believe them.

*Permutation* (Breiman 2001): a random forest learns the score from the axes; an axis matters by
how much worse the forest predicts networks it has not seen once that axis is shuffled among them.
*PED-ANOVA* (Watanabe, Bansal and Hutter, arXiv 2304.10255; optuna's evaluator): no forest; an axis
matters by how far the best quarter of the networks has other values of it than all of them.

Both tell what the networks of this run show, of axes as this run drew them: an axis that was held
has no importance, and axes that go together share theirs. Importance has no direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import ArrayLike, NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, create_trial
from sklearn.ensemble import RandomForestRegressor

from search_space.features import Feature

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

LEAST_NETWORKS = 20
"""Fewer leave four networks to check a forest on."""

MOST_NETWORKS = 400
"""Beyond them a seeded choice is used: both estimators then stay within some seconds."""

LEAST_R2 = 0.2
"""Held-out R2 from which the importances may be read.

In 90 simulated runs of 170 networks in 12 axes of the shipped space, four of which mattered, with
noise of .5 to 4 times their effect: where R2 was 0.2 or more, the axis that permutation put first
was one of the two that mattered most in 45 of 45 runs (PED-ANOVA: 42); where it was less than 0.1,
in 27 of 35 (PED-ANOVA: 18), and hardly more than half of the order behind it was right.
"""

FOLDS, ROUNDS = 5, 3
SHUFFLES = 5
TREES = 50
RESAMPLES = 20
BEST = 0.25
"""Share of the networks that PED-ANOVA sets against all: some 40 of 170, enough to see shares."""

LEVELS = 8
"""Values of an axis of numbers that PED-ANOVA tells apart."""

SPREAD = 1.645
"""Deviations to each side of an importance: 90 % of a normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """An importance as a share of that of all axes, 0..1."""

    value: float
    low: float
    """With `high`: 1.645 standard deviations between folds, or between resamples, to each side."""
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """What each axis matters, by two estimators."""

    names: tuple[str, ...]
    """Axes, the most important by permutation first."""
    permutation: tuple[Share, ...]
    """Of each axis; the spread is that between held-out folds, of one fold rather than of their
    mean, for folds share most of their networks."""
    ped_anova: tuple[Share, ...]
    """Of each axis; the spread is over bootstrap resamples of the networks."""
    r2: float
    """Share of the variance of the score that the forest predicts on held-out networks; below 0
    where their mean would predict better."""
    r2_low: float
    """With `r2_high`: least and greatest of the rounds of cross-validation."""
    r2_high: float
    networks: int
    """How many were given."""
    used: int
    """How many were looked at."""

    @property
    def readable(self) -> bool:
        """Whether the forest has learnt enough for the importances to mean anything."""
        return self.r2 >= LEAST_R2


def importance(axes: Sequence[Feature], scores: ArrayLike, *, seed: int = 0) -> Importance | str:
    """Estimate which axes matter for the score.

    Args:
        axes: in which the N networks differ.
        scores: (N,) more is better.
        seed: of the choice of networks, the folds, the forests, the shuffles and the resamples.

    Returns:
        The importances, or in words why there are none.

    Raises:
        ValueError: scores that are not finite, or of another number than the networks.
    """
    score = np.asarray(scores, dtype=float)
    if not np.isfinite(score).all() or any(len(axis.codes) != len(score) for axis in axes):
        raise ValueError("scores must be finite, one for each network")
    if len(score) < LEAST_NETWORKS:
        return f"{len(score)} networks are too few to tell axes apart; {LEAST_NETWORKS} are needed"
    if not np.ptp(score):
        return "all networks have the same score"
    if len(axes) < 2:
        return "the networks differ in one axis only" if axes else "the networks differ in no axis"
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(score))[:MOST_NETWORKS])
    codes = np.array([axis.codes for axis in axes]).T[chosen]
    score = score[chosen]
    if not np.ptp(score):
        return "all networks have the same score"
    by_fold, r2 = _permutation(_columns(axes, codes), score, rng)
    permutation = _shares(np.maximum(by_fold.mean(axis=0), 0), by_fold)
    whole, *resampled = _ped_anova(axes, codes, score, rng)
    ped_anova = _shares(whole, np.array(resampled))
    order = sorted(range(len(axes)), key=lambda i: (-permutation[i].value, i))
    return Importance(
        names=tuple(axes[i].name for i in order),
        permutation=tuple(permutation[i] for i in order),
        ped_anova=tuple(ped_anova[i] for i in order),
        r2=float(r2.mean()),
        r2_low=float(r2.min()),
        r2_high=float(r2.max()),
        networks=np.size(scores),
        used=len(score),
    )


def _columns(axes: Sequence[Feature], codes: NDArray[np.int_]) -> list[Floats]:
    """Give the columns of each axis: ranks of numbers, 0 and 1 for each text."""
    return [
        column[:, None].astype(float)
        if axis.ordered or len(axis.levels) == 2
        else (column[:, None] == np.arange(len(axis.levels))).astype(float)
        for axis, column in zip(axes, codes.T, strict=True)
    ]


def _permutation(
    columns: Sequence[Floats], score: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Give (folds, axes) losses of R2 on held-out networks, and the R2 of each round."""
    inputs = np.concatenate(columns, axis=1)
    ends = np.cumsum([column.shape[1] for column in columns])
    starts = ends - [column.shape[1] for column in columns]
    variance, losses, r2 = score.var(), [], []
    for _ in range(ROUNDS):
        predicted = np.empty_like(score)
        for held in np.array_split(rng.permutation(len(score)), FOLDS):
            rest = np.delete(np.arange(len(score)), held)
            forest = RandomForestRegressor(
                TREES,
                min_samples_leaf=2,
                max_features=0.5,
                random_state=int(rng.integers(2**31)),
                n_jobs=1,
            ).fit(inputs[rest], score[rest])
            shuffled = np.tile(inputs[held], (len(columns), SHUFFLES, 1, 1))
            for axis, (start, end) in enumerate(zip(starts, ends, strict=True)):
                for copy in shuffled[axis]:
                    copy[:, start:end] = rng.permutation(copy[:, start:end])
            # One call for all copies: a call costs more than a thousand networks.
            asked = np.concatenate([inputs[held], shuffled.reshape(-1, inputs.shape[1])])
            answers = forest.predict(asked)
            predicted[held] = answers[: len(held)]
            errors = (answers.reshape(-1, len(held)) - score[held]) ** 2
            copies = errors[1:].reshape(len(columns), -1).mean(axis=1)
            losses.append((copies - errors[0].mean()) / variance)
        r2.append(1 - np.mean((predicted - score) ** 2) / variance)
    return np.array(losses), np.array(r2)


def _ped_anova(
    axes: Sequence[Feature], codes: NDArray[np.int_], score: Floats, rng: np.random.Generator
) -> Floats:
    """Give (1 + resamples, axes) importances: of the networks, then of each resample of them."""
    columns = zip(axes, codes.T, strict=True)
    codes = np.array([_coarse(column) if axis.ordered else column for axis, column in columns]).T
    kinds: dict[str, BaseDistribution] = {
        axis.name: IntDistribution(0, int(column.max()))
        if axis.ordered
        else CategoricalDistribution(range(int(column.max()) + 1))
        for axis, column in zip(axes, codes.T, strict=True)
    }
    trials = [
        create_trial(
            value=float(value),
            params=dict(zip(kinds, map(int, row), strict=True)),
            distributions=kinds,
        )
        for row, value in zip(codes, score, strict=True)
    ]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    everyone = np.arange(len(score))
    samples = [everyone, *(rng.choice(everyone, len(everyone)) for _ in range(RESAMPLES))]
    return np.array([_ped_anova_once([trials[i] for i in sample]) for sample in samples])


def _coarse(codes: NDArray[np.int_]) -> NDArray[np.int_]:
    """Join values of an axis that has many into groups of networks of about equal size.

    With a few networks a value the densities differ by luck, and the axis would seem to matter.
    """
    distinct, place = np.unique(codes, return_inverse=True)
    if len(distinct) <= LEVELS:
        return place
    edges = np.unique(np.quantile(codes, np.linspace(0, 1, LEVELS + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, codes, side="left"), return_inverse=True)[1]


def _ped_anova_once(trials: Sequence[FrozenTrial]) -> list[float]:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    told = PedAnovaImportanceEvaluator(target_quantile=BEST).evaluate(study)
    return [float(told[name]) for name in trials[0].params]


def _shares(values: Floats, draws: Floats) -> list[Share]:
    """Give (axes,) values and (draws, axes) of them as shares of the sum of the values."""
    total = values.sum() or 1.0
    found = np.clip(values / total, 0, 1)
    spread = SPREAD * draws.std(axis=0, ddof=1) / total
    low, high = np.clip(found - spread, 0, 1), np.clip(found + spread, 0, 1)
    return [
        Share(value=float(v), low=float(a), high=float(b))
        for v, a, b in zip(found, low, high, strict=True)
    ]
