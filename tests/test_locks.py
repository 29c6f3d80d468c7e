"""The quiet lock, with real processes."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs.locks import QuietLock

ROOT = Path(__file__).resolve().parent.parent

TRAINING = """
import sys, time
from pathlib import Path
from runs.locks import QuietLock
lock = QuietLock(sys.argv[1])
steps = Path(sys.argv[2])
with lock.shared():
    print("holds", flush=True)
    number = 0
    while True:
        if sys.argv[3] == "yields":
            lock.yield_to_measurement()
        number += 1
        steps.write_text(str(number))
        time.sleep(0.001)
"""


@pytest.fixture
def trainings() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start_training(
    started: list[subprocess.Popen[str]], directory: Path, *, manner: str = "yields"
) -> Path:
    """Start a training that holds the lock; returns the file with its number of steps."""
    steps = directory / f"steps-{len(started)}"
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(directory), str(steps), manner],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    wait_until(lambda: number(steps) > 0)
    return steps


def number(steps: Path) -> int:
    return int(steps.read_text() or 0) if steps.exists() else 0


def wait_until(condition: object, *, seconds: float = 10.0) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_two_trainings_pause_while_a_measurement_runs_and_go_on_after_it(
    tmp_path: Path, trainings: list[subprocess.Popen[str]]
) -> None:
    files = [start_training(trainings, tmp_path) for _ in range(2)]
    for _ in range(3):
        with QuietLock(tmp_path).exclusive(timeout_s=10):
            before = [number(steps) for steps in files]
            time.sleep(0.1)
            assert [number(steps) for steps in files] == before
        wait_until(lambda before=before: all(map(int.__gt__, map(number, files), before)))


def test_a_training_killed_while_it_holds_the_lock_frees_it(
    tmp_path: Path, trainings: list[subprocess.Popen[str]]
) -> None:
    start_training(trainings, tmp_path, manner="never yields")
    with (
        pytest.raises(TimeoutError, match="did not pause in time"),
        QuietLock(tmp_path).exclusive(timeout_s=0.05),
    ):
        pass
    trainings[0].kill()
    with QuietLock(tmp_path).exclusive(timeout_s=10):
        pass


def test_a_measurement_that_gave_up_lets_the_trainings_go_on(
    tmp_path: Path, trainings: list[subprocess.Popen[str]]
) -> None:
    start_training(trainings, tmp_path, manner="never yields")
    steps = start_training(trainings, tmp_path)
    with pytest.raises(TimeoutError), QuietLock(tmp_path).exclusive(timeout_s=0.05):
        pass
    before = number(steps)
    wait_until(lambda: number(steps) > before)


def test_a_killed_measurement_frees_the_trainings(
    tmp_path: Path, trainings: list[subprocess.Popen[str]]
) -> None:
    measure = (
        "import sys, time; from runs.locks import QuietLock\n"
        "with QuietLock(sys.argv[1]).exclusive(): print('alone', flush=True); time.sleep(60)"
    )
    steps = start_training(trainings, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", measure, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    trainings.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "alone\n"
    before = number(steps)
    time.sleep(0.05)
    assert number(steps) == before
    process.kill()
    wait_until(lambda: number(steps) > before)


def test_a_waiting_measurement_is_not_starved_by_newcomers(tmp_path: Path) -> None:
    first = QuietLock(tmp_path)
    order: list[str] = []

    def measure() -> None:
        with QuietLock(tmp_path).exclusive():
            order.append("measurement")

    def train() -> None:
        with QuietLock(tmp_path).shared():
            order.append("newcomer")

    with first.shared():
        threads = [threading.Thread(target=measure), threading.Thread(target=train)]
        threads[0].start()
        time.sleep(0.05)
        threads[1].start()
        time.sleep(0.05)
        assert order == []
        waited = first.yield_to_measurement()
    for thread in threads:
        thread.join(timeout=10)
    assert order[0] == "measurement"
    assert waited > 0.0


def test_two_trainings_hold_the_lock_at_once(tmp_path: Path) -> None:
    with QuietLock(tmp_path).shared(), QuietLock(tmp_path).shared():
        pass


def test_yielding_to_nobody_takes_less_than_20_microseconds(tmp_path: Path) -> None:
    lock = QuietLock(tmp_path)
    with lock.shared():
        rounds = []
        for _ in range(20):
            begin = time.perf_counter()
            waits = [lock.yield_to_measurement() for _ in range(100)]
            rounds.append((time.perf_counter() - begin) / 100)
    assert set(waits) == {0.0}
    assert min(rounds) < 20e-6


def test_an_object_that_holds_the_lock_is_not_taken_again(tmp_path: Path) -> None:
    lock = QuietLock(tmp_path)
    with lock.shared(), pytest.raises(RuntimeError, match="held already"), lock.exclusive():
        pass
    with lock.exclusive():
        pass
