"""What search and closing steps ask of the pool: names of jobs, jobs done one after another."""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from runs.workers import Finished, Job, PoolEvent, Progress
from search_space.errors import RunError, WorkFailed

WAIT_S = 1.0
"""Longest sleep between two looks at the children."""
TIME_LIMIT_S = 1800.0
"""A training that takes longer hangs, where nothing is known about how long they take."""
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where Linux says what a container may take, in its second and first version."""
MEMORY_SHARE = 0.8
"""Part of the machine's memory that the trainings may take together."""

_REFUSED = f"{RunError.__module__}.{RunError.__qualname__}: "
"""How a child's report begins that could not write its files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobKey:
    """Names a job of a search."""

    kind: str
    """train, latency, calibration, timing, probe, test, final or baseline."""
    trials: tuple[int, ...] = ()
    """Numbers of the trials it is about, or of its part."""


class Slots(Protocol):
    """What runs jobs: a `Pool`, or anything with its slots and its events."""

    @property
    def free(self) -> int:
        """Number of jobs that `submit` takes now."""

    def submit(self, job: Job) -> None:
        """Start a job in a free slot."""

    def events(self, timeout: float | None = None) -> Sequence[PoolEvent]:
        """Wait up to `timeout` seconds for what happens next."""


OnProgress = Callable[[dict[str, Any]], None]


def key_of(event: PoolEvent) -> JobKey:
    """Give the name of the job that an event is about."""
    assert isinstance(event.key, JobKey)
    return event.key


def first_line(event: Finished) -> str:
    """Say in a line why a job did not end well."""
    return f"{event.outcome}: {(event.error or 'no reason given').splitlines()[0]}"


def refusal(event: Finished) -> str | None:
    """Give the sentence of a child that could not write its files; None where that was not it."""
    line = event.error.splitlines()[0] if event.error else ""
    return line.removeprefix(_REFUSED) if line.startswith(_REFUSED) else None


def single(pool: Slots, job: Job, on_progress: OnProgress = lambda _: None) -> Any:
    """Run one job alone and give its value.

    Raises:
        WorkFailed: the job did not end well.
    """
    return several(pool, [job], on_progress)[0]


def several(
    pool: Slots, jobs: Sequence[Job], on_progress: OnProgress = lambda _: None
) -> list[Any]:
    """Run some jobs, as many at a time as there are slots, and give their values in order.

    Raises:
        WorkFailed: a job did not end well.
    """
    waiting = deque(jobs)
    values: dict[JobKey, Any] = {}
    while len(values) < len(jobs):
        while waiting and pool.free:
            pool.submit(waiting.popleft())
        for event in pool.events(WAIT_S):
            if isinstance(event, Progress):
                on_progress(event.metrics)
            elif isinstance(event, Finished):
                if event.outcome != "ok":
                    raise WorkFailed(
                        refusal(event)
                        or f"{key_of(event).kind} job: must end well, got {first_line(event)}"
                    )
                values[key_of(event)] = event.value
    return [values[job.key] for job in jobs if isinstance(job.key, JobKey)]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C back for a `with` block: it comes before or after an event is written."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Memory that one training may take."""

    host_bytes: int
    """Main memory, beyond the libraries."""
    gpu_bytes: int | None = None
    """Of its GPU; None on a CPU."""
    alone_bytes: int = 0
    """The same for one that has nothing beside it; 0: not known to be more."""
    gpus: int = 0
    """GPUs among which the driver chooses; 0 where something else gives each training its own."""

    def network(self, *, alone: bool = False) -> int:
        """Give the bytes where the network lies: what its predicted memory is compared with."""
        share = self.host_bytes if self.gpu_bytes is None else self.gpu_bytes
        return max(share, self.alone_bytes) if alone else share

    def host(self, *, alone: bool = False) -> int:
        """Give the bytes of main memory."""
        return self.network(alone=alone) if self.gpu_bytes is None else self.host_bytes


def memory_limit(workers: int) -> int:
    """Give the bytes that one of so many trainings may take."""
    return int(MEMORY_SHARE * machine_bytes() / workers)


def machine_bytes() -> int:
    """Give the main memory of this machine, or of the container that this process is in."""
    limits = [psutil.virtual_memory().total]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(path.read_text()))
    return min(limits)
