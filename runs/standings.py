"""Where every network of a run stands, behind the noise of its trainings.

The noise floor comes from networks that were trained on several seeds, and from what the study's
blocks leave unexplained where these are few. Estimates are drawn towards what size and compliance
say, as far as noise makes it necessary; ranks and membership of the front get probabilities.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluators.agreement import agreement, seed_agreement
from evaluators.estimates import Noise, Shrunken, noise, seed_deviation, shrunken, standing
from evaluators.evidence import BlockResult
from runs.blocks import METRICS, block_results, blocks_of, chance_level, whole
from runs.confirmation import champion
from runs.history import History, Trial
from runs.plan import Plan
from runs.ranking import Objective, objectives_named, rank, trials_frame

ENOUGH_REPEATS = 8
"""Degrees of freedom between seeds of one network, from which the blocks' residual is not needed:
it holds interactions of the factors too."""
LEAST_FREEDOM = 3
"""Below it noise is not known, and nothing is estimated."""
LEAST_NETWORKS = 4
SCORES = ("s1", "s2", "s3", "s4")
GAIN = ("predicted_gain", "predicted_gain_low", "predicted_gain_high")
LEAST_BLOCKS = 4
LEAST_MOVE = 0.1
"""Blocks from which, and change of a compliance score from which, a gain is predicted."""
PRIOR_SD = 1.0
"""Points: prior deviation of a guideline's effect, towards which a measured one is shrunk."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Standings:
    """Networks of a run with what is known of their worth."""

    trials: list[Trial]
    """First complete training of each network."""
    scores: list[list[float]]
    """Points of all complete trainings of each network, the first first."""
    seed_sd: float
    freedom: int
    estimates: Shrunken

    @property
    def noise(self) -> Noise:
        """The noise floor."""
        return noise(self.seed_sd, self.freedom, self.estimates.between_sd)


def standings(plan: Plan, history: History) -> Standings | None:
    """Estimate every network of a run; None while the noise is not known."""
    metric = METRICS[plan.settings.task]
    networks: dict[str, list[Trial]] = {}
    for trial in sorted(history.done, key=lambda t: (t.repeat, t.number)):
        if trial.state == "complete":
            networks.setdefault(trial.id, []).append(trial)
    scores = [[100 * float(t.result[metric]) for t in found] for found in networks.values()]
    if len(scores) < LEAST_NETWORKS:
        return None
    fresh = list(fresh_scores(plan, history).values())
    deviation, freedom = seed_deviation(fresh, None)
    if freedom < ENOUGH_REPEATS:
        chance = chance_level(plan)
        left = residual(block_results(history, metric, chance, diverged=False))
        deviation, freedom = seed_deviation(fresh, left)
    if freedom < LEAST_FREEDOM or not np.ptp([score for found in scores for score in found]):
        return None
    first = [found[0] for found in networks.values()]
    return Standings(
        trials=first,
        scores=scores,
        seed_sd=deviation,
        freedom=freedom,
        estimates=shrunken(scores, covariates(first), deviation, freedom=freedom),
    )


def covariates(trials: Sequence[Trial]) -> Floats:
    """Give what is known of networks before any training, (N, columns): sizes and compliance."""
    rows = [
        [
            np.log(trial.result["macs"]),
            np.log(trial.result["params"]),
            trial.architecture.depth,
            *(trial.result.get(name) for name in SCORES),
        ]
        for trial in trials
    ]
    found = np.array(rows, dtype=float)
    unknown = np.isnan(found)
    # A score that does not apply says nothing, as the mean of those that do.
    means = np.nan_to_num(np.nansum(found, axis=0) / np.maximum(1, (~unknown).sum(axis=0)))
    return np.where(unknown, means, found)


def residual(results: Sequence[BlockResult]) -> tuple[float, int] | None:
    """Give the s.d. and degrees of freedom of what main effects leave unexplained inside blocks."""
    squares, freedom = 0.0, 0
    for result in results:
        factors = result.levels[:, [i for i, varies in enumerate(result.varied) if varies]]
        design = np.column_stack([np.ones(len(factors)), factors])
        fit, _, rows, _ = np.linalg.lstsq(design, result.scores, rcond=None)
        squares += float(np.sum((result.scores - design @ fit) ** 2))
        freedom += len(factors) - int(rows)
    return (float(np.sqrt(squares / freedom)), freedom) if freedom else None


