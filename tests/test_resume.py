"""Runs that are killed, stopped and resumed, through the command line, with real trainings."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from runs.history import History
from runs.records import RECORD_NAME, read_events
from tests.micro import Inputs, kinds

pytest_plugins = ["tests.micro_fixtures"]

ROOT = Path(__file__).parents[1]
OPTIONS = (
    *("--objectives", "accuracy,macs", "--epochs", "1", "--batch-size", "32", "--seed", "3"),
    *("--keep-weights", "all", "--backend", "torch"),
)


class Program:
    """A search in a process group of its own."""

    def __init__(self, *words: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runs", *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def ends(self, code: int = 0) -> str:
        """Wait for its end with this exit code; give what it printed."""
        output, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == code, output
        return output

    def children(self) -> list[psutil.Process]:
        """All processes that it has started, and they in turn."""
        return psutil.Process(self.pid).children(recursive=True)


@pytest.fixture
def start() -> Iterator[type[Program]]:
    """Start programs that do not outlive the test."""
    started: list[Program] = []

    class Started(Program):
        def __init__(self, *words: str | Path) -> None:
            super().__init__(*words)
            started.append(self)

    yield Started
    for program in started:
        if program.process.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
        with program.process:
            pass


def search(start: type[Program], inputs: Inputs, out: Path, *more: str) -> Program:
    return start("--space", inputs.space, "--data", inputs.data, "--out", out, *OPTIONS, *more)


def wait_for(program: Program, out: Path, event: str, times: int) -> None:
    """Wait until the record holds an event so many times."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if (out / RECORD_NAME).exists() and kinds(read_events(out)).count(event) >= times:
            return
        assert program.process.poll() is None, program.process.communicate()[0]
        time.sleep(0.01)
    raise AssertionError("the search did not get that far")


def table(out: Path) -> pd.DataFrame:
    frame = pd.read_csv(out / "trials.csv").sort_values("trial", ignore_index=True)
    return frame[["trial", "role", "state", "id", "seed", "accuracy", "val_loss", "macs", "params"]]


def assert_same(one: Path, other: Path) -> None:
    pd.testing.assert_frame_equal(table(one), table(other))
    fronts = [pd.read_csv(out / "front.csv") for out in (one, other)]
    for column in ("id", "accuracy", "test_accuracy"):
        assert list(fronts[0][column]) == list(fronts[1][column])
    finals = [History(read_events(out)).final["finaltrained"] for out in (one, other)]
    for key in ("id", "epochs", "accuracy", "test_accuracy"):
        assert finals[0][key] == finals[1][key]


def test_a_killed_and_resumed_run_ends_as_one_that_was_left_alone(
    start: type[Program], inputs: Inputs, finished: Path, tmp_path: Path
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


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    start: type[Program], inputs: Inputs, tmp_path: Path
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
    start: type[Program], inputs: Inputs, tmp_path: Path, number: int, after: str
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
    start: type[Program], inputs: Inputs, tmp_path: Path, seconds: float
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
    start: type[Program], inputs: Inputs, tmp_path: Path
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
    start: type[Program], inputs: Inputs, tmp_path: Path
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
