"""Runs that are killed, stopped and resumed, through the command line, with real trainings of a tiny space."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from runs.records import Records, read_events
from tests.micro import write_data, write_space

ROOT = Path(__file__).parents[1]
SETTINGS = ("--objectives", "accuracy,macs", "--epochs", "1", "--batch-size", "32", "--seed", "3")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return write_space(folder / "micro.yaml"), write_data(folder / "shapes.npz")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runs", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def search(inputs: tuple[Path, Path], out: Path, *more: str) -> subprocess.Popen[str]:
    space, data = inputs
    return start("--space", space, "--data", data, "--out", out, *SETTINGS, *more)


def wait_for(out: Path, trials: int) -> None:
    """Wait until so many trials are asked for."""
    for _ in range(3000):
        if (out / "trials.jsonl").exists():
            asked = sum(event["event"] == "asked" for event in read_events(out))
            if asked > trials:
                return
        time.sleep(0.02)
    raise AssertionError("the search did not get that far")


def table(out: Path) -> pd.DataFrame:
    frame = pd.read_csv(out / "trials.csv").sort_values("trial", ignore_index=True)
    return frame[["trial", "role", "state", "id", "seed", "accuracy", "val_loss", "macs", "params"]]


@pytest.fixture(scope="module")
def straight(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    finish(search(inputs, out, "--budget", "14", "--workers", "1"))
    return out


def test_a_run_killed_three_times_ends_as_one_that_was_left_alone(
    inputs: tuple[Path, Path], straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    dice = random.Random(0)
    process = search(inputs, out, "--budget", "14", "--workers", "1")
    for trials in (2, 6, 10):
        wait_for(out, trials)
        time.sleep(dice.uniform(0, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        process = start("resume", out)
    finish(process)
    pd.testing.assert_frame_equal(table(out), table(straight))
    front, expected = pd.read_csv(out / "front.csv"), pd.read_csv(straight / "front.csv")
    assert list(front["id"]) == list(expected["id"])


def test_the_same_seed_gives_the_same_trials(
    inputs: tuple[Path, Path], straight: Path, tmp_path: Path
) -> None:
    finish(search(inputs, tmp_path / "again", "--budget", "14", "--workers", "1"))
    pd.testing.assert_frame_equal(table(tmp_path / "again"), table(straight))


def test_with_two_workers_nothing_is_lost_or_doubled_and_accuracies_are_the_network_s_own(
    inputs: tuple[Path, Path], straight: Path, tmp_path: Path
) -> None:
    finish(search(inputs, tmp_path / "two", "--budget", "14", "--workers", "2"))
    two, one = table(tmp_path / "two"), table(straight)
    assert len(two) == 14
    assert two["id"].is_unique
    both = two.merge(one, on="id")
    assert len(both) >= 5
    assert list(both["accuracy_x"]) == list(both["accuracy_y"])
    assert list(both["seed_x"]) == list(both["seed_y"])


def test_a_larger_budget_continues_the_run(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", straight, out], check=True)
    finish(start("resume", out, "--budget", "17"))
    frame = table(out)
    assert len(frame) == 17
    pd.testing.assert_frame_equal(frame.head(14), table(straight))


def test_resuming_a_finished_run_trains_nothing(straight: Path) -> None:
    before = [event for event in read_events(straight) if event["event"] == "done"]
    finish(start("resume", straight))
    assert [event for event in read_events(straight) if event["event"] == "done"] == before


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = search(inputs, out, "--budget", "14", "--workers", "2")
    wait_for(out, 3)
    os.killpg(process.pid, signal.SIGINT)
    output = finish(process, code=130)
    assert f"replk-search resume {out}" in output
    assert "Traceback" not in output
    finish(start("resume", out))
    assert len(table(out)) == 14


def test_a_second_process_on_a_run_is_refused(straight: Path) -> None:
    with Records.open(straight):
        output = finish(start("resume", straight), code=2)
    assert f"process {os.getpid()}" in output
    assert "Traceback" not in output


def test_an_existing_run_is_never_overwritten(inputs: tuple[Path, Path], straight: Path) -> None:
    output = finish(search(inputs, straight, "--budget", "3"), code=2)
    assert f"replk-search resume {straight}" in output


def test_a_changed_plan_is_refused(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", straight, out], check=True)
    plan = out / "run.yaml"
    plan.write_text(plan.read_text().replace("seed: 3", "seed: 4"))
    assert "must stay as the search wrote it" in finish(start("resume", out), code=2)
    plan.unlink()
    finish(start("resume", out))
    assert "seed: 3" in plan.read_text()
