"""How long the trainings that are left will take, by those that are done."""

from __future__ import annotations

import time


class Pace:
    """The pace of one session: seconds of a worker for a training in full length."""

    def __init__(self, workers: int) -> None:
        """Begin with nothing done, so many trainings at a time."""
        self.workers = workers
        self._begun: dict[int, float] = {}
        self._worked = 0.0
        self._done = 0.0

    def begin(self, number: int) -> None:
        """Note that a trial begins."""
        self._begun[number] = time.monotonic()

    def end(self, number: int, share: float) -> None:
        """Note that a trial ended, and which share of a training it was: 0 where it failed."""
        now = time.monotonic()
        self._worked += now - self._begun.pop(number, now)
        self._done += share

    def left(self, trainings: float) -> float | None:
        """Give the seconds that are left; None while nothing is done, or where nothing is left.

        Args:
            trainings: that are not done, in full length; those that are under way are among them.
        """
        if not self._worked or not self._done or trainings <= 0:
            return None
        now = time.monotonic()
        under_way = sum(now - begin for begin in self._begun.values())
        work = trainings * self._worked / self._done - under_way
        # At the end there is not enough left for every worker.
        return max(work, 0.0) / max(1.0, min(self.workers, trainings))
