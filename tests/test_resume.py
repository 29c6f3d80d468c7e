"""Runs that are killed, stopped and resumed, through the command line, with real trainings."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from runs.history import History
from runs.records import read_events
from tests.faults_programs import Start, assert_same, search, table, wait_for
from tests.micro import Inputs

pytest_plugins = ["tests.micro_fixtures", "tests.faults_fixtures"]


@pytest.mark.slow
def test_a_killed_and_resumed_run_ends_as_one_that_was_left_alone(
    start: Start, inputs: Inputs, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    killed = search(start, inputs, out, "--budget", "6", "--workers", "1")
    wait_for(killed, out, "started", 3)
    children = killed.children()
    os.killpg(killed.pid, signal.SIGKILL)
    killed.process.communicate()
    printed = start("resume", out).ends()
    assert "resumed: 2 trainings are done, 1 were cut off" in printed
    assert "ranking, first 6 of 6" in printed
    assert "6 trainings of 6 distinct networks; " in printed
    assert "multinomial logistic regression on the same data" in printed
    assert f"{out}/trials.csv" in printed
    assert_same(out, finished)
    assert not psutil.wait_procs(children, timeout=10)[1]


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    start: Start, inputs: Inputs, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    program = search(start, inputs, out, "--budget", "14", "--workers", "2")
    wait_for(program, out, "done", 1)
    children = program.children()
    assert len(children) >= 3
    os.killpg(program.pid, signal.SIGINT)
    output = program.ends(code=130)
    assert output.splitlines()[-1] == (
        f"Interrupted. Everything finished is on disk; go on with 'replk-search resume {out}'."
    )
    assert "Traceback" not in output
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert all(trial.starts == 0 for trial in History(read_events(out)).pending)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "after"),
    [(signal.SIGTERM, "done"), (signal.SIGINT, "session"), (signal.SIGTERM, "tested")],
)
def test_a_signal_to_the_driver_alone_ends_it_as_well_at_any_time(
    start: Start, inputs: Inputs, tmp_path: Path, number: int, after: str
) -> None:
    out = tmp_path / "run"
    program = search(start, inputs, out, "--budget", "2", "--workers", "2")
    wait_for(program, out, after, 1)
    children = program.children()
    os.kill(program.pid, number)
    output = program.ends(code=130)
    assert f"go on with 'replk-search resume {out}'." in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not psutil.wait_procs(children, timeout=10)[1]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0, 2.0])
def test_ctrl_c_before_the_run_began_is_no_traceback(
    start: Start, inputs: Inputs, tmp_path: Path, seconds: float
) -> None:
    program = search(start, inputs, tmp_path / "run", "--budget", "2")
    time.sleep(seconds)
    os.killpg(program.pid, signal.SIGINT)
    output, _ = program.process.communicate(timeout=60)
    assert program.process.returncode in (130, -signal.SIGINT)
    # In the first tenth of a second Python itself is starting.
    assert seconds < 0.2 or "Traceback" not in output


@pytest.mark.slow
def test_a_run_of_30_killed_three_times_at_random_ends_as_one_that_was_left_alone(
    start: Start, inputs: Inputs, tmp_path: Path
) -> None:
    straight, out = tmp_path / "straight", tmp_path / "killed"
    search(start, inputs, straight, "--budget", "30", "--workers", "1").ends()
    dice = random.Random(0)
    program = search(start, inputs, out, "--budget", "30", "--workers", "1")
    for trials in (4, 11, 23):
        wait_for(program, out, "asked", trials)
        time.sleep(dice.uniform(0, 0.6))
        os.killpg(program.pid, signal.SIGKILL)
        program.process.communicate()
        program = start("resume", out)
    program.ends()
    assert len(table(out)) == 30
    assert_same(out, straight)


@pytest.mark.slow
def test_killed_again_and_again_at_once_a_run_loses_no_trial(
    start: Start, inputs: Inputs, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    program = search(start, inputs, out, "--budget", "3", "--workers", "1")
    for start_number in (1, 2, 3):
        wait_for(program, out, "started", start_number)
        os.killpg(program.pid, signal.SIGKILL)
        program.process.communicate()
        program = start("resume", out)
    program.ends()
    assert table(out)["state"].tolist() == ["complete"] * 3
