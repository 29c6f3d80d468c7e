"""What a search is expected to take, and a search within a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import resources
from typing import Any

import numpy as np
import pytest

from evaluators.cost import cost
from runs.deadline import Deadline, budget_for, elapsed_s, more_for
from runs.forecast import FINAL_FACTOR, GO_ON, LEADERS, TRIAL_S, Forecast, Left, forecast, reckoned
from runs.history import History
from runs.plan import Plan, Settings
from runs.planning import middle
from runs.schedule import search_shares, study_shares
from runs.timing import Timed, block_networks, time_networks
from search_space.errors import RunError
from tests.played import noisy, planned, played

STEPS = ((3.0, 0.2), (5.0, 0.2), (7.0, 0.5))
TIMED = Timed(search=STEPS, study=((9.0, 0.3), (11.0, 0.3)), latency_s=0.1)
SHARES = partial(search_shares, evidence=None, confirm=None)


class NoPool:
    """Slots that must not be asked for."""

    free = 1

    def submit(self, job: object) -> None:
        """Refuse."""
        raise AssertionError(job)

    def events(self, timeout: float | None = None) -> Sequence[Any]:
        """Refuse."""
        raise AssertionError(timeout)


def settings(**changes: Any) -> Settings:
    return Settings(**{"budget": 60, "workers": 1, **changes})


def expected(**changes: Any) -> Forecast:
    given = settings(**changes)
    return reckoned(given, Left.whole(given), TIMED)


def test_every_part_takes_the_time_of_its_own_networks() -> None:
    plain = expected(budget=60)
    own = 60 * (5.3 + TRIAL_S + 0.1)
    assert plain.seconds - plain.closing_s == pytest.approx(own)
    assert plain.training_s == pytest.approx(5.3)

    study = expected(budget=60, noise=10, evidence=24)
    assert study.seconds - plain.seconds == pytest.approx(34 * (10.3 - 5.3))

    confirmed = expected(budget=60, confirm=20)
    assert confirmed.seconds - plain.seconds == pytest.approx(20 * (LEADERS - 1) * 5.3)


def test_the_closing_steps_hold_the_final_training_and_the_high_end_a_second_round() -> None:
    once = FINAL_FACTOR * LEADERS * 5.3
    search, alone = expected(), expected(study_alone=True, evidence=40, confirm=20)
    assert search.closing_s - alone.closing_s == pytest.approx(once)
    assert search.high - search.seconds >= 2 * once
    assert alone.high - alone.seconds == pytest.approx(alone.seconds - alone.low)


def test_workers_share_trainings_but_wait_for_each_measurement_and_the_last_of_them() -> None:
    one, two = (expected(workers=count) for count in (1, 2))
    trainings = 60 * (5.3 + TRIAL_S)
    last = 5.3 / 4
    assert one.seconds - two.seconds == pytest.approx(trainings / 2 - last)
    # The same work takes a little more of the machine.
    assert two.machine_hours > one.machine_hours


def test_short_trainings_of_halving_pay_their_evaluation_each() -> None:
    full, halving = expected(), expected(fidelity="halving")
    goes_on = GO_ON / 3
    networks = 60 / (1 / 9 + 2 / 9 * goes_on + 2 / 3 * goes_on**2)
    trials = networks * (1 + goes_on + goes_on**2)
    steps, once = 5.0, 0.3
    search = 60 * steps + trials * (once + TRIAL_S) + networks * 0.1
    assert halving.seconds - halving.closing_s == pytest.approx(search)
    assert halving.seconds > full.seconds


@pytest.mark.parametrize("budget", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_the_trials_of_halving_are_those_that_a_schedule_makes(budget: int) -> None:
    plan = planned(budget=budget, fidelity="halving", warm_start="none")
    history = played(plan, noisy({}))
    done = [trial for trial in history.done if trial.state != "asked"]
    networks = sum(trial.continues is None for trial in done)

    # With steps of no time a forecast counts trials and networks.
    def counted(latency_s: float) -> float:
        timed = Timed(search=((0.0, 0.0),), study=((0.0, 0.0),), latency_s=latency_s)
        found = reckoned(plan.settings, Left.whole(plan.settings), timed)
        return found.seconds - found.closing_s

    assert networks == pytest.approx(counted(1.0) - counted(0.0), rel=0.1)
    assert len(done) == pytest.approx(counted(0.0) / TRIAL_S, rel=0.1)


def test_a_range_holds_most_searches_of_like_networks() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        durations = rng.lognormal(1.5, 0.4, 46)
        timed = replace(TIMED, search=tuple((float(one), 0.0) for one in durations[:6]))
        given = settings(budget=40)
        found = reckoned(given, Left.whole(given), timed)
        final = FINAL_FACTOR * LEADERS * rng.choice(durations)
        took = durations[6:].sum() + 40 * (TRIAL_S + 0.1) + final
        beside = found.closing_s - FINAL_FACTOR * LEADERS * durations[:6].mean()
        held += found.low <= took + beside <= found.high
    assert held >= 180


def test_the_text_says_time_range_pace_and_what_it_takes_of_the_machine() -> None:
    said = expected(workers=4).text()
    assert said.startswith("about ")
    assert said.endswith("core-hours")
    assert ", 5.3 s a training; " in said
    assert expected(device="cuda", gpus_per_trial=0.5, workers=2).text().endswith("GPU-hours")


# From what is done.


def took(history: History, seconds: float) -> History:
    """Give the trials of a played run times."""
    for trial in history.done:
        trial.result["train_seconds"] = seconds * float(trial.share) + 0.25
    return history


def test_what_is_left_is_told_by_the_trainings_that_are_done() -> None:
    plan = planned(budget=60, confirm=8, warm_start="none")
    history = took(played(plan, noisy({}), until=20, at_once=1), 4.0)
    found = forecast(plan, NoPool(), history)
    left = 60 - len(history.done)
    beside = TRIAL_S + 0.1
    search = (left - 8) * (4.25 + beside) + 8 * (LEADERS * 4.25 + beside)
    assert found.seconds - found.closing_s == pytest.approx(search)
    assert found.training_s == pytest.approx(4.25)


def test_short_trainings_tell_what_a_whole_one_takes() -> None:
    plan = planned(budget=30, fidelity="halving", warm_start="none")
    history = took(played(plan, noisy({}), until=40, at_once=1), 4.0)
    found = forecast(plan, NoPool(), history)
    assert {float(trial.share) for trial in history.done} == {1 / 9, 2 / 9, 2 / 3}
    assert found.training_s == pytest.approx(4.25)


def test_a_study_that_is_left_is_timed_where_none_of_its_networks_are_done() -> None:
    plan = planned(budget=60, evidence=16)
    plan = replace(plan, facts={**plan.facts, "reference": middle(plan.space).to_json()})
    history = took(played(plan, noisy({}), until=5, at_once=1), 4.0)
    with pytest.raises(AssertionError, match="timing"):
        forecast(plan, NoPool(), history)


def test_the_networks_of_a_study_are_timed_at_both_ends_of_its_factors() -> None:
    alone = planned(budget=60)
    assert block_networks(alone) == []

    # Before the study is planned, and behind it.
    asked = replace(alone, settings=replace(alone.settings, evidence=48))
    for plan in (asked, planned(budget=60, evidence=48)):
        networks = block_networks(plan)
        assert len({network.id for network in networks}) == len(networks) == 6


# A time as a budget.


def plan_of(**changes: Any) -> Plan:
    plan = planned(budget=200)
    return replace(plan, settings=replace(plan.settings, **changes))


@pytest.mark.parametrize("fidelity", ["full", "halving"])
@pytest.mark.parametrize("workers", [1, 8])
def test_a_budget_is_the_greatest_that_fits_into_the_time(fidelity: str, workers: int) -> None:
    plan = plan_of(fidelity=fidelity, workers=workers)

    def seconds(budget: int) -> float:
        parts = SHARES(budget)
        given = replace(
            plan.settings,
            budget=budget,
            noise=parts.noise,
            evidence=parts.evidence,
            confirm=parts.confirm,
        )
        return reckoned(given, Left.whole(given), TIMED).seconds

    for time_s in (150.0, 600.0, 7200.0):
        budget = budget_for(plan, TIMED, time_s, SHARES)
        assert seconds(budget) <= time_s < seconds(budget + 1)


def test_more_time_makes_a_greater_total_and_never_one_below_what_is_done() -> None:
    plan = plan_of(budget=12, noise=0, evidence=0, confirm=0)
    history = played(plan, noisy({}), at_once=1)
    assert history.spent == 12
    totals = [more_for(plan, history, TIMED, seconds) for seconds in (0, 200, 400)]
    assert totals[0] == 12
    assert 12 < totals[1] < totals[2]
    grown = replace(plan, settings=replace(plan.settings, budget=totals[2]))
    assert reckoned(grown.settings, Left.of(grown, history), TIMED).seconds <= 400


def test_a_study_alone_gets_at_least_a_block() -> None:
    plan = plan_of(study_alone=True)
    shares = partial(study_shares, evidence=None, confirm=None)
    assert budget_for(plan, TIMED, 3600.0, shares) > 100
    with pytest.raises(RunError, match=r"--time: must be enough for 9 trainings and the closing"):
        budget_for(plan, TIMED, 30.0, shares)


def test_a_time_that_is_too_short_says_what_the_least_is() -> None:
    with pytest.raises(RunError, match=r"for 1 training and .*, about 1\d\d s|about \d min, got"):
        budget_for(plan_of(), TIMED, 20.0, SHARES)
    asked = partial(search_shares, evidence=48, confirm=10)
    with pytest.raises(RunError, match="enough for 68 trainings"):
        budget_for(plan_of(), TIMED, 60.0, asked)


# The end of the time.


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_no_training_begins_that_would_not_end_in_time_with_the_closing_steps() -> None:
    clock, estimate = Clock(), expected()
    in_time = Deadline(1000.0, [], estimate, clock=clock)
    needed = estimate.training_s + estimate.closing_s
    assert in_time()
    clock.now += 1000 - needed
    assert in_time()
    clock.now += 0.01
    assert not in_time()
    assert in_time.left_s == pytest.approx(needed - 0.01)


def test_earlier_sessions_count_up_to_their_last_event() -> None:
    events: list[dict[str, Any]] = [
        {"event": "header"},
        {"event": "session"},
        {"event": "done", "at_s": 40.0},
        {"event": "asked"},
        {"event": "done", "at_s": 90.5},
        {"event": "session"},  # killed before its first training was done
        {"event": "asked"},
        {"event": "session"},
        {"event": "done", "at_s": 10.0},
    ]
    assert elapsed_s(events) == pytest.approx(100.5)
    clock, estimate = Clock(), expected()
    needed = estimate.training_s + estimate.closing_s
    assert not Deadline(100.0 + needed, events, estimate, clock=clock)()
    assert Deadline(101.0 + needed, events, estimate, clock=clock)()


def test_without_a_time_there_is_no_end_and_without_an_estimate_only_the_time_counts() -> None:
    clock = Clock()
    endless, bare = (Deadline(time_s, [], None, clock=clock) for time_s in (None, 50.0))
    clock.now += 49
    assert endless()
    assert bare()
    clock.now += 1e6
    assert endless()
    assert not bare()


def test_networks_that_break_a_constraint_or_do_not_fit_are_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    class Told(NoPool):
        def submit(self, job: Any) -> None:
            asked.extend(job.payload.architectures)
            raise StopIteration

    text = resources.files("search_space.spaces").joinpath("default.yaml").read_text("utf-8")
    plan = planned(text + "\nconstraints: {macs: {max: 3e6}}\n")
    plan = replace(plan, facts={**plan.facts, "reference": middle(plan.space).to_json()})
    with pytest.raises(StopIteration):
        time_networks(plan, Told())
    _, *drawn = asked
    assert len(drawn) == 5
    assert max(cost(network, 10).macs_inference for network in drawn) <= 3e6

    asked.clear()
    monkeypatch.setattr("runs.timing.memory_limit", lambda _: 1000)
    with pytest.raises(StopIteration):
        time_networks(plan, Told())
    assert [network.id for network in asked] == [plan.reference.id]
