"""Where the time of the main job goes, how fast the program answers; asserts no time.

Run by `make bench`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from runs.records import read_events

ROOT = Path(__file__).parents[2]
BUDGET = 24
"""Trainings of the timed search: the first of the main job, anchors included."""


def test_trainings_per_minute_and_where_the_time_goes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "runs", "--budget", str(BUDGET), "--out", str(out), "--quiet"]
    begin = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - begin
    timing = next(event for event in read_events(out) if event["event"] == "timing")
    share = {name: timing[f"{name}_s"] / timing["worker_s"] for name in ("training", "latency")}
    print(
        f"\nmain job, {BUDGET} trainings: {60 * BUDGET / timing['wall_s']:.1f} trainings a minute; "
        f"training {share['training']:.1%}, latency {share['latency']:.1%}, "
        f"everything else {1 - sum(share.values()):.1%} of the workers' time; "
        f"start-up, front, final training and report {whole - timing['wall_s']:.0f} s"
    )
    assert timing["training_s"] > 0


@pytest.mark.parametrize("arguments", [("--help",), ("search", "--help"), ("--version",)])
def test_time_to_answer(benchmark: BenchmarkFixture, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "runs", *arguments]
    done = benchmark.pedantic(
        lambda: subprocess.run(command, cwd=ROOT, capture_output=True, check=True),
        rounds=5,
        warmup_rounds=1,
    )
    assert done.stdout
