"""Trainings that misbehave, in place of `train_network`, and a pool that meets trainings midway."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from runs.jobs import JobKey, key_of
from runs.objective import TrainJob, train_network
from runs.workers import Job, PoolEvent, Progress, Started
from tests.micro import Meddled

Report = Callable[..., None]

LINES = 1_000_000
LINE = "a line of a candidate that does not stop talking about itself\n"
PIDS_NAME = "grandchildren"


def raises(_: TrainJob, __: Report) -> None:
    raise RuntimeError("no such kernel")


def hangs(_: TrainJob, __: Report) -> None:
    time.sleep(600)


def ignores_sigterm(_: TrainJob, __: Report) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        time.sleep(0.01)


def needs_100_gb(_: TrainJob, __: Report) -> float:
    return float(np.ones(100 * 10**9 // 8).sum())


def prints_a_million_lines(job: TrainJob, progress: Report) -> dict[str, Any]:
    for _ in range(LINES):
        sys.stdout.write(LINE)
    return train_network(job, progress)


def gives_nan(job: TrainJob, progress: Report) -> dict[str, Any]:
    return train_network(job, progress) | {"accuracy": math.nan, "val_loss": math.nan}


def leaves(_: TrainJob, __: Report) -> None:
    os._exit(0)


def forks(job: TrainJob, progress: Report) -> dict[str, Any]:
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    Path(job.run, PIDS_NAME).write_text(" ".join(str(child.pid) for child in children))
    return train_network(job, progress)


def trial_of(key: object) -> int:
    """The trial that a training is about; -1 for another job."""
    assert isinstance(key, JobKey)
    return key.trials[0] if key.kind == "train" else -1


class Midway(Meddled):
    """A pool that does something to a training at its first sign of progress."""

    def __init__(self, workers: int, meet: Callable[[int, int], None], **options: Any) -> None:
        """Start it; `meet` gets the trial and the process of a training that is under way."""
        super().__init__(workers, at_start=self._remember, **options)
        self._meet = meet
        self._pids: dict[int, int] = {}

    def _remember(self, event: Started) -> None:
        self._pids[trial_of(event.key)] = event.pid

    def events(self, timeout: float | None = None) -> list[PoolEvent]:
        """Give the events as they are."""
        found = super().events(timeout)
        for event in found:
            if isinstance(event, Progress) and key_of(event).kind == "train":
                pid = self._pids.pop(trial_of(event.key), None)
                if pid is not None:
                    self._meet(trial_of(event.key), pid)
        return found


def in_place_of_training(job: Job, function: Any, **limits: Any) -> Job:
    """Give a training's job another function."""
    return replace(job, function=function, **limits)
