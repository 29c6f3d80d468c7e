"""Jobs in processes of their own: a crash, a hang or a full memory is one failed job.

Each job runs in a child forked from a warm server (`multiprocessing`'s forkserver with torch
imported beforehand), so that it starts in a fraction of a second and takes nothing down with it.
The pool has no thread: all its work happens inside `Pool.events`, which sleeps until a pipe, the
end of a child or a deadline wakes it. Memory is watched from there too, so call it often.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

import psutil

from runs.child import FRAME, JOB_NAME, Surroundings, run_job

logger = logging.getLogger(__name__)

Outcome = Literal["ok", "error", "crash", "timeout", "memory"]

START_LIMIT_S = 120.0
"""A child that has not begun by then is given up; forking takes well under a second."""
WATCH_S = 0.2
"""Seconds between two looks at the memory of children."""
GRACE_S = 5.0
"""How long a killed child may take to disappear before its slot is given to another."""
READ_BYTES = 1 << 20
"""Most that is read from one pipe at a time, so that no child holds up the others."""
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
        with _server_surroundings():
            forkserver.ensure_running()
        self._folder, self._folder_lock = _make_folder()
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
            RuntimeError: no process could be started.
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
        folder.mkdir()
        # A file, not a pipe: a large payload must not make the driver wait for the child.
        (folder / JOB_NAME).write_bytes(content)
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
        try:
            with _server_surroundings(), _bare_main():
                process.start()
        except (OSError, EOFError) as error:
            channel.close()
            output.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise RuntimeError(f"the fork server could not start a process: {error!r}") from error
        finally:
            # Only the child holds them now: its end is the end of the pipes.
            channel_end.close()
            output_end.close()
        for pipe in (channel, output):
            os.set_blocking(pipe.fileno(), False)
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

    def kill(self, key: Hashable) -> None:
        """End a running job; its `Finished` event says `crash`."""
        self._decide(self._workers[key], "crash", "stopped by the driver")

    def close(self) -> None:
        """End all jobs and remove their files; a second call does nothing."""
        for worker in self._workers.values():
            _kill(worker)
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
                _kill(worker)
            if worker.output in ready:
                _read(worker.output, worker.printed)
                del worker.printed[:-OUTPUT_BYTES]
            if worker.channel in ready:
                _read(worker.channel, worker.received)
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
        received = worker.received
        while len(received) >= FRAME.size:
            end = FRAME.size + FRAME.unpack_from(received)[0]
            if len(received) < end:
                break
            kind, *content = pickle.loads(received[FRAME.size : end])
            del received[:end]
            if worker.verdict is not None:
                continue
            if kind == "started":
                worker.began, worker.resident, missing = content
                if missing and not self._told_cold:
                    self._told_cold = True
                    names = ", ".join(missing)
                    logger.warning("jobs start slowly: the fork server did not import %s", names)
                delay = worker.began - worker.submitted
                pid = worker.process.pid or 0
                found.append(Started(key=worker.job.key, pid=pid, delay_s=delay))
            elif kind == "progress":
                found.append(Progress(key=worker.job.key, metrics=pickle.loads(content[0])))
            else:
                self._conclude(worker, *content)
        return found

    def _conclude(
        self, worker: _Worker, outcome: Outcome, value: bytes, error: str, seconds: float
    ) -> None:
        """Take in the child's own account of its end."""
        result = None
        try:
            if outcome == "ok":
                result = pickle.loads(value)
        except Exception as failure:  # noqa: BLE001
            outcome, error = "error", f"the result cannot be read: {failure!r}"
        self._decide(worker, outcome, error, value=result, seconds=seconds)

    def _decide(
        self,
        worker: _Worker,
        outcome: Outcome,
        error: str,
        *,
        value: Any = None,
        seconds: float | None = None,
    ) -> None:
        """Fix the outcome of a job, the first one counts, and end its processes."""
        if worker.verdict is None:
            now = worker.decided = time.monotonic()
            if seconds is None:
                seconds = 0.0 if worker.began is None else now - worker.began
            worker.verdict = Finished(
                key=worker.job.key, outcome=outcome, value=value, error=error, seconds=seconds
            )
        _kill(worker)

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
            used = _resident(worker.process.pid) - worker.resident
            if used > job.memory_limit_bytes:
                limit = job.memory_limit_bytes
                self._decide(worker, "memory", f"used {used:,} bytes, the limit is {limit:,}")

    def _finish(self, worker: _Worker) -> Finished:
        """Free the slot of a job whose child is gone and tell its outcome."""
        code = worker.process.exitcode
        self._decide(worker, "crash", _cause_of_death(code))
        finished = worker.verdict
        assert finished is not None
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


def _read(pipe: Connection, into: bytearray) -> None:
    """Add what a pipe holds now; closes it at its end."""
    limit = len(into) + READ_BYTES
    while len(into) < limit:
        try:
            part = os.read(pipe.fileno(), READ_BYTES)
        except BlockingIOError:
            return
        if not part:
            pipe.close()
            return
        into += part


def _kill(worker: _Worker) -> None:
    """Kill a child and all that it started in its session."""
    pid = worker.process.pid
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
        return
    # It has not made its session yet.
    if worker.process.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _resident(pid: int | None) -> int:
    """Return the bytes of main memory that a process occupies; 0 where it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _cause_of_death(code: int | None) -> str:
    """Say how a process ended that gave no account of itself."""
    if code is None:
        return "cannot be killed"
    if code >= 0:
        return f"ended with exit code {code} before the job was done"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unnamed"
    hint = "; perhaps by the system, for lack of memory" if -code == signal.SIGKILL else ""
    return f"killed by signal {-code} ({name}){hint}"


@contextlib.contextmanager
def _server_surroundings() -> Iterator[None]:
    """What the fork server is to inherit if it is started inside.

    It looks for modules where this program was found (before Python 3.12.5 it is not told the
    path), starts no thread for linear algebra, and never sees Ctrl-C: the driver decides.
    """
    # Unblocks the signal when it starts its own process, so it goes first.
    resource_tracker.ensure_running()
    root = str(Path(__file__).resolve().parent.parent)
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OPENBLAS_NUM_THREADS")}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, before["PYTHONPATH"])))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _bare_main() -> Iterator[None]:
    """Hide the main module: each child would run it again, with all that it imports."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _make_folder() -> tuple[Path, int]:
    """Make a directory that is locked as long as this process lives; remove abandoned ones.

    Returns:
        The directory and the descriptor that locks it.
    """
    prefix = "replk-search-"
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        lock = _lock_folder(old)
        if lock is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        lock = _lock_folder(folder)
        if lock is None:
            continue
        # Another process may have taken it for an abandoned one just before it was locked.
        if folder.is_dir():
            return folder, lock
        os.close(lock)


def _lock_folder(folder: Path) -> int | None:
    """Return a descriptor that locks a directory, None where that is not possible."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
