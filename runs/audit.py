"""The audit of a run's short trainings: do networks that won stay ahead when trained longer?

Some networks of the ranking, one drawn at random from each of as many equal slices of it, are
trained anew at a multiple of the length. All that the audit says rests on these networks alone.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluators.agreement import Regret, Tau, agreement, regret_interval
from evaluators.contrasts import G3, estimate
from evaluators.evidence import GUIDELINES, BlockResult, gather
from evaluators.regression import slopes
from runs.blocks import METRICS, block_results, chance_level, longer_results
from runs.confirmation import score_of
from runs.history import History, Trial, reason_of
from runs.plan import Plan
from runs.study import DENSE_ONLY

LEAST = 5
"""Networks below which no interval means anything."""
TOP = (1, 5, 10)
"""How many of a ranking's first networks are looked at for the best."""
BASELINES = {"macs": "MACs", "params": "parameters", "latency_ms": "latency"}
"""Rankings that cost no training: more of it is better."""
SCORES = ("s1", "s2", "s3", "s4")

Floats = NDArray[np.float64]
Interval = tuple[float, float, float]
"""Value and ends of its 95 % interval; nan where they cannot be told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """How good a ranking is, measured against the scores after longer trainings."""

    name: str
    tau: Tau
    regrets: tuple[Regret, ...]
    """One for each of TOP that is below the number of networks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """The effect of a guideline on the same networks at both lengths, in points."""

    guideline: str
    way: str
    """What it rests on; empty where there is no effect."""
    reason: str = ""
    """Why there is none."""
    short: Interval | None = None
    long: Interval | None = None
    change: Interval | None = None
    """From short to long, network by network."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Audit:
    """What longer trainings say about a run."""

    name: str
    """Space and data."""
    metric: str
    """accuracy or miou."""
    factor: float
    epochs: float
    """Of a short training."""
    frame: pd.DataFrame
    """A network a row, the first of the long ranking first; scores as shares."""
    proxies: tuple[Proxy, ...]
    """The short score first, then the run's ranking where it has estimates, then the baselines."""
    trends: tuple[Trend, ...]
    failed: tuple[tuple[int, str], ...]
    """Trials whose longer training failed, and why."""
    asked: int
    """Networks that were to be trained."""


def recorded(plan: Plan, history: History, frame: pd.DataFrame) -> Audit | None:
    """Give the audit that a record holds: of the factor with most networks; None without one.

    Args:
        plan: of the run.
        history: of the run.
        frame: ranked trials.
    """
    places = set(frame.loc[frame["rank"].notna(), "trial"])
    audits = [
        (number, factor)
        for (number, factor), event in history.longer.items()
        if event.get("purpose") == "audit" and number in places
    ]
    if not audits:
        return None
    factor, _ = Counter(factor for _, factor in audits).most_common(1)[0]
    return compare(plan, history, frame, [n for n, f in audits if f == factor], factor)


def compare(
    plan: Plan, history: History, frame: pd.DataFrame, numbers: Sequence[int], factor: float
) -> Audit | None:
    """Compare what short and long trainings of the same networks say; None where they are few."""
    metric, events = METRICS[plan.settings.task], history.longer
    failed = [n for n in numbers if events[n, factor]["state"] == "failed"]
    kept = [n for n in numbers if n not in failed]
    if len(kept) < LEAST:
        return None
    rows = network_rows(plan, history, frame, kept, factor)
    return Audit(
        name=f"{plan.space.name} on {plan.facts['data']['name']}",
        metric=metric,
        factor=factor,
        epochs=plan.recipe.epochs,
        frame=rows,
        proxies=proxies(rows, plan.settings.seed),
        trends=trends(plan, history, kept, factor),
        failed=tuple((n, reason_of(events[n, factor])) for n in failed),
        asked=len(numbers),
    )


def network_rows(
    plan: Plan, history: History, frame: pd.DataFrame, numbers: Sequence[int], factor: float
) -> pd.DataFrame:
    """Give a row a network: its scores and ranks at both lengths and what it costs."""
    metric, chance = METRICS[plan.settings.task], chance_level(plan)
    ranking = frame.set_index("trial").loc[list(numbers)]
    trials = [history.trials[number] for number in numbers]
    long = [history.longer[number, factor] for number in numbers]
    rows = pd.DataFrame(
        {
            "trial": list(numbers),
            "id": [trial.id for trial in trials],
            "rank": ranking["rank"].to_numpy(dtype=int),
            "short": [score_of(trial, metric, chance) for trial in trials],
            "long": [_score(event, metric, chance) for event in long],
            "state": [event["state"] for event in long],
            "val_loss_short": [trial.result["val_loss"] for trial in trials],
            "val_loss_long": [event["val_loss"] for event in long],
            "seconds_long": [event["seconds"] for event in long],
            **{name: ranking[name].to_numpy(dtype=float) for name in BASELINES},
        }
    )
    if "estimate" in ranking and ranking["estimate"].notna().all():
        rows["estimate"] = ranking["estimate"].to_numpy(dtype=float)
    for length in ("short", "long"):
        rows[f"rank_{length}"] = rows[length].rank(ascending=False, method="min").astype(int)
    return rows.sort_values(["rank_long", "rank"], ignore_index=True)


