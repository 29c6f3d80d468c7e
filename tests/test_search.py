from __future__ import annotations

import contextlib
import os
import signal
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from runs.attempts import STARTS
from runs.history import History
from runs.jobs import JobKey, undisturbed
from runs.plan import Plan
from runs.ranking import trials_frame
from runs.records import Event, Records, read_events
from runs.search import Search
from runs.workers import Finished, Job, Pool, PoolEvent, Started
from search_space.errors import WorkFailed
from tests.micro import RECIPE, SPACE, Inputs, Meddled, Silence, kinds, without_images

pytest_plugins = ["tests.micro_fixtures"]

TIGHT = SPACE + "constraints: {params: {max: 900}}\n"


@pytest.fixture
def plan(inputs: Inputs) -> Plan:
    return inputs.planned(budget=2)[0]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with recorded(tmp_path / "run") as records:
        yield records


def recorded(directory: Path) -> Records:
    """A new record that knows the reference's latency: measuring it takes two seconds."""
    records = Records.create(directory, {})
    records.append("reference", id="", latency_ms=0.5, latency_low_ms=0.4, latency_high_ms=0.6)
    return records


def with_budget(plan: Plan, budget: int, **more: Any) -> Plan:
    return replace(plan, settings=replace(plan.settings, budget=budget, **more))


def searched(plan: Plan, records: Records, pool: Pool | None = None) -> History:
    with pool or Meddled(plan.settings.workers) as pool:
        Search(plan, records, pool, Silence()).run()
    return History(records.events)


def number(key: object) -> int:
    """The trial that a training is about; -1 for another job."""
    assert isinstance(key, JobKey)
    return key.trials[0] if key.kind == "train" else -1


@pytest.mark.parametrize("workers", [1, 2])
def test_the_budget_is_spent_to_the_last_training(
    plan: Plan, records: Records, workers: int
) -> None:
    history = searched(with_budget(plan, 3, workers=workers), records)
    assert [trial.state for trial in history.trials.values()] == ["complete"] * 3
    assert len(history.tried) == 3
    assert sorted(path.name for path in (records.directory / "weights").iterdir()) == [
        "0.safetensors",
        "1.safetensors",
        "2.safetensors",
    ]


def test_a_trial_is_on_the_disk_before_it_is_begun_and_its_weights_before_it_is_done(
    plan: Plan, records: Records
) -> None:
    searched(with_budget(plan, 1), records)
    assert kinds(records.events[2:]) == ["asked", "started", "done", "timing"]
    done = records.events[4]
    assert done["state"] == "complete"
    assert 0 <= done["accuracy"] <= 1
    assert done["merge_error"] <= 1e-9
    assert done["latency_low_ms"] <= done["latency_ms"] <= done["latency_high_ms"]
    assert done["params"] < done["params_train"]


def test_a_sparse_network_is_recorded_with_what_is_not_zero(
    inputs: Inputs, records: Records
) -> None:
    text = """
        name: sparse
        block: slak
        weights_sparsity: {choice: [0, 0.4]}
        stem: {kind: patchify, stride: 2}
        stages: [{depth: 1, width: 8, kernel: 7, strip: 5, layer_scale: 1e-6}]
        """
    plan, _ = inputs.planned(text=textwrap.dedent(text), budget=2)
    history = searched(plan, records)
    for row in trials_frame(history.rows()).to_dict("records"):
        if 'weights_sparsity":0.4' in row["architecture"]:
            assert 0.6 * row["params_train"] < row["params_nonzero"] < row["params_train"]
            assert 0 < row["macs_nonzero"] < row["macs_train"]
        else:
            assert pd.isna(row["params_nonzero"])
            assert pd.isna(row["macs_nonzero"])
    assert trials_frame(history.rows())["params_nonzero"].count() == 1


def test_where_the_time_went_adds_up(plan: Plan, records: Records) -> None:
    searched(with_budget(plan, 2, workers=2), records)
    timing = records.events[-1]
    assert 0 < timing["training_s"] < timing["worker_s"]
    assert 0 < timing["latency_s"] < timing["worker_s"]
    assert timing["worker_s"] == pytest.approx(2 * timing["wall_s"], abs=0.02)


