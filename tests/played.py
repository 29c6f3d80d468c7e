"""Runs without any training: the real schedule, with results from a formula."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from evaluators.compliance import compliance
from evaluators.cost import cost
from evaluators.recipe import default_recipe
from runs.blocks import chance_level
from runs.history import History, Trial
from runs.images import DataSource
from runs.measures import measure_with
from runs.objective import training_seed
from runs.plan import Plan, Settings
from runs.proposals import Proposer
from runs.ranking import objectives_named
from runs.schedule import Schedule
from runs.standings import leaders_of
from runs.study import study_of, with_study
from search_space.yaml_io import load_space, parse_space

Score = Callable[[Trial, np.random.Generator], dict[str, Any]]
"""Gives what a training ended with: at least `accuracy` or `miou`, and `val_loss`."""


def planned(space: str = "default", *, task: str = "classification", **settings: Any) -> Plan:
    """Plan a run on images that nobody looks at; `space` is a shipped name or a YAML text."""
    read = parse_space(space, name="space.yaml") if "\n" in space else load_space(space)
    dense = task == "segmentation"
    side = 64 if dense else 28
    bound = read.for_task(task).bound(size=(side, side), channels=1)
    metric = "miou" if dense else "accuracy"
    given = {"budget": 200, "objectives": (metric, "latency"), "task": task, "seed": 1}
    given |= {"sampler": "random", **settings}
    data = {"train": 3000, "val": 600, "test": 600, "size": [side, side], "channels": 1}
    data |= {"majority_share": 0.6 if dense else 0.1, "classes": [str(i) for i in range(10)]}
    plan = Plan(
        space=bound,
        settings=Settings(**given),
        recipe=default_recipe(task),
        data=DataSource(
            source=None, root=None, resize=None, size=(side, side), channels=1, sha256="0" * 64
        ),
        facts={"data": data},
    )
    return with_study(plan)


def schedule_of(plan: Plan) -> Schedule:
    """Give the schedule as a search has it."""
    proposer = Proposer(
        plan.space,
        objectives_named(plan.settings.objectives),
        sampler=plan.settings.sampler,
        seed=plan.settings.seed,
        chance=chance_level(plan),
        measure=measure_with(plan.num_classes),
    )
    return Schedule(plan, proposer, study_of(plan), lambda history: leaders_of(plan, history))


def played(
    plan: Plan,
    score: Score,
    *,
    at_once: int = 2,
    until: int | None = None,
    history: History | None = None,
) -> History:
    """Play a run to its end, or to `until` trials asked for, with so many trainings at once."""
    schedule, history = schedule_of(plan), history or History()
    running = history.pending
    while True:
        while len(running) < at_once and taken(history) < plan.settings.budget:
            number = history.next_number
            if until is not None and number >= until:
                return history
            proposal = schedule.propose(number, history)
            if proposal is None or proposal == "wait":
                break
            found = proposal.architecture
            repeat = int(proposal.more.get("repeat", 0))
            event = {"event": "asked", "trial": number, "role": proposal.role, "id": found.id}
            event |= {"seed": training_seed(plan.settings.seed, found.id, repeat)}
            history.apply({**event, "architecture": found.to_json(), **proposal.fields()})
            running.append(history.trials[number])
        if not running:
            return history
        finish(plan, history, running.pop(0), score)


def taken(history: History) -> Fraction:
    """Give what finished and running trainings take of the budget."""
    return sum((trial.share for trial in history.pending), history.spent)


def finish(plan: Plan, history: History, trial: Trial, score: Score) -> None:
    """Give a trial its result."""
    counted, scores = cost(trial.architecture, plan.num_classes), compliance(trial.architecture)
    state = "complete" if trial.length == 1 else "stopped"
    result = {"state": state, **score(trial, np.random.default_rng(trial.seed))}
    latency = counted.macs_inference / 1e7
    if any(kernel > 3 for stage in trial.architecture.stages for kernel in stage.kernels):
        latency *= 1.5
    history.apply(
        {
            "event": "done",
            "trial": trial.number,
            "seq": len(history.done),
            "latency_ms": latency,
            "latency_low_ms": 0.99 * latency,
            "latency_high_ms": 1.01 * latency,
            "latency_raw_ms": latency,
            "latency_disturbed": False,
            "macs": counted.macs_inference,
            "params": counted.params_inference,
            "s1": scores.s1,
            "s2": scores.s2,
            "s3": scores.s3,
            "s4": scores.s4,
            **result,
        }
    )


def noisy(effects: dict[int, float], *, seed_sd: float = 0.8, metric: str = "accuracy") -> Score:
    """Give scores of known effects: points that level 1 of a factor adds, by its place."""

    def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
        levels = trial.study["levels"] if trial.study is not None else [0, 0, 0, 0]
        size = np.log(cost(trial.architecture, 10).params_inference)
        gain = sum(effect * levels[place] for place, effect in effects.items())
        points = 40 + 3 * size + gain + seed_sd * rng.standard_normal()
        loss = 3 - 0.03 * points + 0.005 * rng.standard_normal()
        found = {"accuracy": points / 100, "val_loss": loss}
        if metric == "miou":
            last = points - 0.5 * effects.get(2, 0.0) * levels[2] + 0.4 * rng.standard_normal()
            found |= {"miou": points / 100, "miou_last": last / 100, "accuracy_last": last / 100}
            found |= {"val_loss_last": 3 - 0.03 * last}
        return found

    return score
