"""Every fault that we can cause, with what must come of it.

No finished trial is lost or doubled, the budget is met exactly on resume, a message says what
happened, nothing is left behind. Two faults are tested elsewhere: a node of a Ray cluster that goes
and comes (`test_ray_cluster.py`), an Optuna storage that fails (`test_optuna_export.py`). The
record under random damage is in `test_records.py`, the pool alone in `test_workers.py`.
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
from runs.engines import LocalEngine
from runs.folders import run_directory
from runs.history import History
from runs.images import COPY_NAME
from runs.plan import Plan
from runs.records import RECORD_NAME, Event, Records, decode, read_events
from runs.rung_facts import rung_facts
from runs.search import Search
from runs.standings import ranked
from runs.workers import Job, Started
from search_space.errors import RunError, WorkFailed
from tests import faults_jobs
from tests.faults_disks import fill_last_page, largest_file, read_only, small_disk
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
from tests.micro import RECIPE, Inputs, Meddled, Silence, kinds
from tests.played import noisy, planned, played, schedule_of

pytest_plugins = ["tests.micro_fixtures", "tests.faults_fixtures"]

QUIET = session.Manner(quiet=True)
LONGER = 3
"""Epochs where a third of a third must still be a step."""
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def plan(inputs: Inputs) -> Plan:
    return inputs.planned(budget=3)[0]


@pytest.fixture(scope="module")
def halving(inputs: Inputs) -> Plan:
    """A plan in which most trainings stop on the way."""
    recipe = replace(RECIPE, epochs=LONGER)
    return inputs.planned(budget=1, fidelity="halving", recipe=recipe)[0]


def recorded(directory: Path) -> Records:
    """A new record that knows the reference's latency: measuring it takes two seconds."""
    records = Records.create(directory, {})
    records.append("reference", id="", latency_ms=0.5, latency_low_ms=0.4, latency_high_ms=0.6)
    return records


def searched(plan: Plan, records: Records, pool: Meddled | None = None) -> History:
    with pool or Meddled(plan.settings.workers) as pool:
        folder = pool._folder
        assert folder.is_dir()
        try:
            Search(plan, records, pool, Silence()).run()
        finally:
            pool.close()
            assert not folder.exists()
            assert running_jobs() == []
    return History(records.events)