def test_a_candidate_that_dies_hangs_or_raises_is_one_failed_trial(
    plan: Plan, records: Records
) -> None:
    def meet(event: Started) -> None:
        if number(event.key) == 0:
            os.kill(event.pid, signal.SIGKILL)
        if number(event.key) == 1:
            os.kill(event.pid, signal.SIGSTOP)

    def change(job: Job) -> Job:
        if number(job.key) == 1:
            return replace(job, time_limit_s=0.3)
        return without_images(job) if number(job.key) == 2 else job

    history = searched(with_budget(plan, 6), records, Meddled(change=change, at_start=meet))
    states = [trial.state for trial in history.trials.values()]
    assert states == ["failed"] * 3 + ["complete"] * 6
    crash, hang, raised = [str(history.trials[n].result["error"]) for n in range(3)]
    assert crash.startswith("crash: killed by signal 9 (SIGKILL)")
    assert hang.startswith("timeout: took longer than 0.3 s")
    assert raised.startswith("error: search_space.errors.DataError: /nowhere/at/all: must hold")
    assert len(history.tried) == 9


def test_twenty_failures_in_a_row_end_the_run_with_the_commonest_reason(
    plan: Plan, records: Records
) -> None:
    plan = with_budget(plan, 100)
    with pytest.raises(WorkFailed, match=r"20 of 20 trials failed, 20 of them with: error: .*/now"):
        searched(plan, records, Meddled(change=without_images))
    history = History(records.events)
    assert history.spent == 0
    assert len(history.done) == 20


def test_failures_of_more_than_half_the_budget_end_the_run_and_mended_it_goes_on(
    plan: Plan, records: Records
) -> None:
    plan = with_budget(plan, 4)
    with pytest.raises(WorkFailed, match=r"^.*3 of 3 trials failed.*replk-search resume"):
        searched(plan, records, Meddled(change=without_images))

    def change(job: Job) -> Job:
        return without_images(job) if number(job.key) == 3 else job

    history = searched(plan, records, Meddled(change=change))
    assert history.spent == 4
    assert history.counts["failed"] == 4


def test_a_disk_that_takes_no_weights_ends_the_run_and_its_trial_is_trained_again(
    plan: Plan, records: Records
) -> None:
    (records.directory / "weights").write_text("a file where the folder should be")
    with pytest.raises(WorkFailed, match=r"weights.0.safetensors: could not be .*search resume"):
        searched(plan, records)
    assert [trial.starts for trial in History(records.events).pending] == [0]
    (records.directory / "weights").unlink()
    assert searched(plan, records).counts == {"complete": 2}


def test_a_training_that_took_its_driver_down_each_time_is_given_up_in_the_end(
    plan: Plan, records: Records
) -> None:
    with Pool(1) as pool:
        trial = Search(plan, records, pool, Silence())._next()
        assert trial is not None
    for start in range(1, STARTS + 1):
        records.append("started", trial=0, start=start)
    history = searched(with_budget(plan, 2), records)
    assert (
        history.trials[0].result["error"] == f"its training ended the whole search {STARTS} times"
    )
    assert [trial.state for trial in history.trials.values()] == ["failed", "complete", "complete"]


def test_an_interrupted_training_is_pending_and_not_counted_as_begun(
    plan: Plan, records: Records
) -> None:
    def interrupt(_: Started) -> None:
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            searched(plan, records, Meddled(at_start=interrupt))
    (trial,) = History(records.events).pending
    assert (trial.number, trial.starts) == (0, 0)
    assert searched(plan, records).counts == {"complete": 2}


def test_diverged_trainings_eat_budget_and_have_no_accuracy(
    inputs: Inputs, records: Records
) -> None:
    plan, _ = inputs.planned(budget=2, recipe=replace(RECIPE, lr=1e30))
    history = searched(plan, records)
    assert history.counts == {"diverged": 2}
    assert history.spent == 2
    assert {trial.result["accuracy"] for trial in history.done} == {None}
    assert all(trial.result["latency_ms"] > 0 for trial in history.done)


class Batching(Meddled):
    """Tells of the first two trainings at once."""

    def events(self, timeout: float | None = None) -> list[PoolEvent]:
        found = super().events(timeout)
        if len(self.jobs) == 2:
            while sum(isinstance(event, Finished) for event in found) < 2:
                found += super().events(timeout)
        return found


