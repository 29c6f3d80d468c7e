"""Confirmation: the leaders of a search trained again on fresh seeds, and the champion once more.

The best of many noisy scores is too good by its luck. So the leaders are re-run on seeds that had
no part in their rise, the champion is the best of these re-runs, and the number that is printed for
it comes from seeds that took no part in that choice either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runs.history import History, Trial
from runs.study import Waiting

FINAL_SEEDS = 3
"""Last seeds of the champion and of its runner-up."""
LEAST_FINAL = 12
"""Trainings from which both get so many; with fewer they get one each, below `LEAST_BOTH` none."""
LEAST_BOTH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """How the trainings of a confirmation are spent."""

    leaders: int
    seeds: int
    """Fresh seeds of each leader."""
    final: int
    """Last seeds of the champion and of its runner-up each."""
    spare: int
    """What is left over; further last seeds of the champion."""


def shares(trainings: int) -> Shares:
    """Divide the trainings: 30 are 8 leaders of 3 seeds and 6 last ones, 20 are 7 of 2 and 6."""
    final = FINAL_SEEDS if trainings >= LEAST_FINAL else 1 if trainings >= LEAST_BOTH else 0
    rest = trainings - 2 * final
    seeds = 3 if rest >= 18 else 2 if rest >= 6 else 1
    leaders, spare = divmod(rest, seeds)
    return Shares(leaders=leaders, seeds=seeds, final=final, spare=spare if final else 0)


def next_confirm(
    history: History,
    leaders: Sequence[str],
    *,
    trainings: int,
    target: int,
    metric: str,
    chance: Mapping[str, float],
) -> tuple[str, str] | Waiting | None:
    """Give the next training of a confirmation: the id of a network and `choice` or `final`.

    Args:
        history: of the run, with no training left that could change the leaders.
        leaders: ids by their probability of being the best, the most probable first; it must not
            depend on this confirmation.
        trainings: of the confirmation.
        target: total budget of the run; a run that goes on to another is confirmed anew.
        metric: column of the score.
        chance: scores of a network that has learnt nothing.

    Returns:
        None where all were asked for; "wait" while the choice is not done.
    """
    plan = shares(trainings)
    asked = confirmed(history, target)
    first = [trial for trial in asked if trial.asked["confirm"]["part"] == "choice"]
    # Seed by seed, so that a confirmation that is cut short has seen all of them.
    begun = Counter(trial.id for trial in first)
    for seed in range(plan.seeds):
        for network in leaders[: plan.leaders]:
            if begun[network] <= seed:
                return network, "choice"
    if any(trial.state == "asked" for trial in first):
        return "wait"
    best = choice_means(first, metric, chance)
    last = [trial for trial in asked if trial.asked["confirm"]["part"] == "final"]
    for place, network in enumerate(list(best)[:2]):
        wanted = plan.final + (plan.spare if place == 0 else 0)
        if plan.final and sum(trial.id == network for trial in last) < wanted:
            return network, "final"
    return None


def confirmed(history: History, target: int) -> list[Trial]:
    """Give the trials of the confirmation at a total budget."""
    return [
        trial
        for trial in history.of_role.get("confirm", ())
        if trial.asked["confirm"]["target"] == target
    ]


def choice_means(
    trials: Sequence[Trial], metric: str, chance: Mapping[str, float]
) -> dict[str, float]:
    """Give the mean score of each network over its seeds of the choice, the best first."""
    scores: dict[str, list[float]] = {}
    for trial in trials:
        if trial.counts and trial.asked["confirm"]["part"] == "choice":
            scores.setdefault(trial.id, []).append(score_of(trial, metric, chance))
    means = {network: float(np.mean(found)) for network, found in scores.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def score_of(trial: Trial, metric: str, chance: Mapping[str, float]) -> float:
    """Give the score of a finished training as a share; a diverged one stands at chance level."""
    return chance[metric] if trial.state == "diverged" else float(trial.result[metric])


def last_target(history: History) -> int | None:
    """Give the total budget of the latest confirmation; None where there was none."""
    asked = history.of_role.get("confirm")
    return asked[-1].asked["confirm"]["target"] if asked else None


def champion(history: History, metric: str, chance: Mapping[str, float]) -> dict[str, Any] | None:
    """Say which network the confirmation chose and what it is worth; None without one.

    Returns:
        `id` of the champion, `short`: its score in the search, `choice` and `final`: its scores on
        the seeds of the choice and on the last ones, `runner_up` with the same, `drop`: points from
        the short score to the mean of the last seeds (of the choice, where there are none), and
        `metric`.
    """
    target = last_target(history)
    if target is None:
        return None
    trials = confirmed(history, target)
    order = list(choice_means(trials, metric, chance))
    if not order:
        return None

    def told(network: str) -> dict[str, Any]:
        found: dict[str, Any] = {"id": network}
        for part in ("choice", "final"):
            found[part] = [
                score_of(trial, metric, chance)
                for trial in trials
                if trial.id == network and trial.counts and trial.asked["confirm"]["part"] == part
            ]
        known = history.networks.get(network, ())
        first = [trial for trial in known if trial.repeat == 0 and trial.counts]
        found["short"] = score_of(first[0], metric, chance) if first else None
        return found

    best = told(order[0])
    fresh = best["final"] or best["choice"]
    drop = None if best["short"] is None else 100 * (best["short"] - float(np.mean(fresh)))
    runner_up = told(order[1]) if len(order) > 1 else None
    return {**best, "runner_up": runner_up, "drop": drop, "metric": metric, "of": len(order)}
