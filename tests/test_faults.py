"""Every fault that we can cause, with what must come of it.

No finished trial is lost or doubled, the budget is met exactly on resume, a message says what
happened, nothing is left behind. Faults of the disk, of directories and records are in
`test_faults_on_disk.py`; a node of a Ray cluster that goes and comes is in `test_ray_cluster.py`,
an Optuna storage that fails in `test_optuna_export.py`; the record under random damage in
`test_records.py`, the pool alone in `test_workers.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from runs import ending, session
from runs.ending import Interrupt
from runs.history import History
from runs.images import COPY_NAME
from runs.plan import Plan
from runs.records import Event, Records, read_events
from runs.workers import Job
from tests import faults_jobs
from tests.faults_jobs import LINE, LINES, PIDS_NAME, Midway, in_place_of_training, trial_of
from tests.faults_programs import (
    Start,
    assert_exact,
    assert_nothing_left,
    assert_same,
    kill_again_and_again,
    search,
    seen,
    wait_for,
    wait_until,
)
from tests.faults_searches import LONGER, QUIET, assert_first_of, recorded, searched
from tests.micro import RECIPE, Inputs, Meddled, kinds

pytest_plugins = ["tests.micro_fixtures", "tests.faults_fixtures"]

# Candidates that misbehave, all in one search beside good ones.


@dataclass(frozen=True)
class Fault:
    """What a candidate does, and what must come of it."""

    function: Any
    state: str
    why: str = ""
    tried_again_for: str | None = None
    limits: tuple[tuple[str, Any], ...] = ()


FAULTS = {
    "raises": Fault(faults_jobs.raises, "failed", "error: RuntimeError: no such kernel"),
    "hangs": Fault(
        faults_jobs.hangs,
        "failed",
        "timeout: took longer than 0.5 s",
        limits=(("time_limit_s", 0.5),),
    ),
    "ignores SIGTERM": Fault(
        faults_jobs.ignores_sigterm,
        "failed",
        "timeout: took longer than 0.5 s",
        limits=(("time_limit_s", 0.5),),
    ),
    "needs 100 GB": Fault(
        faults_jobs.needs_100_gb,
        "infeasible",
        "memory: numpy.",
        "memory",
        # A machine may have 100 GB.
        limits=(("memory_limit_bytes", 4 << 30),),
    ),
    "prints a million lines": Fault(faults_jobs.prints_a_million_lines, "complete"),
    "gives NaN": Fault(faults_jobs.gives_nan, "diverged"),
    "calls os._exit": Fault(
        faults_jobs.leaves,
        "failed",
        "crash: ended with exit code 0 before the job was done",
        "crash",
    ),
    "forks grandchildren": Fault(faults_jobs.forks, "complete"),
}
GOOD = 9
"""Trainings of that search that meet no fault: more than half must end well."""


@dataclass(frozen=True)
class Met:
    """A search that met every fault of a candidate."""

    history: History
    events: list[dict[str, Any]]
    directory: Path
    grown: int
    """Bytes that the driver's memory grew by."""


