from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from runs.evidence_facts import study_text
from runs.history import History, Trial
from runs.proposals import START_UP, Proposal
from runs.ranking import objectives_named
from runs.rungs import promotion_order
from runs.schedule import own_part, search_shares, study_shares
from search_space.errors import RunError
from tests.played import noisy, planned, played, schedule_of

FLAT = noisy({})


@pytest.mark.parametrize(
    ("budget", "parts"),
    [
        (200, (10, 96, 20)),
        (100, (10, 48, 10)),
        (60, (0, 0, 6)),
        (20, (0, 0, 0)),
        (400, (10, 192, 40)),
    ],
)
def test_the_shares_of_a_search_follow_its_budget(budget: int, parts: tuple[int, ...]) -> None:
    found = search_shares(budget, evidence=None, confirm=None)
    assert (found.noise, found.evidence, found.confirm) == parts


@pytest.mark.parametrize(
    ("budget", "parts"), [(200, (10, 160, 30)), (100, (10, 72, 18)), (10, (0, 8, 2))]
)
def test_a_study_alone_spends_all_of_its_budget(budget: int, parts: tuple[int, ...]) -> None:
    found = study_shares(budget, evidence=None, confirm=None)
    assert (found.noise, found.evidence, found.confirm) == parts
    assert sum(parts) == budget


def test_what_is_given_stands() -> None:
    found = search_shares(50, evidence=16, confirm=4)
    assert (found.noise, found.evidence, found.confirm) == (0, 16, 4)
    with pytest.raises(
        RunError, match=r"must fit into the budget of 50 together, got 40 \+ 4 \+ 10"
    ):
        search_shares(50, evidence=40, confirm=4)
    with pytest.raises(RunError, match="--confirm: must leave trainings whose leaders it confirms"):
        search_shares(3, evidence=0, confirm=3)
    with pytest.raises(RunError, match="--evidence: must hold a block of 8 trainings at least"):
        study_shares(7, evidence=None, confirm=None)
    with pytest.raises(RunError, match=r"must fit into the budget of 200 together, got 160 \+ 40"):
        study_shares(200, evidence=160, confirm=40)


def test_a_single_block_is_written_as_one() -> None:
    plan = planned(budget=12, evidence=8)
    assert "8 in 1 block of 8 that test" in study_text(plan.facts, plan.settings)


def roles(history: History) -> list[str]:
    return [trial.role for trial in history.trials.values()]


def test_a_search_goes_through_its_parts_in_order() -> None:
    plan = planned(budget=60, noise=10, evidence=16, confirm=12)
    history = played(plan, FLAT)
    found = roles(history)
    anchors = found.index("evidence")
    assert found == sorted(found, key=["anchor", "evidence", "search", "confirm"].index)
    assert Counter(found)["evidence"] == 16
    assert Counter(found)["confirm"] == 12
    assert len(found) == 60
    assert sum("noise" in trial.asked for trial in history.trials.values()) == 10
    assert anchors > 10
    # Of each network the first training competes, the others have seeds of their own.
    assert len({(t.id, t.repeat) for t in history.trials.values()}) == 60
    assert len({t.seed for t in history.trials.values()}) == 60


def test_a_study_alone_searches_nothing() -> None:
    plan = planned(budget=44, noise=10, evidence=24, confirm=6, study_alone=True)
    assert own_part(plan.settings) == 0
    history = played(plan, FLAT)
    assert set(roles(history)) == {"anchor", "evidence", "confirm"}
    assert len(history.trials) == 40
    assert "4 trainings of the budget stay unspent" in study_text(plan.facts, plan.settings)


@pytest.mark.parametrize("cut", [70, 90, 100, 111])
def test_a_resumed_run_keeps_what_its_looks_decided(cut: int) -> None:
    plan = planned(budget=120, noise=0, evidence=112, confirm=4, rule="obrien_fleming")
    score = noisy({0: 9.0}, seed_sd=1.5)
    whole = played(plan, score, at_once=1)
    half = played(plan, score, at_once=1, until=cut)
    for trial in half.trials.values():
        # The front is measured again: what was decided by the first measurement stands.
        if trial.counts:
            trial.result["latency_ms"] *= 3
    resumed = played(plan, score, at_once=1, history=half)
    evidence = [
        [t.asked for t in history.trials.values() if t.role == "evidence"]
        for history in (resumed, whole)
    ]
    assert evidence[0] == evidence[1]


