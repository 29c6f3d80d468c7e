"""Jobs for tests on Ray, at the top level of a module that every worker can import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from runs.jobs import JobKey, Slots
from runs.locks import QuietLock
from runs.workers import Finished, Job, PoolEvent

Report = Callable[..., None]


def training(number: int, function: Callable[..., object], payload: object, **more: object) -> Job:
    """A job that is spread over the cluster."""
    key = JobKey(kind="train", trials=(number,))
    return Job(key=key, function=function, payload=payload, **more)  # type: ignore[arg-type]


def measurement(number: int, function: Callable[..., object], payload: object) -> Job:
    """A job of the measuring node."""
    key = JobKey(kind="latency", trials=(number,))
    return Job(key=key, function=function, payload=payload)


def finished(pool: Slots, jobs: Sequence[Job], limit_s: float = 240) -> list[PoolEvent]:
    """Run some jobs and give all their events."""
    waiting, found = list(jobs), list[PoolEvent]()
    until = time.monotonic() + limit_s
    while sum(isinstance(event, Finished) for event in found) < len(jobs):
        assert time.monotonic() < until, found
        while waiting and pool.free:
            pool.submit(waiting.pop(0))
        found += pool.events(1)
    return found


def outcomes(pool: Slots, jobs: Sequence[Job]) -> list[Finished]:
    """Run some jobs and give how they ended, in their order."""
    ends = {event.key: event for event in finished(pool, jobs) if isinstance(event, Finished)}
    return [ends[job.key] for job in jobs]


def ancestors(_: None = None, __: Report | None = None) -> list[int]:
    """Give the processes above this one: the fork server, the worker, then its node's."""
    return [process.pid for process in psutil.Process().parents()]


def stay(seconds: float, progress: Report) -> list[int]:
    """Say that it is there, and stay."""
    progress(pid=os.getpid())
    time.sleep(seconds)
    return ancestors()


@dataclass(frozen=True)
class Busy:
    """Something that takes time under the lock for quiet."""

    quiet: str
    seconds: float


def work_in_steps(job: Busy, progress: Report) -> list[tuple[float, float]]:
    """Give the stretches of time in which it worked, as a training does."""
    lock, steps = QuietLock(job.quiet), []
    with lock.shared():
        progress(begun=True)
        until = time.time() + job.seconds
        while (begin := time.time()) < until:
            time.sleep(0.01)
            steps.append((begin, time.time()))
            lock.yield_to_measurement()
    return steps


def measure_alone(job: Busy, _: Report) -> tuple[float, float]:
    """Give the stretch of time in which it measured."""
    with QuietLock(job.quiet).exclusive():
        begin = time.time()
        time.sleep(job.seconds)
        return begin, time.time()


class Dying:
    """A crew whose worker dies before it takes a job."""

    def __init__(self, **_: object) -> None:
        """Die."""
        os._exit(1)
