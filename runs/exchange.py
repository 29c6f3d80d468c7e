"""Where two threads meet: the core loop hands jobs out, Ray Tune's loop fetches them.

Ray Tune keeps an idle worker only where the next job is there at once; without one it ends the
worker, and starting another is seconds of work. So a fetch waits while the core loop is busy and
may still bring a job, and returns as soon as the core loop itself waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from runs.workers import Finished

HOLD_S = 5.0
"""A fetch waits no longer for a core loop that is busy with something else."""
ENDED: Literal["ended"] = "ended"
"""What a fetch gives once nothing more comes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A finished job with the files that it wrote."""

    finished: Finished
    files: dict[str, bytes]
    """Contents by names relative to the run directory; empty where they are there already."""


class Exchange:
    """Jobs by their numbers in one direction, messages about them in the other."""

    def __init__(self, limit: Callable[[], int], *, muster: int = 0) -> None:
        """Open it.

        Args:
            limit: gives the number of jobs that may be out at a time.
            muster: workers that are to be there before the first job is handed out: so many
                negative numbers are fetched before any job.
        """
        self._limit = limit
        self._muster = deque(range(-muster, 0))
        self._changed = threading.Condition()
        self._offered: deque[int] = deque()
        self._out: set[int] = set()
        self._messages: deque[Any] = deque()
        self._listening = False
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether it was closed."""
        return self._ended

    def offer(self, number: int) -> None:
        """Bring a job."""
        with self._changed:
            self._offered.append(number)
            self._changed.notify_all()

    def fetch(self) -> int | Literal["ended"] | None:
        """Take the next job; None where there is none, or as many are out as may be.

        Waits without limit where no job is out: nothing else can happen then.
        """
        until = time.monotonic() + HOLD_S
        with self._changed:
            while not self._ended:
                waiting = self._muster or self._offered
                if waiting and len(self._out) < self._limit():
                    number = waiting.popleft()
                    self._out.add(number)
                    return number
                if not self._out:
                    self._changed.wait()
                    continue
                hopeless = self._offered or (self._listening and not self._messages)
                if hopeless or not self._changed.wait(until - time.monotonic()):
                    return None
            return ENDED

    def returned(self, number: int) -> bool:
        """Say that a job is over; gives whether it was out."""
        with self._changed:
            known = number in self._out
            self._out.discard(number)
            self._changed.notify_all()
        return known

    def tell(self, message: Any) -> None:
        """Leave a message for the core loop."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def listen(self, timeout: float | None) -> list[Any]:
        """Take the messages; waits up to `timeout` seconds (None: without limit) for one."""
        with self._changed:
            self._listening = True
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._messages, timeout)
            finally:
                self._listening = False
            found = list(self._messages)
            self._messages.clear()
        return found

    def end(self) -> None:
        """Let every fetch return from now on."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
