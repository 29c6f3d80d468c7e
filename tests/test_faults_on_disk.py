"""Faults of what a run writes on: full and read-only disks, damaged records and checkpoints.

As in `test_faults.py`: nothing finished is lost or doubled, and a message says what happened.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runs import reporting, session
from runs.engines import LocalEngine
from runs.folders import run_directory
from runs.history import History
from runs.plan import Plan
from runs.records import RECORD_NAME, Event, Records, decode, read_events
from runs.rung_facts import rung_facts
from runs.standings import ranked
from runs.workers import Job, Started
from search_space.errors import RunError, WorkFailed
from tests.faults_disks import fill_last_page, largest_file, read_only, small_disk
from tests.faults_jobs import trial_of
from tests.faults_programs import (
    assert_exact,
    assert_same,
    seen,
)
from tests.faults_searches import QUIET, assert_first_of, recorded, searched
from tests.micro import Inputs, Meddled, kinds
from tests.played import noisy, planned, played, schedule_of

pytest_plugins = ["tests.micro_fixtures", "tests.faults_fixtures"]

Say = Callable[..., tuple[int, str, str]]


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
            with pytest.raises(WorkFailed, match=said):
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
            with pytest.raises(WorkFailed, match=r"event 'done' could not be written, .*make room"):
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
            reporting.report(out)
        assert {name: (out / name).read_bytes() for name in names} == before
        assert [path.name for path in out.rglob("*.tmp")] == []
        disk.make_room()
        reporting.report(out)
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
        assert "name another folder for the report with --out" in error
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
    assert re.search("events? (is|are) lost", caplog.text)
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
    code, printed, error = say("resume", run)
    assert (code, printed) == (2, "")
    assert said in error
    assert "Traceback" not in error
    # A report is made of the tables that are left.
    code, printed, error = say("report", run)
    assert code == 0
    assert "report.html" in printed
    (run / "trials.csv").unlink()
    code, printed, error = say("report", run)
    assert (code, printed) == (2, "")
    assert "must hold trials.jsonl of a run" in error