def running_jobs() -> list[psutil.Process]:
    """Children of children of this process: a fork server's jobs, and what they started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if os.getsid(process.pid) != os.getsid(0):
                found.append(process)
        except ProcessLookupError:
            continue
    return found


def assert_first_of(history: History, finished: Path, count: int) -> None:
    """The first trials are, to the last bit, those of a run that met no fault."""
    straight = History(read_events(finished))
    for number in range(count):
        one, other = history.trials[number], straight.trials[number]
        assert (one.id, one.seed, one.state) == (other.id, other.seed, other.state)
        for key in ("accuracy", "val_loss", "curve", "macs", "params"):
            assert one.result[key] == other.result[key]


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


# Disks that take no more.


def test_a_disk_full_while_an_event_is_written_costs_that_event_alone(
    plan: Plan, finished: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        out = disk.path / "run"

        def meet(event: Started) -> None:
            # Its training is done, its result is not written yet.
            if seen(out).count("done") == 1 and trial_of(event.key) < 0:
                fill_last_page(records)
                disk.fill()

        with recorded(out) as records:
            said = (
                rf"{RECORD_NAME}: event 'done' could not .*No space left.* safe: make room, .*{out}"
            )
            with pytest.raises(RunError, match=said):
                searched(plan, records, Meddled(1, at_start=meet))
        disk.make_room()
        assert [trial.number for trial in History(read_events(out)).pending] == [1]
        with Records.open(out) as records:
            history = searched(plan, records)
            assert kinds(records.events).count("done") == 3
        assert history.counts == {"complete": 3}
        assert_first_of(history, finished, 3)


def test_an_event_that_only_partly_fits_is_taken_back_and_written_when_there_is_room(
    plan: Plan, finished: Path, tmp_path: Path
) -> None:
    """The same without root: a limit on the size of files instead of a full disk."""
    out = tmp_path / "run"
    limits = []

    def meet(event: Started) -> None:
        if seen(out).count("done") == 1 and trial_of(event.key) < 0:
            limits.append(largest_file((out / RECORD_NAME).stat().st_size + 100))
            limits[-1].__enter__()

    with recorded(out) as records:
        try:
            with pytest.raises(RunError, match=r"event 'done' could not be written, .*make room"):
                searched(plan, records, Meddled(1, at_start=meet))
        finally:
            limits.pop().__exit__(None, None, None)
    content = (out / RECORD_NAME).read_bytes()
    assert all(decode(line) for line in content.split(b"\n")[:-1])
    assert content.endswith(b"\n")
    with Records.open(out) as records:
        history = searched(plan, records)
    assert history.counts == {"complete": 3}
    assert_first_of(history, finished, 3)


def test_a_disk_full_while_weights_are_written_ends_the_session_and_no_trial(
    plan: Plan, finished: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        out = disk.path / "run"

        def meet(event: Started) -> None:
            if trial_of(event.key) == 1:
                disk.fill()

        with recorded(out) as records:
            said = rf"weights/1\.safetensors: could not .* make room on the disk, .*{out}"
            with pytest.raises(WorkFailed, match=said):
                searched(plan, records, Meddled(1, at_start=meet))
        disk.make_room()
        assert sorted(path.name for path in (out / "weights").iterdir()) == ["0.safetensors"]
        with Records.open(out) as records:
            history = searched(plan, records)
        assert history.counts == {"complete": 3}
        assert_first_of(history, finished, 3)


def test_a_disk_full_while_a_checkpoint_is_written_ends_the_session_and_no_trial(
    halving: Plan, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        out = disk.path / "run"

        def meet(event: Started) -> None:
            if trial_of(event.key) == 1:
                disk.fill()

        with recorded(out) as records:
            said = rf"checkpoints/1\.pt: could not be written, No space left .*resume {out}"
            with pytest.raises(WorkFailed, match=said):
                searched(halving, records, Meddled(1, at_start=meet))
        disk.make_room()
        assert [path.name for path in (out / "checkpoints").iterdir()] == ["0.pt"]
        with Records.open(out) as records:
            history = searched(halving, records)
        assert history.spent == 1
        assert history.pending == []


def test_a_disk_too_full_to_begin_is_refused_and_the_same_command_works_later(
    say: Say, inputs: Inputs, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        out = disk.path / "run"
        disk.fill()
        words = ("--space", inputs.space, "--data", inputs.data, "--out", out, "--quiet")
        given = (*words, "--budget", "1", "--objectives", "accuracy,macs", "--epochs", "0.1")
        code, printed, error = say(*given)
        assert (code, printed) == (2, "")
        assert re.search(r"Error: .*No space left on device", error)
        assert "Traceback" not in error
        disk.make_room()
        assert run_directory(out, "micro") == out
        with Records.create(out, {}):
            pass


@pytest.mark.slow
def test_a_checkpoint_that_is_gone_changes_no_result_and_a_torn_one_is_told(
    halving: Plan, tmp_path: Path
) -> None:
    spoilt: list[Path] = []

    def spoil(job: Job) -> Job:
        name = getattr(job.payload, "goes_on", None)
        if name is not None and len(spoilt) < 2:
            spoilt.append(Path(job.payload.run, name))
            if len(spoilt) == 1:
                spoilt[0].unlink()
            else:
                spoilt[1].write_bytes(spoilt[1].read_bytes()[:1000])
        return job

    plan = replace(halving, settings=replace(halving.settings, budget=2))
    with recorded(tmp_path / "whole") as records:
        whole = searched(plan, records)
    with recorded(tmp_path / "spoilt") as records:
        said = r"checkpoints/\d+\.pt: must be the state of this very training, .* delete it"
        with pytest.raises(WorkFailed, match=said):
            searched(plan, records, Meddled(1, change=spoil))
        spoilt[1].unlink()
        history = searched(plan, records)
    assert history.counts == whole.counts
    for number, trial in whole.trials.items():
        assert history.trials[number].id == trial.id
        for key in ("accuracy", "val_loss"):
            assert history.trials[number].result[key] == trial.result[key]


def test_a_disk_full_while_tables_and_page_are_written_leaves_the_old_ones(
    finished: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        out = disk.path / "run"
        subprocess.run(["cp", "-r", finished, out], check=True)
        names = ("trials.csv", "front.csv", "report.html", "figures/front.png", RECORD_NAME)
        before = {name: (out / name).read_bytes() for name in names}
        disk.fill()
        with pytest.raises(RunError, match=r"could not be written, No space left on device"):
            session.report(out)
        assert {name: (out / name).read_bytes() for name in names} == before
        assert [path.name for path in out.rglob("*.tmp")] == []
        disk.make_room()
        session.report(out)
        assert (out / "trials.csv").read_bytes() == before["trials.csv"]


# Directories that cannot be written.


def test_a_read_only_directory_is_refused_before_any_work(
    say: Say, run: Path, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def working(*_: object) -> None:
        raise AssertionError("a job was about to be started")

    monkeypatch.setattr(LocalEngine, "pool", working)
    before = (run / RECORD_NAME).read_bytes()
    given = ("--space", inputs.space, "--data", inputs.data, "--budget", "2")
    refused = r"must be a directory (of yours|that can be written)"
    with read_only(tmp_path):
        for words in ((*given, "--out", tmp_path / "new"), ("resume", run, "--budget", "9")):
            code, printed, error = say(*words)
            assert (code, printed) == (2, "")
            assert re.search(refused, error)
            assert "Traceback" not in error
        code, _, error = say("report", run)
        assert code == 2
        assert "could not be written" in error
    assert (run / RECORD_NAME).read_bytes() == before
    assert not (tmp_path / "new").exists()


# Records that were damaged.


def test_a_record_cut_at_any_byte_of_its_last_lines_keeps_every_whole_line(
    finished: Path, tmp_path: Path
) -> None:
    content = (finished / RECORD_NAME).read_bytes()
    lines = content.splitlines(keepends=True)
    start = len(content) - sum(map(len, lines[-2:]))
    (tmp_path / ".trials.count").write_text(f"{len(lines)}\n")
    for end in range(start, len(content) + 1):
        (tmp_path / RECORD_NAME).write_bytes(content[:end])
        whole = content[:end].count(b"\n")
        with Records.open(tmp_path) as records:
            assert [event["seq"] for event in records.events] == list(range(whole))
            # A number is never given twice, not even where its line was lost.
            assert records.append("after")["seq"] == len(lines)
        assert len(read_events(tmp_path)) == whole + 1
        (tmp_path / ".trials.count").write_text(f"{len(lines)}\n")


def test_a_byte_changed_anywhere_in_a_line_costs_that_line_alone(
    finished: Path, tmp_path: Path
) -> None:
    content = (finished / RECORD_NAME).read_bytes()
    lines = content.splitlines(keepends=True)
    middle = next(n for n, line in enumerate(lines) if b'"event":"done","trial":2' in line)
    start = sum(map(len, lines[:middle]))
    for at in range(start, start + len(lines[middle]) - 1):
        for change in (0x01, 0x80):
            damaged = bytearray(content)
            damaged[at] ^= change
            (tmp_path / RECORD_NAME).write_bytes(damaged)
            left = [event["seq"] for event in read_events(tmp_path)]
            assert left == [n for n in range(len(lines)) if n != middle]


def test_whichever_line_of_a_record_is_lost_the_rest_is_a_history(finished: Path) -> None:
    events = read_events(finished)
    for lost in range(len(events)):
        history = History([*events[:lost], *events[lost + 1 :]])
        assert history.spent + len(history.pending) >= 5
        assert history.next_number >= 5


class Remembering(History):
    """A history that keeps its events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        super().__init__()

    def apply(self, event: Event) -> None:
        self.events.append(event)
        super().apply(event)


