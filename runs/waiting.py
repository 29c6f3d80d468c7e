"""Trials that were handed out before and have no result: cut off, lost, or out of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from fractions import Fraction

from runs.attempts import is_alone
from runs.history import History, Trial


class Waiting:
    """They come before anything new; those that ran out of memory train with nothing beside."""

    def __init__(self, history: History) -> None:
        """Begin with what a session before left."""
        self._history = history
        self._again: deque[Trial] = deque()
        self._by_itself: deque[Trial] = deque()
        for trial in history.pending:
            self.add(trial)

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._again or self._by_itself)

    def add(self, trial: Trial) -> None:
        """Have a trial trained again."""
        (self._by_itself if is_alone(self._history, trial) else self._again).append(trial)

    def next(self, training: Iterable[Trial], left: Fraction) -> Trial | None:
        """Give the next one that may begin now.

        Args:
            training: trials that run.
            left: of the budget, in full-length trainings; a resume may have set less than before.
        """
        if self._by_itself:
            may = not tuple(training) and self._by_itself[0].share <= left
            return self._by_itself.popleft() if may else None
        return self._again.popleft() if self._again and self._again[0].share <= left else None
