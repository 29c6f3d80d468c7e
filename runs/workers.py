"""Jobs in processes of their own: a crash, a hang or a full memory is one failed job.

Each job runs in a child forked from a warm server (`multiprocessing`'s forkserver with torch
imported beforehand), so that it starts in a fraction of a second and takes nothing down with it.
The pool has no thread: all its work happens inside `Pool.events`, which sleeps until a pipe, the
end of a child or a deadline wakes it. Memory is watched from there too, so call it often.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal, Self

from runs.child import JOB_NAME, Surroundings, run_job
from runs.processes import (
    bare_main,
    cause_of_death,
    kill_group,
    make_folder,
    read_available,
    resident_bytes,
    server_surroundings,
    take_frames,
)
from search_space.errors import WorkFailed

logger = logging.getLogger(__name__)

Outcome = Literal["ok", "error", "crash", "timeout", "memory"]

START_LIMIT_S = 120.0
"""A child that has not begun by then is given up; forking takes well under a second."""
WATCH_S = 0.2
"""Seconds between two looks at the memory of children."""
GRACE_S = 5.0
"""How long a killed child may take to disappear before its slot is given to another."""
OUTPUT_BYTES = 64 * 1024
"""What is kept of a job's output: its end."""
SHOWN_OUTPUT = 2000
"""Bytes of it that an error shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One call in a child process."""

    key: Hashable
    """Names the job in every event about it."""
    function: Callable[[Any, Callable[..., None]], Any]
    """`function(payload, progress)`: at the top level of an importable module; calls
    `progress(**metrics)` whenever it likes and returns anything that can be pickled."""
    payload: Any
    """Anything that can be pickled."""
    time_limit_s: float | None = None
    """Counted from the moment the child begins."""
    memory_limit_bytes: int | None = None
    """Main memory for the job itself, beyond the libraries that all children share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The child has begun with the job."""

    key: Hashable
    pid: int
    """Also the id of its process group."""
    delay_s: float
    """From `submit` to the beginning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The job called `progress`."""

    key: Hashable
    metrics: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The job is over, its processes are gone and its slot is free."""

    key: Hashable
    outcome: Outcome
    """`ok`; `error`: it raised; `crash`: it died; `timeout` and `memory`: over its limits."""
    value: Any = None
    """What the function returned, where the outcome is `ok`."""
    error: str = ""
    """One line that says what happened; below it the calls and the end of the output."""
    seconds: float = 0.0
    """From the beginning in the child; 0 where it never began."""


PoolEvent = Started | Progress | Finished


@dataclass(kw_only=True, slots=True)
class _Worker:
    job: Job
    process: ForkServerProcess
    channel: Connection
    """Frames from the child, read in pieces so that half a frame never blocks the driver."""
    output: Connection
    folder: Path
    submitted: float
    began: float | None = None
    resident: int = 0
    """Bytes in memory when it began: the shared libraries."""
    received: bytearray = field(default_factory=bytearray)
    printed: bytearray = field(default_factory=bytearray)
    verdict: Finished | None = None
    """The outcome, once known; an event as soon as the process is gone."""
    decided: float = 0.0
    look_at: float = 0.0
    """When its memory is looked at next."""


class Pool:
    """Runs each job in a fresh child; at most `workers` at a time.

    Use it as a context manager, or `close` it: that ends all children. When the driver dies, even
    by SIGKILL, they die with it. Temporary files of a job go to a directory of its own that is
    removed with it; what a killed driver left behind is removed by the next pool.
    """

    def __init__(
        self,
        workers: int,
        *,
        preload: tuple[str, ...] = ("runs.warm",),
        threads: int = 1,
        cuda: bool = False,
    ) -> None:
        """Start the server, which needs seconds to import `preload`; does not wait for it.

        Args:
            workers: children at a time, at least 1.
            preload: modules that the server imports once; must not touch CUDA or start threads.
                The first pool of a process decides, the server is shared by later ones.
            threads: for torch in each child.
            cuda: jobs use CUDA, which reserves far more than it uses: memory is then watched only,
                not refused by the kernel.
        """
        if workers < 1 or threads < 1:
            raise ValueError(f"workers and threads must be at least 1, got {workers}, {threads}")
        self._size = workers
        self._threads = threads
        self._limit_data = not cuda
        self._preload = preload
        self._workers: dict[Hashable, _Worker] = {}
        self._jobs = 0
        self._told_cold = False
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        with server_surroundings():
            forkserver.ensure_running()
        self._folder, self._folder_lock = make_folder()
        # multiprocessing would wait for the children at exit.
        atexit.register(self.close)

    @property
    def free(self) -> int:
        """Number of jobs that `submit` takes now."""
        return self._size - len(self._workers)

    def submit(self, job: Job) -> None:
        """Start a job in a free slot; returns within milliseconds once the server is warm.

        Raises:
            ValueError: no slot is free, the key is running, or the function is of `__main__`,
                which children do not import.
            WorkFailed: no process could be started, or its temporary directory is full.
        """
        if self.free < 1:
            raise ValueError("no slot is free; see Pool.free")
        if job.key in self._workers:
            raise ValueError(f"a job with key {job.key!r} is running")
        if getattr(job.function, "__module__", None) == "__main__":
            raise ValueError(f"{job.function!r} must be in an importable module, not in __main__")
        content = pickle.dumps((job.function, job.payload))
        submitted = time.monotonic()
        folder = self._folder / str(self._jobs)
        self._jobs += 1
        surroundings = Surroundings(
            folder=str(folder),
            threads=self._threads,
            memory_limit_bytes=job.memory_limit_bytes,
            limit_data=self._limit_data,
            preload=self._preload,
        )
        channel, channel_end = self._context.Pipe(duplex=False)
        output, output_end = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=run_job, args=(channel_end, output_end, surroundings)
        )
        # Ctrl-C comes before or after this block: no child is started and then forgotten.
        with contextlib.ExitStack() as stack:
            stack.enter_context(server_surroundings())
            stack.enter_context(channel_end)
            stack.enter_context(output_end)
            try:
                folder.mkdir()
                # A file, not a pipe: a large payload must not make the driver wait for the child.
                (folder / JOB_NAME).write_bytes(content)
                with bare_main():
                    process.start()
            except (OSError, EOFError) as error:
                channel.close()
                output.close()
                shutil.rmtree(folder, ignore_errors=True)
                raise WorkFailed(
                    f"{folder}: a child could not be started there, {error}"
                ) from error
            os.set_blocking(channel.fileno(), False)
            os.set_blocking(output.fileno(), False)
            self._workers[job.key] = _Worker(
                job=job,
                process=process,
                channel=channel,
                output=output,
                folder=folder,
                submitted=submitted,
            )

    def events(self, timeout: float | None = None) -> list[PoolEvent]:
        """Return what happened, oldest first for each job.

        Waits up to `timeout` seconds (None: without limit) for the first event; returns an empty
        list at once where nothing runs.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            found = self._step(until)
            if found or not self._workers or (until is not None and time.monotonic() >= until):
                return found

    def close(self) -> None:
        """End all jobs and remove their files; a second call does nothing."""
        for worker in self._workers.values():
            kill_group(worker.process)
        until = time.monotonic() + GRACE_S
        for worker in self._workers.values():
            wait([worker.process.sentinel], max(0.0, until - time.monotonic()))
            self._remove(worker)
        self._workers.clear()
        if self._folder_lock >= 0:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._folder_lock)
            self._folder_lock = -1
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pool."""
        self.close()

    def _step(self, until: float | None) -> list[PoolEvent]:
        """Sleep until something happens, then look at every worker once."""
        workers = list(self._workers.values())
        sources: list[Any] = [worker.process.sentinel for worker in workers]
        for worker in workers:
            sources += [pipe for pipe in (worker.channel, worker.output) if not pipe.closed]
        alarms = [at for at in [until, *map(_alarm, workers)] if at is not None]
        sleep = max(0.0, min(alarms) - time.monotonic()) if alarms else None
        ready = set(wait(sources, sleep)) if sources else set()
        found: list[PoolEvent] = []
        for worker in workers:
            gone = worker.process.sentinel in ready
            if gone:
                # What it started must not outlive it, nor write on.
                kill_group(worker.process)
            if worker.output in ready:
                read_available(worker.output, worker.printed)
                del worker.printed[:-OUTPUT_BYTES]
            if worker.channel in ready:
                read_available(worker.channel, worker.received)
                found += self._parse(worker)
            # A pipe that had more to say is still readable, and so is the sentinel: next round.
            if gone and (worker.channel not in ready or worker.channel.closed):
                found.append(self._finish(worker))
                continue
            self._judge(worker)
            if worker.verdict and not gone and time.monotonic() > worker.decided + GRACE_S:
                logger.warning("process %s cannot be killed; left alone", worker.process.pid)
                found.append(self._finish(worker))
        return found

    def _parse(self, worker: _Worker) -> list[PoolEvent]:
        """Take the whole frames out of what a child has sent."""
        found: list[PoolEvent] = []
        for kind, *content in take_frames(worker.received):
            if worker.verdict is not None:
                continue
            if kind == "started":
                worker.began, worker.resident, missing = content
                if missing and not self._told_cold:
                    self._told_cold = True
                    names = ", ".join(missing)
                    logger.warning("jobs start slowly: the fork server did not import %s", names)
                pid, delay = worker.process.pid or 0, worker.began - worker.submitted
                found.append(Started(key=worker.job.key, pid=pid, delay_s=delay))
                continue
            try:
                if kind == "progress":
                    found.append(Progress(key=worker.job.key, metrics=pickle.loads(content[0])))
                else:
                    outcome, value, error, seconds = content
                    result = pickle.loads(value) if outcome == "ok" else None
                    self._decide(worker, outcome, error, value=result, seconds=seconds)
            except Exception as failure:  # noqa: BLE001
                # Unpickling runs the job's own code: it must not end the driver.
                self._decide(worker, "error", f"what the job sent cannot be read: {failure!r}")
        return found

    def _decide(
        self,
        worker: _Worker,
        outcome: Outcome,
        error: str,
        *,
        value: Any = None,
        seconds: float | None = None,
    ) -> Finished:
        """Fix the outcome of a job, the first one counts, and end its processes."""
        if worker.verdict is None:
            now = worker.decided = time.monotonic()
            if seconds is None:
                seconds = 0.0 if worker.began is None else now - worker.began
            worker.verdict = Finished(
                key=worker.job.key, outcome=outcome, value=value, error=error, seconds=seconds
            )
        kill_group(worker.process)
        return worker.verdict

    def _judge(self, worker: _Worker) -> None:
        """End a job that is over a limit."""
        now, alarm = time.monotonic(), _alarm(worker)
        if worker.verdict is not None or alarm is None or now < alarm:
            return
        job = worker.job
        if worker.began is None:
            self._decide(worker, "crash", f"the child did not begin within {START_LIMIT_S:g} s")
        elif job.time_limit_s is not None and now >= worker.began + job.time_limit_s:
            self._decide(worker, "timeout", f"took longer than {job.time_limit_s:g} s")
        elif job.memory_limit_bytes is not None:
            worker.look_at = now + WATCH_S
            used = resident_bytes(worker.process.pid) - worker.resident
            if used > job.memory_limit_bytes:
                limit = job.memory_limit_bytes
                self._decide(worker, "memory", f"used {used:,} bytes, the limit is {limit:,}")

    def _finish(self, worker: _Worker) -> Finished:
        """Free the slot of a job whose child is gone and tell its outcome."""
        finished = self._decide(worker, "crash", cause_of_death(worker.process.exitcode))
        if finished.outcome != "ok" and worker.printed:
            shown = bytes(worker.printed[-SHOWN_OUTPUT:]).decode(errors="replace").strip()
            finished = replace(finished, error=f"{finished.error}\nend of its output:\n{shown}")
        self._remove(worker)
        del self._workers[worker.job.key]
        return finished

    def _remove(self, worker: _Worker) -> None:
        """Close what belongs to a child and delete its files."""
        worker.channel.close()
        worker.output.close()
        if worker.process.exitcode is not None:
            worker.process.join()
            worker.process.close()
        shutil.rmtree(worker.folder, ignore_errors=True)


def _alarm(worker: _Worker) -> float | None:
    """Return when a child must be looked at even if it is silent."""
    if worker.verdict is not None:
        return worker.decided + GRACE_S
    if worker.began is None:
        return worker.submitted + START_LIMIT_S
    alarms = []
    if worker.job.time_limit_s is not None:
        alarms.append(worker.began + worker.job.time_limit_s)
    if worker.job.memory_limit_bytes is not None:
        alarms.append(worker.look_at)
    return min(alarms, default=None)