def test_whichever_line_of_a_search_in_rungs_is_lost_it_goes_on_and_is_shown() -> None:
    given = {"fidelity": "halving", "sampler": "tpe", "objectives": ("accuracy", "macs")}
    plan = planned(budget=4, **given)
    whole = played(plan, noisy({}), history=Remembering())
    assert isinstance(whole, Remembering)
    assert {trial.rung for trial in whole.done} == {0, 1, 2}
    for lost in range(len(whole.events)):
        history = History([*whole.events[:lost], *whole.events[lost + 1 :]])
        number = history.next_number
        assert number == whole.next_number
        proposal = schedule_of(plan).propose(number, history)
        assert proposal is None or proposal == "wait" or proposal.architecture
        assert len(ranked(plan, history)) == len(history.done)
        rung_facts(plan, history)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut in mid-line", "NUL tail", "result lost", "trial lost"])
def test_a_damaged_record_is_told_and_its_run_completed(
    run: Path, finished: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = run / RECORD_NAME
    content = path.read_bytes()
    result, trial = (
        content.index(b'"event":"%s","trial":3' % kind) + 9 for kind in (b"done", b"asked")
    )
    damaged = {
        "cut in mid-line": content[: result + 40],
        "NUL tail": content[: result + 40] + b"\0" * 4096,
        "result lost": content[:result] + b"\xff" + content[result + 1 :],
        "trial lost": content[:trial] + b"\xff" + content[trial + 1 :],
    }
    path.write_bytes(damaged[damage])
    session.resume(run, QUIET)
    assert "of its events are lost" in caplog.text
    if damage == "trial lost":
        # Another training stands in; the number is not given again.
        history = History(read_events(run))
        assert 3 not in history.trials
        assert history.spent == 6
        assert "finished" in history.final
        return
    assert_exact(run, 6)
    assert_same(run, finished)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("emptied", "was emptied or overwritten, it held"),
        ("overwritten", "was emptied or overwritten, it held"),
        ("removed", "was emptied or overwritten, it held"),
        ("a directory", "must be a readable file, Is a directory"),
    ],
)
def test_a_record_that_is_gone_is_refused_and_never_begun_anew(
    say: Say, run: Path, damage: str, said: str
) -> None:
    path = run / RECORD_NAME
    if damage in ("emptied", "overwritten"):
        path.write_bytes(b"" if damage == "emptied" else b"\x00garbage\n" * 500)
    else:
        path.unlink()
    if damage == "a directory":
        path.mkdir()
    for words in (("resume", run), ("report", run)):
        code, printed, error = say(*words)
        assert (code, printed) == (2, "")
        assert said in error
        assert "Traceback" not in error


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
            if key.endswith(("_s", "seconds")):
                assert 0 <= value < 600, f"{key} of {event['event']}"
