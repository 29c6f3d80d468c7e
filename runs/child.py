"""The inside of a worker process: run one job, report, end.

Runs in a child forked from the warm server and talks to `runs.workers.Pool` in frames: eight bytes
of length, then a pickled tuple. Nothing a job does (exit, crash, hang, print, fork, allocate) may
reach the driver other than as such a frame or as the end of this process.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import fcntl
import os
import pickle
import resource
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import parent_process
from pathlib import Path
from typing import Any

import psutil

FRAME = struct.Struct("<Q")
"""Length in bytes of the pickled tuple that follows."""

JOB_NAME = "job.pickle"
SHOWN_FRAMES = 6
"""Innermost calls of a traceback that an error shows."""


OUT_OF_MEMORY = (
    "can't allocate memory",  # torch's allocator on CPU
    "out of memory",  # torch.OutOfMemoryError and cuDNN's
    "std::bad_alloc",  # of any C++ below torch
    "can't start new thread",  # Python, whose threads' stacks count
    # Python, which had no room for its MemoryError.
    "error return without exception set",
    "returned NULL without setting an exception",
    # oneDNN, whose status "out of memory" does not reach Python.
    "could not create a primitive",
    "could not create a memory object",
    "could not execute a primitive",
)
"""What a RuntimeError or SystemError says when memory ran out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What a job finds around it."""

    folder: str
    """Holds the pickled job; the job's temporary directory, removed after it."""
    threads: int
    memory_limit_bytes: int | None
    """Room for the job's own data, beyond what the warm server brings."""
    limit_data: bool
    """Let the kernel refuse allocations beyond it; CUDA reserves too much for that."""
    preload: tuple[str, ...]


def run_job(channel: Connection, output: Connection, surroundings: Surroundings) -> None:
    """Run the job in `surroundings.folder` and end the process; never returns."""
    # Its own session: the driver can kill it with everything it started.
    os.setsid()
    _end_with_driver()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    faulthandler.enable()
    # The kernel, short of memory, takes the job and not the driver.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    tempfile.tempdir = os.environ["TMPDIR"] = surroundings.folder
    missing = [name for name in surroundings.preload if name not in sys.modules]

    # Imported here: the driver imports this module too and may do without torch.
    import torch

    torch.set_num_threads(surroundings.threads)
    sizes = psutil.Process().memory_info()
    sender = _Sender(channel.fileno())
    begin = time.monotonic()
    sender.send("started", begin, sizes.rss, missing)
    if surroundings.limit_data and surroundings.memory_limit_bytes is not None:
        # The soft limit alone, so that reporting can lift it.
        _limit_data(sizes.data + surroundings.memory_limit_bytes)
    outcome, value, error = _outcome(Path(surroundings.folder), sender)
    seconds = time.monotonic() - begin
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    sender.send("end", outcome, value, error, seconds)
    # Skips exit handlers and threads left behind: either could hang.
    os._exit(0)


def _outcome(folder: Path, sender: _Sender) -> tuple[str, bytes, str]:
    """Run the job; returns its outcome, the pickled value and the text of an error."""

    def progress(**metrics: Any) -> None:
        sender.send("progress", pickle.dumps(metrics))

    try:
        function, payload = pickle.loads((folder / JOB_NAME).read_bytes())
        (folder / JOB_NAME).unlink()
        value = function(payload, progress)
    except BaseException as error:  # noqa: BLE001
        _limit_data(resource.RLIM_INFINITY)
        sender.check_process()
        # The frames hold what filled the memory.
        text = describe(error)
        kind = "memory" if is_memory_error(error) else "error"
        traceback.clear_frames(error.__traceback__)
        return kind, b"", text
    _limit_data(resource.RLIM_INFINITY)
    sender.check_process()
    try:
        return "ok", pickle.dumps(value), ""
    except Exception as error:  # noqa: BLE001
        return "error", b"", f"the result cannot be sent: {describe(error)}"


def describe(error: BaseException) -> str:
    """Return type and message on one line, then the innermost calls."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    report = traceback.TracebackException(type(error), error, trace, limit=-SHOWN_FRAMES)
    lines = [line.strip() for line in report.format_exception_only()]
    summary = " ".join(" ".join(lines).split())[:1000]
    if isinstance(error, SystemExit | KeyboardInterrupt):
        summary = f"the job ended itself with {summary}"
    calls = "".join(report.stack.format())[-4000:] if trace else ""
    return f"{summary}\n{calls}".rstrip()


def is_memory_error(error: BaseException | None) -> bool:
    """Whether an exception, or what caused it, says that memory ran out."""
    while error is not None:
        text = str(error) if isinstance(error, RuntimeError | SystemError) else ""
        if (
            isinstance(error, MemoryError)
            or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
            or any(words in text for words in OUT_OF_MEMORY)
        ):
            return True
        error = error.__cause__
    return False


class _Sender:
    """Writes frames to the driver, from any thread of this process and from no other process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._process = os.getpid()
        self._turn = threading.Lock()

    def send(self, *content: Any) -> None:
        """Write one frame; blocks while the driver is busy."""
        self.check_process()
        body = pickle.dumps(content)
        with self._turn:
            try:
                for part in (FRAME.pack(len(body)), body):
                    rest = memoryview(part)
                    while rest:
                        rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                os._exit(99)

    def check_process(self) -> None:
        """End a copy of this process that the job forked and let run on."""
        if os.getpid() != self._process:
            os._exit(99)


def _end_with_driver() -> None:
    """Have this process and all that it starts killed when the driver is gone.

    The fork server is this process's parent and outlives a killed driver, so the driver is watched
    through a pipe whose other end it alone holds. The thread does it everywhere; the signal (SIGIO
    on hang-up, deadly by default) also ends a job that never lets another thread run.
    """
    parent = parent_process()
    if parent is None:
        raise RuntimeError("run_job must run in a process that multiprocessing started")
    sentinel = int(parent.sentinel)
    if sys.platform == "linux":
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(sentinel, fcntl.F_SETOWN, -os.getpgrp())
        flags = fcntl.fcntl(sentinel, fcntl.F_GETFL)
        fcntl.fcntl(sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)

    def watch() -> None:
        wait([sentinel])
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-driver", daemon=True).start()


def _limit_data(soft: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (soft if hard < 0 else min(soft, hard), hard))