def test_networks_that_wait_are_measured_side_by_side(plan: Plan, records: Records) -> None:
    pool = Batching(2)
    searched(with_budget(plan, 2, workers=2), records, pool)
    assert len(pool.jobs) == 3
    key = pool.jobs[2].key
    assert isinstance(key, JobKey)
    assert (key.kind, sorted(key.trials)) == ("latency", [0, 1])


def test_the_reference_is_measured_once_when_the_run_begins(plan: Plan, tmp_path: Path) -> None:
    with Records.create(tmp_path / "run", {}) as records:
        searched(with_budget(plan, 1), records)
        searched(plan, records)
    assert kinds(records.events).count("reference") == 1
    assert records.events[1]["latency_low_ms"] <= records.events[1]["latency_ms"]
    for event in records.events:
        if event["event"] == "done":
            assert event["latency_ms"] > 0


def test_networks_whose_common_measurement_fails_are_measured_one_by_one(
    plan: Plan, records: Records
) -> None:
    def meet(event: Started) -> None:
        assert isinstance(event.key, JobKey)
        if event.key.kind == "latency" and 0 in event.key.trials:
            os.kill(event.pid, signal.SIGKILL)

    pool = Batching(2, at_start=meet)
    plan = with_budget(plan, 2, workers=2)
    history = searched(plan, records, pool)
    assert history.trials[0].state == "failed"
    assert str(history.trials[0].result["error"]).startswith("latency: crash: killed by signal 9")
    assert history.trials[1].state == "complete"
    assert history.spent == 2


class Killed(BaseException):
    """Ends a session as SIGKILL does: nothing is tidied up in the record."""


class Mortal(Records):
    """A record whose process dies after some events."""

    left = 10**9

    def append(self, event: str, **fields: Any) -> Event:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().append(event, **fields)


def test_a_run_that_dies_between_any_two_events_ends_as_one_that_was_left_alone(
    inputs: Inputs, tmp_path: Path
) -> None:
    plan, _ = inputs.planned(budget=6, text=TIGHT)
    with recorded(tmp_path / "straight") as records:
        straight = searched(plan, records)
    out = tmp_path / "killed"
    recorded(out).close()
    last = []
    for lifetime in (1, 1, 2, 1, 0, 3, 4, 1, 2, 10**9):
        with Mortal.open(out) as records, contextlib.suppress(Killed):
            assert isinstance(records, Mortal)
            records.left = lifetime
            last.append(records.events[-1]["event"])
            searched(plan, records)
    killed = History(records.events)
    assert {"asked", "started", "done", "refused"} <= set(last)
    assert [t.id for t in killed.done] == [t.id for t in straight.done]
    for key in ("accuracy", "val_loss", "curve", "macs", "params"):
        assert [t.result[key] for t in killed.done] == [t.result[key] for t in straight.done]
    assert killed.counts == straight.counts
    assert killed.counts["rejected"] > 0


def test_a_space_with_fewer_networks_than_the_budget_ends_early(
    inputs: Inputs, records: Records
) -> None:
    text = "stages:\n  - {depth: 1, width: {choice: [2, 4]}, kernel: 3}\n"
    plan, _ = inputs.planned(budget=9, text=text)
    history = searched(plan, records)
    assert history.spent == 2
    assert history.final["exhausted"]["distinct"] == 2


def test_with_two_workers_accuracies_are_still_the_networks_own(
    plan: Plan, records: Records, finished: Path
) -> None:
    history = searched(with_budget(plan, 6, workers=2), records)
    one = {trial.id: trial for trial in History(read_events(finished)).done}
    two = {trial.id: trial for trial in history.done}
    assert len(two) == 6
    both = one.keys() & two.keys()
    assert len(both) >= 4
    for key in both:
        assert two[key].seed == one[key].seed
        for column in ("accuracy", "val_loss", "curve"):
            assert two[key].result[column] == one[key].result[column]


def test_ctrl_c_never_comes_while_an_event_is_written() -> None:
    seen = []

    def write() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            seen.append("written")

    # A shell that starts us in the background has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            write()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["written"]
