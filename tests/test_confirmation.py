from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runs.blocks import chance_level
from runs.confirmation import champion, choice_means, confirmed, shares
from runs.history import History, Trial
from tests.played import noisy, planned, played


@pytest.mark.parametrize("trainings", range(41))
def test_shares_spend_all_but_what_no_seed_can_use(trainings: int) -> None:
    found = shares(trainings)
    spent = found.leaders * found.seeds + 2 * found.final + found.spare
    assert spent == trainings or (found.final == 0 and trainings < 4)


def test_shares_are_those_of_the_protocol() -> None:
    assert (shares(30).leaders, shares(30).seeds, shares(30).final) == (8, 3, 3)
    assert (shares(20).leaders, shares(20).seeds, shares(20).final) == (7, 2, 3)


def confirmed_run(**settings: Any) -> tuple[Any, History]:
    plan = planned(budget=48, noise=10, evidence=16, confirm=20, **settings)
    return plan, played(plan, noisy({}))


def test_the_champion_is_the_best_on_seeds_that_had_no_part_in_its_rise() -> None:
    plan, history = confirmed_run()
    chance = chance_level(plan)
    trials = confirmed(history, 48)
    choice = [t for t in trials if t.asked["confirm"]["part"] == "choice"]
    final = [t for t in trials if t.asked["confirm"]["part"] == "final"]
    assert (len(choice), len({t.id for t in choice}), len(final)) == (14, 7, 6)
    means = choice_means(trials, "accuracy", chance)
    told = champion(history, "accuracy", chance)
    assert told is not None
    assert told["id"] == next(iter(means))
    assert told["runner_up"]["id"] == list(means)[1]
    assert {t.id for t in final} == {told["id"], told["runner_up"]["id"]}
    assert len(told["final"]) == 3
    first = next(t for t in history.done if t.id == told["id"])
    assert told["short"] == first.result["accuracy"]
    assert told["drop"] == pytest.approx(100 * (told["short"] - np.mean(told["final"])))
    others = [t.seed for t in history.trials.values() if t not in final]
    assert not {t.seed for t in final} & set(others)


def test_a_run_without_confirmation_has_no_champion() -> None:
    plan = planned(budget=10, noise=0, evidence=8, confirm=0)
    assert champion(played(plan, noisy({})), "accuracy", chance_level(plan)) is None


def test_a_champion_that_diverges_on_a_fresh_seed_pays_for_it() -> None:
    plan = planned(budget=40, noise=10, evidence=16, confirm=14)
    usual = noisy({}, seed_sd=0.1)

    def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
        lucky = min(t.id for t in history_ids)
        if trial.role == "confirm" and trial.id == lucky:
            return {"state": "diverged", "accuracy": None, "val_loss": None}
        return usual(trial, rng)

    history_ids = list(played(plan, usual).trials.values())
    history_ids = [t for t in history_ids if t.role == "confirm"]
    history = played(plan, score)
    told = champion(history, "accuracy", chance_level(plan))
    assert told is not None
    assert told["id"] != min(t.id for t in history_ids)
    assert min(choice_means(confirmed(history, 40), "accuracy", chance_level(plan)).values()) == 0.1
