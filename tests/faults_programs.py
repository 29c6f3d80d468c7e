"""Searches as programs of their own that tests kill, and what they leave."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from runs.history import SPENDING, History
from runs.records import RECORD_NAME, read_events
from tests.micro import Inputs, kinds

ROOT = Path(__file__).parents[1]
OPTIONS = (
    *("--objectives", "accuracy,macs", "--epochs", "1", "--batch-size", "32", "--seed", "3"),
    *("--keep-weights", "all", "--backend", "torch"),
)
"""Of a search that ends as the fixture `finished` does, at the same budget."""


class Program:
    """The program in a process group and a temporary folder of its own."""

    def __init__(
        self, *words: str | Path, home: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it; `home` is for temporary files, `environment` is added to ours."""
        home.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runs", *map(str, words)],
            cwd=ROOT,
            env={**os.environ, **(environment or {}), "TMPDIR": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def ends(self, code: int = 0) -> str:
        """Wait for its end with this exit code and without a traceback; give what it printed."""
        output, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == code, output
        assert "Traceback" not in output
        return output

    def kill(self) -> None:
        """End it as the power does: all of its group at once."""
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        with self.process:
            pass

    def children(self) -> list[psutil.Process]:
        """All processes that it has started, and they in turn."""
        return psutil.Process(self.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """The children that run jobs: each leads a session of its own."""
        found = []
        for child in self.children():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(child.pid) == child.pid:
                    found.append(child)
        return found


Start = Callable[..., Program]


def search(start: Start, inputs: Inputs, out: Path, *more: str, **options: Any) -> Program:
    """Start a micro search."""
    given = ("--space", inputs.space, "--data", inputs.data, "--out", out)
    return start(*given, *OPTIONS, *more, **options)


def seen(out: Path) -> list[str]:
    """Give the names of the events so far; none where there is no record yet."""
    return kinds(read_events(out)) if (out / RECORD_NAME).exists() else []


def wait_until(program: Program, reached: Callable[[], object], *, seconds: float = 300) -> bool:
    """Wait until something is so; false where the program ended well before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if reached():
            return True
        if program.process.poll() is not None:
            assert program.process.returncode == 0, program.process.communicate()[0]
            return False
        time.sleep(0.01)
    raise AssertionError("the search did not get that far")


def wait_for(program: Program, out: Path, event: str, times: int) -> None:
    """Wait until the record holds an event so many times."""
    reached = wait_until(program, lambda: seen(out).count(event) >= times)
    assert reached, f"the search ended without {times} {event}"


def kill_again_and_again(
    start: Start, program: Program, out: Path, *, kills: int, seed: int
) -> tuple[str, int]:
    """Kill a search at random points and resume it each time.

    Returns:
        What the last session printed, and how many kills there were before it was through.
    """
    dice = random.Random(seed)
    for kill in range(kills):
        before = len(seen(out))
        # The record comes with the first event; a session's first event is about itself.
        events = dice.randrange(1 if before == 0 else 0, 7)

        def reached(total: int = before + events) -> bool:
            return len(seen(out)) >= total

        if not wait_until(program, reached):
            return program.ends(), kill
        time.sleep(dice.uniform(0, 0.4))
        program.kill()
        program = start("resume", out)
    return program.ends(), kills


def table(out: Path) -> pd.DataFrame:
    """Give what does not depend on the hour and the machine's mood, a row a trial."""
    frame = pd.read_csv(out / "trials.csv").sort_values("trial", ignore_index=True)
    return frame[["trial", "role", "state", "id", "seed", "accuracy", "val_loss", "macs", "params"]]


def assert_same(one: Path, other: Path) -> None:
    """Compare two runs: trials, front, final training."""
    pd.testing.assert_frame_equal(table(one), table(other))
    fronts = [pd.read_csv(out / "front.csv") for out in (one, other)]
    for column in ("id", "accuracy", "test_accuracy"):
        assert list(fronts[0][column]) == list(fronts[1][column])
    finals = [History(read_events(out)).final["finaltrained"] for out in (one, other)]
    for key in ("id", "epochs", "accuracy", "test_accuracy"):
        assert finals[0][key] == finals[1][key]


def assert_exact(out: Path, budget: int | None) -> History:
    """Check that a run is through: its budget met, no trial lost, doubled or left over.

    With rungs a rest may remain that no training fits into; then give no budget.
    """
    events = read_events(out)
    history = History(events)
    for kind in ("asked", "done"):
        times = Counter(event["trial"] for event in events if event["event"] == kind)
        assert set(times.values()) == {1}, f"{kind} more than once: {times}"
    assert history.pending == []
    assert budget is None or history.spent == budget
    assert "finished" in history.final
    spending = [trial for trial in history.done if trial.state in SPENDING]
    trainings = {(trial.id, trial.seed, trial.rung) for trial in spending}
    assert len(trainings) == len(spending)
    assert sorted(table(out)["trial"]) == sorted(trial.number for trial in history.done)
    return history


def left_behind(home: Path) -> list[str]:
    """Name the processes that were started with this folder for temporary files, and live."""
    mark = f"TMPDIR={home}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (path / "environ").read_bytes():
                words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append(f"{path.name}: {words}")
    return found


def assert_nothing_left(home: Path) -> None:
    """Check that no process and no temporary folder of the program is left."""
    until = time.monotonic() + 10
    while left_behind(home) and time.monotonic() < until:
        time.sleep(0.02)
    assert left_behind(home) == []
    assert [path.name for path in home.glob("replk-search-*")] == []