@pytest.fixture(scope="module")
def met(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Met:
    faults = list(FAULTS.values())

    def change(job: Job) -> Job:
        number = trial_of(job.key)
        if not 0 <= number < len(faults):
            return job
        return in_place_of_training(job, faults[number].function, **dict(faults[number].limits))

    eating = sum(fault.state in ("complete", "diverged") for fault in faults)
    plan, _ = inputs.planned(budget=GOOD + eating, workers=2)
    with recorded(tmp_path_factory.mktemp("faults") / "run") as records:
        before = psutil.Process().memory_info().rss
        history = searched(plan, records, Meddled(2, change=change))
        grown = psutil.Process().memory_info().rss - before
        return Met(history, records.events, records.directory, grown)


@pytest.mark.parametrize("name", FAULTS)
def test_a_candidate_that(name: str, met: Met) -> None:
    fault, number = FAULTS[name], list(FAULTS).index(name)
    trial = met.history.trials[number]
    assert trial.state == fault.state
    assert str(trial.result.get("error", "")).startswith(fault.why)
    retried = [event for event in met.events if event["event"] == "retried"]
    again = [event["outcome"] for event in retried if event["trial"] == number]
    assert again == ([fault.tried_again_for] if fault.tried_again_for else [])
    done = [event for event in met.events if event["event"] == "done"]
    assert [event["trial"] for event in done].count(number) == 1


def test_the_search_goes_on_beside_them_and_meets_its_budget(met: Met) -> None:
    rest = [trial for trial in met.history.trials.values() if trial.number >= len(FAULTS)]
    assert [trial.state for trial in rest] == ["complete"] * GOOD
    assert met.history.spent == GOOD + 3
    assert met.history.pending == []


def test_numbers_that_are_not_finite_are_no_accuracy(met: Met) -> None:
    trial = met.history.trials[list(FAULTS).index("gives NaN")]
    assert trial.result["accuracy"] is None
    assert trial.result["val_loss"] is None


def test_a_driver_keeps_nothing_of_a_million_lines(met: Met) -> None:
    printed = LINES * len(LINE)
    assert printed > 60e6
    # What sampler and tables take is in it.
    assert met.grown < printed / 2


def test_grandchildren_die_with_the_candidate(met: Met) -> None:
    pids = [int(pid) for pid in (met.directory / PIDS_NAME).read_text().split()]
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


# Workers that die.


def test_a_worker_killed_in_mid_training_costs_one_retry_and_no_trial(
    plan: Plan, finished: Path, tmp_path: Path
) -> None:
    left = {1}

    def kill(trial: int, pid: int) -> None:
        if trial in left:
            left.remove(trial)
            os.kill(pid, signal.SIGKILL)

    with recorded(tmp_path / "run") as records:
        history = searched(plan, records, Midway(1, kill))
        (retried,) = (event for event in records.events if event["event"] == "retried")
    assert (retried["trial"], retried["outcome"]) == (1, "crash")
    assert retried["why"].startswith("crash: killed by signal 9 (SIGKILL)")
    assert history.counts == {"complete": 3}
    assert_first_of(history, finished, 3)


def test_a_worker_killed_in_both_its_tries_is_a_failed_trial_with_the_reason(
    plan: Plan, tmp_path: Path
) -> None:
    def kill(trial: int, pid: int) -> None:
        if trial == 1:
            os.kill(pid, signal.SIGKILL)

    with recorded(tmp_path / "run") as records:
        history = searched(plan, records, Midway(1, kill))
        assert kinds(records.events).count("retried") == 1
    states = [trial.state for trial in history.trials.values()]
    assert states == ["complete", "failed", "complete", "complete"]
    assert str(history.trials[1].result["error"]).startswith("crash: killed by signal 9 (SIGKILL)")


@pytest.mark.slow
def test_a_worker_of_a_program_killed_in_mid_training_is_replaced(
    start: Start, inputs: Inputs, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    program = search(start, inputs, out, "--budget", "6", "--workers", "1")
    wait_for(program, out, "started", 2)
    assert wait_until(program, program.workers)
    for worker in program.workers():
        worker.kill()
    output = program.ends()
    assert "failed" not in output.split("ranking")[0]
    retries = [event for event in read_events(out) if event["event"] == "retried"]
    # It may have been between two jobs.
    assert len(retries) <= 1
    assert_exact(out, 6)
    assert_same(out, finished)


# Drivers that die.


@pytest.mark.slow
def test_a_driver_killed_twice_and_resumed_ends_as_one_that_was_left_alone(
    start: Start, inputs: Inputs, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    program = search(start, inputs, out, "--budget", "6", "--workers", "1")
    output, kills = kill_again_and_again(start, program, out, kills=2, seed=0)
    assert kills == 2
    assert "resumed: " in output
    assert_exact(out, 6)
    assert_same(out, finished)


@pytest.mark.slow
def test_a_driver_killed_ten_times_at_random_loses_and_doubles_no_trial(
    start: Start, inputs: Inputs, tmp_path: Path
) -> None:
    straight, out = tmp_path / "straight", tmp_path / "killed"
    plan, images = inputs.planned(budget=12)
    session.begin(plan, images, straight, QUIET)
    program = search(start, inputs, out, "--budget", "12", "--workers", "1")
    _, kills = kill_again_and_again(start, program, out, kills=10, seed=1)
    assert kills >= 8
    assert_exact(out, 12)
    assert_same(out, straight)


@pytest.mark.slow
def test_a_driver_of_two_workers_killed_at_random_meets_its_budget_exactly(
    start: Start, inputs: Inputs, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    program = search(start, inputs, out, "--budget", "12", "--workers", "2")
    _, kills = kill_again_and_again(start, program, out, kills=8, seed=2)
    assert kills >= 5
    history = assert_exact(out, 12)
    assert history.counts["complete"] == 12


@pytest.mark.slow
def test_a_driver_killed_between_rungs_goes_on_where_each_training_stopped(
    start: Start, inputs: Inputs, tmp_path: Path
) -> None:
    straight, out = tmp_path / "straight", tmp_path / "killed"
    plan, images = inputs.planned(
        budget=4, fidelity="halving", recipe=replace(RECIPE, epochs=LONGER)
    )
    session.begin(plan, images, straight, QUIET)
    words = ("--budget", "4", "--fidelity", "halving", "--epochs", str(LONGER), "--workers", "1")
    program = search(start, inputs, out, *words)
    _, kills = kill_again_and_again(start, program, out, kills=8, seed=3)
    assert kills >= 6
    history = assert_exact(out, None)
    assert {trial.rung for trial in history.done} >= {0, 1, 2}
    assert history.spent == History(read_events(straight)).spent
    assert_same(out, straight)


# Two at once.


@pytest.mark.slow
def test_a_second_search_on_a_directory_is_refused_and_the_first_undisturbed(
    start: Start, inputs: Inputs, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = search(start, inputs, out, "--budget", "6", "--workers", "1")
    wait_for(first, out, "started", 1)
    second = start("resume", out)
    third = search(start, inputs, out, "--budget", "6")
    owner = rf"must not be in use, it is by process {first.pid} on {socket.gethostname()}; wait"
    assert re.search(owner, second.ends(code=2))
    assert f"continue it with 'replk-search resume {out}'" in third.ends(code=2)
    first.ends()
    assert_exact(out, 6)
    assert_same(out, finished)


# Signals.


def send_ctrl_c_twice(pid: int) -> None:
    os.killpg(pid, signal.SIGINT)
    # The first one is being obeyed: children are killed, files removed.
    time.sleep(0.05)
    os.killpg(pid, signal.SIGINT)


ENDINGS: dict[str, Callable[[int], None]] = {
    "Ctrl-C twice": send_ctrl_c_twice,
    "SIGTERM": lambda pid: os.kill(pid, signal.SIGTERM),
    "SIGTERM to the whole group": lambda pid: os.killpg(pid, signal.SIGTERM),
    "SIGHUP of a closed terminal": lambda pid: os.killpg(pid, signal.SIGHUP),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDINGS)
def test_a_search_that_is_asked_to_end_does_and_can_be_resumed(
    start: Start, inputs: Inputs, finished: Path, home: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "run"
    program = search(start, inputs, out, "--budget", "6", "--workers", "1")
    wait_for(program, out, "started", 2)
    ENDINGS[name](program.pid)
    output = program.ends(code=130)
    assert output.splitlines()[-1] == (
        f"Interrupted. Everything finished is on disk; go on with 'replk-search resume {out}'."
    )
    assert_nothing_left(home)
    assert not (out / COPY_NAME).exists()
    # No signal was taken for a fault of a candidate.
    assert not {"retried"} & set(seen(out))
    assert all(trial.starts == 0 for trial in History(read_events(out)).pending)
    session.resume(out, QUIET)
    assert_exact(out, 6)
    assert_same(out, finished)


def test_a_second_signal_lets_the_clean_up_end_and_a_later_one_counts_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGTERM, None)
    interrupt(signal.SIGINT, None)
    monkeypatch.setattr(ending, "CLEAN_UP_S", 0.0)
    later = Interrupt()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            later(signal.SIGINT, None)


class Interrupting(Records):
    """A record during whose writing of one kind of event Ctrl-C is pressed."""

    kind = "started"

    def append(self, event: str, **fields: Any) -> Event:
        found = super().append(event, **fields)
        if event == self.kind:
            signal.raise_signal(signal.SIGINT)
        return found


@pytest.mark.parametrize("kind", ["asked", "started", "done"])
def test_ctrl_c_at_any_event_is_never_taken_for_a_training_that_ends_the_search(
    plan: Plan, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "run"
    recorded(out).close()
    # A shell that starts us in the background has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(2):
            with Interrupting.open(out) as records:
                assert isinstance(records, Interrupting)
                records.kind = kind
                with pytest.raises(KeyboardInterrupt):
                    searched(plan, records)
            assert all(trial.starts == 0 for trial in History(read_events(out)).pending)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "interrupted" in seen(out)


@pytest.mark.slow
def test_sigterm_of_a_scheduler_to_every_process_is_no_fault_of_a_candidate(
    start: Start, inputs: Inputs, finished: Path, tmp_path: Path
) -> None:
    """SLURM signals all processes of a step one by one, a worker perhaps before the driver."""
    out = tmp_path / "run"
    program = search(start, inputs, out, "--budget", "6", "--workers", "1")
    wait_for(program, out, "started", 2)
    assert wait_until(program, program.workers)
    for process in program.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    time.sleep(0.2)
    os.kill(program.pid, signal.SIGTERM)
    program.ends(code=130)
    assert not {"retried"} & set(seen(out))
    session.resume(out, QUIET)
    assert_exact(out, 6)
    assert_same(out, finished)


@pytest.mark.slow
def test_a_search_under_nohup_outlives_its_terminal_and_the_reader_of_its_output(
    start: Start, inputs: Inputs, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    # What `nohup replk-search ... | head -1` comes to.
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        program = search(start, inputs, out, "--budget", "6", "--workers", "1")
    finally:
        signal.signal(signal.SIGHUP, ignored)
    assert program.process.stdout is not None
    program.process.stdout.readline()
    program.process.stdout.close()
    wait_for(program, out, "started", 2)
    os.killpg(program.pid, signal.SIGHUP)
    assert program.process.wait(timeout=600) == 0
    assert_exact(out, 6)
    assert_same(out, finished)


# Clocks.


@pytest.fixture(scope="module")
def jumping_clock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library to be loaded first, in which the wall clock jumps back again and again."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("faults_clock.c")
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler, to put another clock before the system's")
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(list(map(str, command)), check=True)
    return str(library)


@pytest.mark.slow
def test_a_wall_clock_that_jumps_back_changes_no_duration_and_no_trial(
    start: Start, inputs: Inputs, finished: Path, tmp_path: Path, jumping_clock: str
) -> None:
    out = tmp_path / "run"
    earlier = {"LD_PRELOAD": jumping_clock, "FAULTS_CLOCK_S": str(-10 * 86400)}
    words = ("--budget", "6", "--workers", "1")
    program = search(start, inputs, out, *words, environment={"LD_PRELOAD": jumping_clock})
    wait_for(program, out, "done", 2)
    program.kill()
    start("resume", out, environment=earlier).ends()
    history = assert_exact(out, 6)
    assert_same(out, finished)
    begun = [datetime.fromisoformat(one["started"]) for one in history.sessions]
    assert begun[1] - begun[0] < timedelta(days=-9)
    for event in read_events(out):
        for key, value in event.items():
            if key.endswith(("_s", "seconds")) and value is not None:
                assert 0 <= value < 600, f"{key} of {event['event']}"