def ranked(plan: Plan, history: History, *, chances: bool = False) -> pd.DataFrame:
    """Give the finished trials of a run, ranked by the estimates of their networks.

    Args:
        plan: of the run.
        history: of the run.
        chances: whether to say how sure ranks and front are too, which takes about a second.
    """
    objectives = objectives_named(plan.settings.objectives)
    frame = trials_frame(history.rows())
    known = standings(plan, history)
    if known is not None:
        told = columns(plan, known, objectives, chances=chances)
        frame = with_columns(frame, told)
    if chances:
        frame = with_columns(frame, gains(plan, history, frame))
        if frame["tied"].notna().any():
            # One without a place is level with nobody; and pandas reads flags without gaps as such.
            frame["tied"] = frame["tied"].fillna(value=False)
    return rank(frame, objectives, metric=METRICS[plan.settings.task])


def with_columns(frame: pd.DataFrame, told: pd.DataFrame) -> pd.DataFrame:
    """Fill columns of a frame of trials from a frame that is indexed by trial."""
    found = frame.copy()
    for name in told:
        values = found["trial"].map(told[name])
        found[name] = values.astype(found[name].dtype)
    return found


def columns(
    plan: Plan, known: Standings, objectives: Sequence[Objective], *, chances: bool
) -> pd.DataFrame:
    """Give estimates as shares by trial, and with `chances` ranks and probabilities."""
    index = [trial.number for trial in known.trials]
    table = pd.DataFrame({"estimate": known.estimates.mean / 100}, index=index)
    if not chances:
        return table
    costs, spread = _costs(known.trials, plan, objectives)
    found = standing(
        known.estimates,
        cost=costs,
        cost_sd=spread,
        rng=np.random.default_rng(zlib.crc32(f"standing:{plan.settings.seed}".encode())),
    )
    table["estimate_low"], table["estimate_high"] = found.low / 100, found.high / 100
    table["rank_low"], table["rank_high"] = found.rank_low, found.rank_high
    table["p_best"], table["tied"] = found.p_best, found.tied
    named = METRICS[plan.settings.task] in {objective.column for objective in objectives}
    table["p_front"] = found.p_front if named else np.nan
    return table


def _costs(
    trials: Sequence[Trial], plan: Plan, objectives: Sequence[Objective]
) -> tuple[Floats, Floats]:
    """Give the other objectives of the trials, less is better, and what they may be off by."""
    others = [o for o in objectives if o.column != METRICS[plan.settings.task]]
    frame = pd.DataFrame([trial.result for trial in trials])
    costs = np.zeros((len(trials), max(1, len(others))))
    spread = np.zeros_like(costs)
    for place, objective in enumerate(others):
        costs[:, place] = objective.loss(frame[objective.column])
        if objective.column == "latency_ms":
            width = frame["latency_high_ms"] - frame["latency_low_ms"]
            spread[:, place] = width.astype(float).fillna(0.0) / (2 * 1.96)
    return costs, spread


def leaders_of(plan: Plan, history: History) -> list[str]:
    """Give the ids of the networks, the most probably best first.

    While the noise is not known, they go by their scores.
    """
    known = standings(plan, history)
    if known is None:
        metric = METRICS[plan.settings.task]
        complete = [t for t in history.done if t.state == "complete"]
        complete.sort(key=lambda t: -float(t.result[metric]))
        return list(dict.fromkeys(t.id for t in complete))
    found = columns(plan, known, objectives_named(plan.settings.objectives), chances=True)
    order = np.lexsort((-found["estimate"].to_numpy(), -found["p_best"].to_numpy()))
    return [known.trials[place].id for place in order]


def gains(plan: Plan, history: History, frame: pd.DataFrame) -> pd.DataFrame:
    """Give the gain in the score that the measured guidelines predict, by trial.

    The sum over guidelines of d (S - mean S): S the compliance, its mean over networks, d what the
    blocks say the score gains from one unit of it, shrunk by a normal prior of 1 point. In shares,
    with a 95 % interval.
    """
    slopes = _slopes(history, METRICS[plan.settings.task])
    if not slopes:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in GAIN})
    scores = frame.set_index("trial")[list(SCORES)].astype(float)
    # Each network once: one that went from rung to rung has a trial at each.
    networks = scores[(frame["repeat"].fillna(0) == 0).to_numpy()]
    networks = networks.groupby(frame.set_index("trial")["id"]).first()
    scores = (scores - networks.mean()).fillna(0.0)
    gain = pd.Series(0.0, index=scores.index)
    variance = gain.copy()
    for name, (slope, error) in slopes.items():
        trust = PRIOR_SD**2 / (PRIOR_SD**2 + error**2)
        gain += trust * slope * scores[name]
        variance += trust * error**2 * scores[name] ** 2
    reach = 1.96 * np.sqrt(variance)
    return pd.DataFrame(dict(zip(GAIN, (gain, gain - reach, gain + reach), strict=True))) / 100


