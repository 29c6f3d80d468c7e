from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from runs.attempts import (
    FAILURES_IN_A_ROW,
    another_try,
    images_at_once,
    is_alone,
    require_hope,
    too_large,
)
from runs.history import History, Trial
from runs.jobs import Room
from runs.plan import Plan
from runs.search import Search
from runs.workers import Finished, Job
from search_space.errors import WorkFailed
from search_space.yaml_io import load_architecture
from tests.micro import RECIPE, Inputs, Meddled, Silence
from tests.test_search import number, recorded

pytest_plugins = ["tests.micro_fixtures"]

NETWORK = load_architecture("unireplknet_a")


@pytest.fixture
def plan(inputs: Inputs) -> Plan:
    return inputs.planned(budget=2)[0]


def trial_of(number: int, *, state: str = "asked", error: str = "error: it broke") -> Trial:
    result = {} if state == "asked" else {"error": error}
    return Trial(
        number=number,
        role="search",
        id=NETWORK.id,
        seed=0,
        architecture=NETWORK,
        asked={},
        state=state,
        result=result,
    )


def ended(outcome: str) -> Finished:
    return Finished(key="k", outcome=outcome, error="why\nand where")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "micro_batch"), [("crash", None), ("memory", 16), ("timeout", 0), ("error", 0)]
)
def test_only_a_lost_worker_and_a_full_memory_are_worth_another_try(
    outcome: str, micro_batch: int | None
) -> None:
    fields = another_try(trial_of(3), ended(outcome), None, images=32)
    if micro_batch == 0:
        assert fields is None
    else:
        assert fields == {
            "trial": 3,
            "outcome": outcome,
            "why": f"{outcome}: why",
            "micro_batch": micro_batch,
        }


def test_there_is_one_more_try_and_none_with_less_than_two_images() -> None:
    lost, full = ({"trial": 3, "outcome": outcome} for outcome in ("crash", "memory"))
    for outcome, before in (("crash", lost), ("crash", full), ("memory", full)):
        assert another_try(trial_of(3), ended(outcome), before, images=32) is None
    # It has not been tried alone yet.
    assert another_try(trial_of(3), ended("memory"), lost, images=32) is not None
    assert another_try(trial_of(3), ended("memory"), None, images=2) is None


def test_a_network_gets_as_many_images_as_are_predicted_to_fit(plan: Plan) -> None:
    trial = replace(trial_of(0), architecture=plan.reference)
    assert images_at_once(plan, trial, 10**9) == plan.recipe.batch_size
    assert images_at_once(plan, trial, 1000) is None
    assert "is predicted to take" in too_large(plan, trial, 1000)


@pytest.mark.parametrize("state", ["failed", "infeasible"])
def test_failures_and_what_does_not_fit_end_a_hopeless_session(state: str) -> None:
    lost = [trial_of(n, state=state) for n in range(FAILURES_IN_A_ROW)]
    with pytest.raises(WorkFailed, match=r"20 of 20 trials failed, 20 .* it broke; mend"):
        require_hope(lost, budget=1000, directory=Path("run"))
    kept = [*lost[1:], trial_of(99, state="complete")]
    require_hope(kept, budget=1000, directory=Path("run"))
    with pytest.raises(WorkFailed, match="19 of 20"):
        require_hope(kept, budget=30, directory=Path("run"))


def test_a_network_that_cannot_fit_is_infeasible_and_eats_no_budget(
    plan: Plan, tmp_path: Path
) -> None:
    with recorded(tmp_path / "run") as records, Meddled(1) as pool:
        room = Room(host_bytes=100)
        with pytest.raises(WorkFailed, match="predicted to take"):
            Search(plan, records, pool, Silence(), room=room).run()
        history = History(records.events)
    assert {trial.state for trial in history.done} == {"infeasible"}
    assert history.spent == 0
    assert all(trial.starts == 0 for trial in history.done)


def test_a_network_that_fits_alone_only_is_trained_alone(inputs: Inputs, tmp_path: Path) -> None:
    plan, _ = inputs.planned(budget=3, workers=2)
    room = Room(host_bytes=1, alone_bytes=10**9)
    beside: list[set[int]] = []

    def look(job: Job) -> Job:
        if number(job.key) >= 0:
            beside.append(set(search._training) - {number(job.key)})
        return replace(job, memory_limit_bytes=None)

    with recorded(tmp_path / "run") as records, Meddled(2, change=look) as pool:
        search = Search(plan, records, pool, Silence(), room=room)
        search.run()
        history = History(records.events)
    assert history.counts == {"complete": 3}
    assert all("is predicted to take" in event["why"] for event in history.retried.values())
    assert beside == [set()] * 3


def test_what_ran_out_of_memory_is_tried_again_alone_with_fewer_images(
    inputs: Inputs, tmp_path: Path
) -> None:
    plan, _ = inputs.planned(budget=4, workers=2)
    beside: list[set[int]] = []
    seen: list[int | None] = []
    with recorded(tmp_path / "run") as records:

        def starved(job: Job) -> Job:
            if number(job.key) == 1:
                beside.append(set(search._training) - {1})
                seen.append(job.payload.micro_batch)
                if len(seen) == 1:
                    return replace(job, memory_limit_bytes=1)
            return job

        with Meddled(2, change=starved) as pool:
            search = Search(plan, records, pool, Silence())
            search.run()
        history = History(records.events)
    assert [trial.state for trial in history.trials.values()] == ["complete"] * 4
    assert history.retried[1]["outcome"] == "memory"
    assert is_alone(history, history.trials[1])
    assert seen == [None, 16]
    assert beside[1] == set()


def test_when_the_time_is_over_nothing_more_is_handed_out(plan: Plan, tmp_path: Path) -> None:
    answers = iter([True])
    with recorded(tmp_path / "run") as records, Meddled(1) as pool:
        search = Search(plan, records, pool, Silence(), in_time=lambda: next(answers, False))
        search.run()
        assert search.out_of_time
        assert search.history.spent == 1
        resumed = Search(plan, records, pool, Silence())
        resumed.run()
        assert not resumed.out_of_time
        assert resumed.history.spent == 2


def test_halving_trains_on_what_is_best_and_meets_the_budget(
    inputs: Inputs, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, epochs=3)
    plan, _ = inputs.planned(budget=3, fidelity="halving", recipe=recipe)
    with recorded(tmp_path / "run") as records, Meddled(1) as pool:
        Search(plan, records, pool, Silence()).run()
        history = History(records.events)
    assert history.spent == 3
    states = {(trial.length, trial.state) for trial in history.trials.values()}
    assert {(Fraction(1, 9), "stopped"), (Fraction(1, 3), "stopped")} <= states
    assert states <= {
        (Fraction(1, 9), "stopped"),
        (Fraction(1, 3), "stopped"),
        (Fraction(1), "complete"),
    }
    for trial in history.trials.values():
        left = (tmp_path / "run" / "checkpoints" / f"{trial.number}.pt").exists()
        goes_on = any(other.continues == trial.number for other in history.trials.values())
        assert left == (trial.state == "stopped" and not goes_on)
        if trial.continues is not None:
            before = history.trials[trial.continues]
            assert (before.id, before.seed) == (trial.id, trial.seed)
            assert before.result["latency_ms"] == trial.result["latency_ms"]
            assert before.result["steps"] < trial.result["steps"]