def proxies(rows: pd.DataFrame, seed: int) -> tuple[Proxy, ...]:
    """Measure each ranking against the long scores; the same seed gives the same intervals."""
    named = {"short": "short training"}
    named |= {"estimate": "estimate of the run"} if "estimate" in rows else {}
    truth = 100 * rows["long"].to_numpy(dtype=float)
    found = []
    for column, name in (named | BASELINES).items():
        rng = np.random.default_rng(zlib.crc32(f"audit:{seed}:{column}".encode()))
        values = rows[column].to_numpy(dtype=float)
        known = np.isfinite(values)
        found.append(
            Proxy(
                name=name,
                tau=agreement(values[known], truth[known], rng),
                regrets=tuple(
                    regret_interval(values[known], truth[known], k, rng)
                    for k in TOP
                    if k < known.sum()
                ),
            )
        )
    return tuple(found)


def trends(
    plan: Plan, history: History, numbers: Sequence[int], factor: float
) -> tuple[Trend, ...]:
    """Give the effect of each guideline at both lengths.

    From contrasts where two whole blocks of the study or more were trained longer, by an audit or
    a recheck; else by a regression over the networks of the audit.
    """
    missing = plan.facts.get("study", {}).get("protocol", {}).get("missing", {})
    missing = missing or (DENSE_ONLY if plan.settings.task == "classification" else {})
    short, long = blocks_at_both(plan, history, factor)
    if len(long) > 1:
        found = _by_blocks(short, long)
    else:
        found = _by_regression(plan, history, numbers, factor)
    return tuple(
        Trend(guideline=trend.guideline, way="", reason=missing[trend.guideline])
        if trend.guideline in missing
        else trend
        for trend in found
    )


def blocks_at_both(
    plan: Plan, history: History, factor: float
) -> tuple[list[BlockResult], list[BlockResult]]:
    """Give the whole blocks that were trained at both lengths, short and long."""
    metric, chance = METRICS[plan.settings.task], chance_level(plan)
    long = longer_results(history, metric, chance, factor)
    there = {result.block for result in long}
    short = [r for r in block_results(history, metric, chance) if r.block in there]
    return short, long


def _by_blocks(short: Sequence[BlockResult], long: Sequence[BlockResult]) -> list[Trend]:
    contrasts = [gather(results).score for results in (short, long)]
    found = [estimate(values) for values in (*contrasts, contrasts[1] - contrasts[0])]
    trends = []
    for g, name in enumerate(GUIDELINES):
        blocks = int(found[2].blocks[g])
        intervals = [(float(e.mean[g]), float(e.low[g]), float(e.high[g])) for e in found]
        trends.append(
            Trend(guideline=name, way="", reason="no two blocks that vary it were trained longer")
            if blocks < 2
            else _found(name, f"{blocks} blocks", intervals)
        )
    return trends


def _by_regression(
    plan: Plan, history: History, numbers: Sequence[int], factor: float
) -> list[Trend]:
    """Regress scores on log MACs and levels; networks outside the blocks have compliance scores."""
    metric, chance = METRICS[plan.settings.task], chance_level(plan)
    trials = [history.trials[number] for number in numbers]
    columns = design(trials)
    short = [trial.result for trial in trials]
    long = [history.longer[number, factor] for number in numbers]
    trends = []
    for g, name in enumerate(GUIDELINES):
        both = []
        for results in (short, long):
            values = np.array([_score(row, metric, chance) for row in results])
            if g == G3 and metric == "miou":
                values = values - [_score(row, f"{metric}_last", chance) for row in results]
            both.append(100 * values)
        fits = [slopes(columns, values) for values in (*both, both[1] - both[0])]
        at = 1 + g
        intervals = [(float(f.value[at]), float(f.low[at]), float(f.high[at])) for f in fits]
        if np.isnan(intervals[0][0]):
            same = not np.ptp(columns[:, at])
            why = "all these networks are alike in it" if same else "it goes with another of them"
            trends.append(Trend(guideline=name, way="", reason=f"not separable here: {why}"))
        elif np.isnan(intervals[0][1]):
            why = f"too few networks: {len(trials)} for five effects and a constant"
            trends.append(Trend(guideline=name, way="", reason=why))
        else:
            trends.append(_found(name, f"a regression over {len(trials)} networks", intervals))
    return trends


def design(trials: Sequence[Trial]) -> Floats:
    """Give (N, 5): log MACs and the four levels, of other networks their compliance scores.

    A score that does not apply counts as the mean of the others.
    """
    levels = np.array(
        [
            trial.study["levels"]
            if trial.study is not None
            else [trial.result.get(name) for name in SCORES]
            for trial in trials
        ],
        dtype=float,
    )
    known = ~np.isnan(levels)
    means = np.where(known, levels, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    sizes = np.log([float(trial.result["macs"]) for trial in trials])
    return np.column_stack([sizes, np.where(known, levels, means)])


def _found(guideline: str, way: str, intervals: Sequence[Interval]) -> Trend:
    short, long, change = intervals
    return Trend(guideline=guideline, way=way, short=short, long=long, change=change)


def _score(result: Mapping[str, Any], column: str, chance: Mapping[str, float]) -> float:
    """Give a score as a share; a diverged training stands at chance level."""
    return chance[column] if result["state"] == "diverged" else float(result[column])