def _slopes(history: History, metric: str) -> dict[str, tuple[float, float]]:
    """Give points of score for a unit of each compliance score, with the standard error.

    From the blocks in which the factor was varied: the contrast of the score over that of the
    compliance. A compliance score that a factor hardly moves here explains nothing.
    """
    found = {}
    for place, name in enumerate(SCORES):
        gained, moved = [], []
        for trials in blocks_of(history).values():
            first = trials[0].study
            if first is None or not (whole(trials) and first["varied"][place]):
                continue
            if any(t.state == "diverged" or t.result.get(name) is None for t in trials):
                continue
            arms = [
                [t for t in trials if t.study and t.study["levels"][place] == z] for z in (0, 1)
            ]
            low, high = (
                [np.mean([float(t.result[key]) for t in arm]) for key in (metric, name)]
                for arm in arms
            )
            gained.append(100 * float(high[0] - low[0]))
            moved.append(float(high[1] - low[1]))
        if len(gained) >= LEAST_BLOCKS and abs(np.mean(moved)) > LEAST_MOVE:
            unit = float(np.mean(moved))
            error = float(np.std(gained, ddof=1)) / len(gained) ** 0.5
            found[name] = (float(np.mean(gained)) / unit, error / abs(unit))
    return found


def arms(trials: Sequence[Trial], place: int) -> tuple[list[Trial], list[Trial]]:
    """Divide the trainings of a block by the level of one factor, 0 and 1."""
    levels = [trial.study["levels"][place] for trial in trials if trial.study is not None]
    low, high = (
        [trial for trial, own in zip(trials, levels, strict=True) if own == level]
        for level in (0, 1)
    )
    return low, high


def noise_facts(plan: Plan, history: History) -> dict[str, Any]:
    """Give the noise floor, the agreement between seeds and the rankings that cost nothing.

    Returns:
        `noise`, `seed_tau` (None where no network has two seeds) and `baselines`: Kendall's tau of
        a ranking with the scores, with its 95 % interval over networks; {} without estimates.
    """
    known = standings(plan, history)
    if known is None:
        return {}
    rng = np.random.default_rng(zlib.crc32(f"noise:{plan.settings.seed}".encode()))
    scores = np.array([found[0] for found in known.scores])
    repeated = [found for found in fresh_scores(plan, history).values() if len(found) > 1]
    tau = seed_agreement(repeated, rng) if len(repeated) > 2 else None
    baselines: dict[str, Mapping[str, float]] = {}
    for word, column in (("macs", "macs"), ("params", "params"), ("latency", "latency_ms")):
        sizes = np.array([trial.result[column] for trial in known.trials], dtype=float)
        baselines[word] = asdict(agreement(sizes, scores, rng))
    baselines["random"] = _at_random(len(scores))
    return {
        "noise": asdict(known.noise),
        "seed_tau": None if tau is None else {**asdict(tau), "networks": len(repeated)},
        "baselines": baselines,
    }


def fresh_scores(plan: Plan, history: History) -> dict[str, list[float]]:
    """Give the points of every network's trainings that had no part in its being trained again.

    What a leader was chosen by is too good, and would make the noise too large.
    """
    metric = METRICS[plan.settings.task]
    found: dict[str, list[float]] = {}
    for trial in history.done:
        if trial.state == "complete" and (trial.role == "confirm" or "noise" in trial.asked):
            found.setdefault(trial.id, []).append(100 * float(trial.result[metric]))
    return found


def _at_random(count: int) -> dict[str, float]:
    """Give the tau of random orders: their mean is 0, their range what chance alone brings."""
    # Variance of tau without ties (Kendall 1938).
    deviation = (2 * (2 * count + 5) / (9 * count * (count - 1))) ** 0.5
    return {"value": 0.0, "low": -1.96 * deviation, "high": 1.96 * deviation}


def recommended(plan: Plan, history: History) -> Trial | None:
    """Give the network to take: the champion of the confirmation, else the first of the ranking."""
    chosen = champion(history, METRICS[plan.settings.task], chance_level(plan))
    if chosen is not None:
        found = [t for t in history.done if t.id == chosen["id"] and t.state == "complete"]
        return min(found, key=lambda trial: trial.repeat)
    frame = ranked(plan, history)
    complete = frame[(frame["state"] == "complete") & frame["rank"].notna()]
    return history.trials[int(complete.iloc[0]["trial"])] if len(complete) else None
