from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runs.history import History, Trial
from runs.ranking import front, objectives_named
from runs.standings import gains, leaders_of, noise_facts, ranked, recommended, standings
from tests.played import noisy, planned, played


@pytest.fixture(scope="module")
def plan() -> Any:
    return planned(budget=90, noise=10, evidence=48, confirm=12)


@pytest.fixture(scope="module")
def history(plan: Any) -> History:
    return played(plan, noisy({0: 2.0}))


def test_networks_rank_by_what_they_are_worth_behind_the_noise(plan: Any, history: History) -> None:
    frame = ranked(plan, history, chances=True)
    first = frame[frame["rank"].notna()]
    assert first["estimate"].is_monotonic_decreasing
    assert (first["estimate_low"] <= first["estimate"]).all()
    assert (first["rank_low"] <= first["rank_high"]).all()
    assert first["p_best"].sum() == pytest.approx(1)
    assert first["p_front"].between(0, 1).all()
    assert bool(first.iloc[0]["tied"])
    # Every network competes once; re-runs have no rank.
    assert not first["id"].duplicated().any()
    assert frame[frame["role"] == "confirm"]["rank"].isna().all()
    spread = first["estimate"].std() / first["accuracy"].std()
    assert 0.5 < spread < 1


def test_the_front_is_of_estimates(plan: Any, history: History) -> None:
    frame = ranked(plan, history)
    along = front(frame, objectives_named(plan.settings.objectives))
    assert along["estimate"].is_monotonic_increasing
    assert along["latency_ms"].is_monotonic_increasing


def test_the_noise_floor_is_what_the_seeds_say(plan: Any, history: History) -> None:
    known = standings(plan, history)
    assert known is not None
    assert known.seed_sd == pytest.approx(0.8, rel=0.4)
    assert known.freedom >= 8
    facts = noise_facts(plan, history)
    assert facts["noise"]["seed_sd"] == known.seed_sd
    assert 0 < facts["noise"]["tau_repeat"] < facts["noise"]["tau_ceiling"] < 1
    assert set(facts["baselines"]) == {"macs", "params", "latency", "random"}
    assert facts["baselines"]["params"]["value"] > facts["baselines"]["random"]["high"]
    assert facts["seed_tau"]["networks"] >= 3


def test_without_repeats_the_blocks_say_how_large_the_noise_is() -> None:
    plan = planned(budget=32, noise=0, evidence=32, confirm=0)
    known = standings(plan, played(plan, noisy({})))
    assert known is not None
    assert known.freedom == 4 * 3
    assert known.seed_sd == pytest.approx(0.8, rel=0.5)


def test_without_any_repeat_nothing_is_estimated() -> None:
    plan = planned(budget=8, noise=0, evidence=0, confirm=0)
    history = played(plan, noisy({}))
    assert standings(plan, history) is None
    assert noise_facts(plan, history) == {}
    frame = ranked(plan, history, chances=True)
    assert frame["estimate"].isna().all()
    assert frame["accuracy"].is_monotonic_decreasing
    best = recommended(plan, history)
    assert best is not None
    assert best.id == frame.iloc[0]["id"] == leaders_of(plan, history)[0]


def test_the_champion_of_the_confirmation_is_recommended(plan: Any, history: History) -> None:
    best = recommended(plan, history)
    assert best is not None
    assert best.repeat == 0
    finals = {
        t.id
        for t in history.trials.values()
        if t.role == "confirm" and t.asked["confirm"]["part"] == "final"
    }
    assert best.id in finals


def test_the_predicted_gain_is_the_measured_effect_of_what_a_network_follows(
    plan: Any, history: History
) -> None:
    frame = ranked(plan, history)
    gain = gains(plan, history, frame).set_index(frame["trial"])["predicted_gain"]
    scores = frame.set_index("trial")["s1"].astype(float)
    slope = np.polyfit(scores, 100 * gain.loc[scores.index], 1)[0]
    assert slope == pytest.approx(2.0, abs=0.9)


def test_a_diverged_training_has_no_estimate() -> None:
    usual = noisy({})

    def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
        if trial.number == 20:
            return {"state": "diverged", "accuracy": None, "val_loss": None}
        return usual(trial, rng)

    plan = planned(budget=30, noise=10, evidence=16, confirm=0)
    frame = ranked(plan, played(plan, score), chances=True).set_index("trial")
    assert frame.loc[20, "estimate"] is not None
    assert np.isnan(frame.loc[20, "estimate"])
    assert frame.loc[20, "rank"] == frame["rank"].max()
