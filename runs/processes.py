"""What the worker pool asks of the system: starting, killing and reading child processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from runs.child import FRAME

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a program to end."""
READ_BYTES = 1 << 20
"""Most that is read from one pipe at a time, so that no child holds up the others."""


def read_available(pipe: Connection, into: bytearray) -> None:
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


def take_frames(received: bytearray) -> Iterator[tuple[Any, ...]]:
    """Yield the whole frames that a child sent and remove them; half a frame stays."""
    while len(received) >= FRAME.size:
        end = FRAME.size + FRAME.unpack_from(received)[0]
        if len(received) < end:
            return
        content = pickle.loads(received[FRAME.size : end])
        del received[:end]
        yield content


def kill_group(process: ForkServerProcess) -> None:
    """Kill a child and all that it started in its session."""
    pid = process.pid
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
        return
    # It has not made its session yet.
    if process.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def resident_bytes(pid: int | None) -> int:
    """Return the bytes of main memory that a process occupies; 0 where it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def cause_of_death(code: int | None) -> str:
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
def server_surroundings() -> Iterator[None]:
    """What the fork server is to inherit if it is started inside.

    It looks for modules where this program was found (before Python 3.12.5 it is not told the
    path), starts no thread for linear algebra, and never sees Ctrl-C, nor what a scheduler or a
    closing terminal sends to all processes of a group: the driver decides.
    """
    # Unblocks signals when it starts its own process, so it goes first.
    resource_tracker.ensure_running()
    root = str(Path(__file__).resolve().parent.parent)
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OPENBLAS_NUM_THREADS")}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
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
def bare_main() -> Iterator[None]:
    """Hide the main module: each child would run it again, with all that it imports."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def make_folder() -> tuple[Path, int]:
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
