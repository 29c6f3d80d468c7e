"""What others take of the CPUs, with real processes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from evaluators import cpu_load
from evaluators.cpu_load import CpuLoad, available_cpus


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_processes_that_keep_every_cpu_busy_are_seen() -> None:
    busy = [
        subprocess.Popen(
            [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
        )
        for _ in available_cpus()
    ]
    try:
        for process in busy:
            assert process.stdout is not None
            process.stdout.readline()
        load = CpuLoad()
        time.sleep(0.3)
        foreign = load.foreign()
    finally:
        for process in busy:
            process.kill()
            process.communicate()
    assert foreign is not None
    assert foreign > 0.5


def test_the_own_work_of_the_process_is_not_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = available_cpus()
    # As if nobody else were there: the system counts what this process did, and an idle second.
    monkeypatch.setattr(cpu_load, "_busy_s", lambda _: 100.0 + time.process_time())
    load = CpuLoad()
    spin(0.05)
    assert load.foreign() == pytest.approx(0.0, abs=0.01 / len(cpus))


def test_a_system_that_tells_nothing_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*, percpu: bool) -> None:
        raise OSError(f"no /proc, percpu={percpu}")

    monkeypatch.setattr("psutil.cpu_times", silent)
    assert CpuLoad().foreign() is None


def test_there_is_a_cpu() -> None:
    assert len(available_cpus()) >= 1