@pytest.mark.parametrize("cut", [3, 17, 30, 44, 52])
def test_a_resumed_run_asks_for_what_the_killed_one_would_have(cut: int) -> None:
    plan = planned(budget=54, noise=10, evidence=16, confirm=12)
    whole = played(plan, FLAT, at_once=1)
    resumed = played(plan, FLAT, at_once=1, history=played(plan, FLAT, at_once=1, until=cut))
    assert [t.asked for t in resumed.trials.values()] == [t.asked for t in whole.trials.values()]


def test_trainings_of_the_space_are_told_to_the_sampler() -> None:
    history = played(planned(budget=26, noise=0, evidence=16, confirm=0), FLAT)
    evidence = [t for t in history.trials.values() if t.role == "evidence"]
    assert all(bool(t.asked["params"]) == (not t.outside) for t in evidence)
    assert 0 < sum(t.outside for t in evidence) < 16


def test_a_longer_budget_is_confirmed_anew() -> None:
    plan = planned(budget=30, noise=0, evidence=16, confirm=4)
    history = played(plan, FLAT)
    longer = planned(budget=40, noise=0, evidence=16, confirm=4)
    history = played(longer, FLAT, history=history)
    targets = [t.asked["confirm"]["target"] for t in history.trials.values() if t.role == "confirm"]
    assert targets == [30] * 4 + [40] * 4
    assert history.spent == 40


def test_what_a_study_cannot_use_goes_to_the_search() -> None:
    history = played(planned(budget=12, noise=0, evidence=7, confirm=3), FLAT)
    assert Counter(roles(history)) == {"anchor": 2, "search": 7, "confirm": 3}


HALVING = {"fidelity": "halving", "noise": 0, "evidence": 0}


def steps(history: History) -> Counter[int | None]:
    return Counter(trial.rung for trial in history.trials.values())


@pytest.mark.parametrize("at_once", [1, 3])
def test_halving_meets_its_budget_exactly_from_the_lowest_rung_up(at_once: int) -> None:
    history = played(planned(budget=14, confirm=2, **HALVING), FLAT, at_once=at_once)
    assert history.spent == 14
    assert not history.pending
    confirming = history.of_role["confirm"]
    assert [(t.rung, t.length, t.share) for t in confirming] == [(None, 1, 1)] * 2
    found = steps(history)
    # Whoever was among the best third once may have gone on: a few more than a third.
    assert found[0] > 2 * found[1] > 0
    assert found[1] > 2 * found[2] > 0
    for trial in history.trials.values():
        if trial.continues is not None:
            first = history.trials[trial.continues]
            assert (first.id, first.seed, first.repeat, first.role, first.rung) == (
                *(trial.id, trial.seed, trial.repeat, trial.role),
                (trial.rung or 0) - 1,
            )
            assert first.state == "stopped"
            assert not trial.asked["params"]


def test_halving_leaves_study_and_noise_floor_in_full_length() -> None:
    plan = planned(budget=40, noise=10, evidence=16, confirm=4, fidelity="halving")
    history = played(plan, FLAT)
    assert history.spent == 40
    fixed = [t for t in history.trials.values() if "noise" in t.asked or t.study is not None]
    assert len(fixed) == 26
    assert {(t.length, t.state) for t in fixed} == {(1, "complete")}
    first = [t for t in history.of_role["anchor"] if "noise" not in t.asked]
    assert 0 in {t.rung for t in first} <= {0, 1, 2}


@pytest.mark.parametrize("cut", [5, 21, 40])
def test_a_resumed_run_of_halving_asks_for_the_same(cut: int) -> None:
    plan = planned(budget=9, confirm=1, **HALVING)
    whole = played(plan, FLAT, at_once=1)
    resumed = played(plan, FLAT, at_once=1, history=played(plan, FLAT, at_once=1, until=cut))
    assert [t.asked for t in resumed.trials.values()] == [t.asked for t in whole.trials.values()]


def space_of(networks: int) -> str:
    widths = ", ".join(str(2 * (i + 1)) for i in range(networks))
    return f"stages:\n  - {{depth: 1, width: {{choice: [{widths}]}}, kernel: 3, dilations: none}}\n"


@pytest.mark.parametrize("at_once", [1, 3, 8])
@pytest.mark.parametrize("budget", [1, 2, 3, 5, 20])
def test_a_small_budget_brings_a_network_to_full_length(budget: int, at_once: int) -> None:
    history = played(planned(budget=budget, confirm=0, **HALVING), FLAT, at_once=at_once)
    assert history.counts["complete"] >= 1
    assert history.spent == budget
    found = steps(history)
    assert found[0] >= found[1] >= found[2] == history.counts["complete"]


def test_one_training_of_budget_is_one_network() -> None:
    history = played(planned(budget=1, confirm=0, **HALVING), FLAT, at_once=8)
    assert steps(history) == {0: 1, 1: 1, 2: 1}
    assert len(history.networks) == 1


