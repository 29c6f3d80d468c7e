"""Quiet on one machine: trainings run together, a latency measurement runs alone.

Trainings hold a lock in shared mode and let go of it between steps when a measurement waits; the
measurement takes it exclusively. Both locks are `flock`s on files, so the system frees them when
their holder dies, however it dies.

There are two files, as at a station: the *turnstile* in front of the *room*. A measurement blocks
the turnstile before it waits for the room to empty, so newcomers cannot starve it; a training sees
between two steps whether the turnstile is blocked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

ROOM_NAME = ".quiet"
TURNSTILE_NAME = ".quiet-turnstile"
RETRY_S = 0.002
"""Between two attempts of a measurement that has a time limit."""


class QuietLock:
    """The lock of one directory; each process (and each thread) uses an object of its own.

    The directory must be on a disk of the machine that is to be quiet: over a network file system
    other machines would pause too. The object holds no file until it is used and can be pickled.
    A process forked while the lock is held shares the hold until it ends.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._room = -1
        self._turnstile = -1

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock beside other trainings; waits while a measurement runs or waits."""
        with self._opened():
            self._enter()
            yield

    def yield_to_measurement(self) -> float:
        """Let a waiting measurement go first; call it between steps inside `shared`.

        Returns:
            Seconds spent waiting; 0.0 where no measurement waits, which costs two system calls.
        """
        try:
            fcntl.flock(self._turnstile, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)
            return 0.0
        begin = time.monotonic()
        fcntl.flock(self._room, fcntl.LOCK_UN)
        self._enter()
        return time.monotonic() - begin

    @contextlib.contextmanager
    def exclusive(self, *, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the lock alone; waits until every training has reached its next yield.

        Args:
            timeout_s: give up after that long and let the trainings go on. Set it where the caller
                is also the one who ends hanging trainings: a training that hangs never yields.

        Raises:
            TimeoutError: the trainings did not yield in time.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._opened():
            self._take(self._turnstile, until)
            self._take(self._room, until)
            yield

    def _enter(self) -> None:
        # Nobody holds the room alone without the turnstile, so the second call does not wait.
        fcntl.flock(self._turnstile, fcntl.LOCK_SH)
        fcntl.flock(self._room, fcntl.LOCK_SH)
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def _take(self, descriptor: int, until: float | None) -> None:
        if until is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() >= until:
                raise TimeoutError(f"{self.directory}: the trainings did not pause in time")
            time.sleep(RETRY_S)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Open both files; closing them frees what is held."""
        if self._room >= 0:
            raise RuntimeError("this QuietLock is held already; use one object a holder")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._room = os.open(self.directory / ROOM_NAME, flags, 0o644)
        try:
            self._turnstile = os.open(self.directory / TURNSTILE_NAME, flags, 0o644)
            yield
        finally:
            # The room first: whoever passes the turnstile must find it free.
            for descriptor in (self._room, self._turnstile):
                if descriptor >= 0:
                    os.close(descriptor)
            self._room = self._turnstile = -1