@pytest.mark.parametrize("at_once", [1, 3, 8])
@pytest.mark.parametrize("networks", [1, 4, 9])
def test_where_no_network_is_left_all_train_on(networks: int, at_once: int) -> None:
    plan = planned(space_of(networks), budget=30, confirm=0, **HALVING)
    history = played(plan, FLAT, at_once=at_once)
    assert steps(history) == dict.fromkeys(range(3), networks)
    assert history.spent == networks


@pytest.mark.parametrize("at_once", [1, 3, 8])
@pytest.mark.parametrize("budget", [2, 3, 5])
def test_where_no_network_is_left_nothing_that_fits_is_left(budget: int, at_once: int) -> None:
    plan = planned(space_of(9), budget=budget, confirm=0, **HALVING)
    history = played(plan, FLAT, at_once=at_once)
    assert history.counts["complete"] >= 1
    left = budget - history.spent
    gone = {t.continues for t in history.trials.values()}
    waiting = {t.rung for t in history.done if t.state == "stopped" and t.number not in gone}
    assert left < min([Fraction(2, 9), Fraction(2, 3)][rung] for rung in waiting)


def test_the_only_network_of_full_length_is_the_best_of_many() -> None:
    history = played(planned(budget=2, confirm=0, **HALVING), FLAT, at_once=8)
    # Ten begin side by side; what is left brings one of them on, and it waits for all.
    assert steps(history) == {0: 10, 1: 1, 2: 1}
    whole = history.done[-1]
    order = promotion_order(
        [{"trial": t.number, "state": t.state, **t.result} for t in history.done if t.rung == 0],
        objectives_named(("accuracy", "latency")),
    )
    assert whole.id == history.trials[order[0]].id


def test_a_search_that_waits_does_not_go_to_its_confirmation() -> None:
    plan = planned(budget=2, confirm=1, **HALVING)
    schedule = schedule_of(plan)
    half = played(plan, FLAT, at_once=1, until=0)
    first = schedule.propose(0, half)
    assert isinstance(first, Proposal)
    begun = {"event": "asked", "trial": 0, "role": first.role, "id": first.architecture.id}
    begun |= {"seed": 0, "architecture": first.architecture.to_json(), **first.fields()}
    half.apply(begun)
    assert schedule.propose(1, half) == "wait"
    history = played(plan, FLAT, at_once=8)
    assert [t.rung for t in history.trials.values()] == [0, 1, 2, None]
    assert history.trials[3].role == "confirm"


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_a_search_beside_a_study_reaches_full_length_with_its_own_part(at_once: int) -> None:
    plan = planned(budget=12, evidence=8, confirm=2, fidelity="halving", noise=0)
    assert own_part(plan.settings) == 2
    history = played(plan, FLAT, at_once=at_once)
    assert history.spent == 12
    assert Counter(roles(history))["evidence"] == 8
    assert steps(history)[2] == 1


@pytest.mark.parametrize("at_once", [1, 8])
@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_a_small_budget_is_met_where_trainings_end_badly(state: str, at_once: int) -> None:
    def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
        found = FLAT(trial, rng)
        return found | ({"state": state} if trial.number % 3 == 0 else {})

    for budget in (1, 2, 3):
        plan = planned(budget=budget, confirm=0, **HALVING)
        history = played(plan, score, at_once=at_once)
        assert history.spent == budget
        assert not history.pending
        # Where the first one diverges, a budget of one training holds no other.
        assert any(t.length == 1 for t in history.trials.values()) or budget == 1


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_resumed_run_keeps_what_its_furthest_network_needs(cut: int) -> None:
    plan = planned(budget=2, confirm=0, **HALVING)
    whole = played(plan, FLAT, at_once=1)
    resumed = played(plan, FLAT, at_once=1, history=played(plan, FLAT, at_once=1, until=cut))
    assert [t.asked for t in resumed.trials.values()] == [t.asked for t in whole.trials.values()]


def test_of_halving_the_sampler_is_shown_one_rung_with_what_it_drew_at_the_first() -> None:
    plan = planned(budget=20, confirm=0, **HALVING)
    history = played(plan, FLAT)
    assert steps(history)[1] >= START_UP > steps(history)[2]
    source = schedule_of(plan).proposer
    source.propose(history.next_number, history)
    second = [trial for trial in history.done if trial.rung == 1]
    shown = source.past()
    assert [trial.values[0] for trial in shown] == [t.result["accuracy"] for t in second]
    for trial, told in zip(second, shown, strict=True):
        assert trial.continues is not None
        assert told.params == history.trials[trial.continues].asked["params"] != {}
