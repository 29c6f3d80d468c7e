"""A search within a time: the budget it is enough for, and when no training begins any more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from runs.console import duration
from runs.forecast import Forecast, Left, reckoned
from runs.history import History
from runs.plan import Plan
from runs.records import Event
from runs.schedule import Parts
from runs.timing import Timed
from runs.wording import plural
from search_space.errors import RunError

LARGEST_BUDGET = 1_000_000
"""Trainings beyond which no time is made into a budget."""


def budget_for(plan: Plan, timed: Timed, seconds: float, shares: Callable[[int], Parts]) -> int:
    """Give the greatest number of full-length trainings that a time is expected to be enough for.

    Args:
        plan: what to do; its budget and its parts are not looked at.
        timed: its networks.
        seconds: of wall time, closing steps included.
        shares: gives what of a budget is not the search's own.

    Raises:
        RunError: it is not even enough for the least that `shares` takes.
    """

    def takes(budget: int) -> float:
        """Give the seconds of a budget; without end where it is too small to be shared."""
        try:
            parts = shares(budget)
        except RunError:
            return math.inf
        settings = replace(
            plan.settings,
            budget=budget,
            noise=parts.noise,
            evidence=parts.evidence,
            confirm=parts.confirm,
        )
        return reckoned(settings, Left.whole(settings), timed).seconds

    least = next((one for one in range(1, LARGEST_BUDGET) if takes(one) < math.inf), 1)
    if takes(least) > seconds:
        shares(least)  # where it can never be shared, this says why
        raise RunError(
            f"--time: must be enough for {plural(least, 'training')} and the closing steps, about "
            f"{duration(takes(least))}, got {duration(seconds)}; give more, or train shorter with "
            "--epochs"
        )
    return _greatest(takes, least, seconds)


def more_for(plan: Plan, history: History, timed: Timed, seconds: float) -> int:
    """Give the total of trainings that a run comes to when it goes on for a time.

    Args:
        plan: of the run.
        history: what is done; at least that, and what was handed out.
        timed: its networks.
        seconds: that are left, closing steps included.
    """

    def takes(budget: int) -> float:
        grown = replace(plan, settings=replace(plan.settings, budget=budget))
        return reckoned(grown.settings, Left.of(grown, history), timed).seconds

    promised = sum(trial.share for trial in history.pending)
    return _greatest(takes, max(1, math.ceil(history.spent + promised)), seconds)


def _greatest(takes: Callable[[int], float], least: int, seconds: float) -> int:
    """Give the greatest budget that takes no longer; the least where none does."""
    low, high = least, least + 1
    while takes(high) <= seconds and high < LARGEST_BUDGET:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) <= seconds else (low, middle)
    return low


class Deadline:
    """Says whether another training may begin: it and the closing steps must end in time.

    A clock that somebody sets changes nothing. Of earlier sessions it counts what they took up to
    their last event: what a killed session did after it is lost, and was not paid.
    """

    def __init__(
        self,
        time_s: float | None,
        events: Iterable[Event],
        estimate: Forecast | None,
        *,
        begun: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count.

        Args:
            time_s: for all sessions together; None is without end.
            events: of earlier sessions.
            estimate: of what is left; None where nothing is.
            begun: when this session began, by the clock; None: now.
            clock: gives seconds.
        """
        self._time_s = math.inf if time_s is None else time_s
        self._before = elapsed_s(events)
        self._needed = 0.0 if estimate is None else estimate.training_s + estimate.closing_s
        self._clock = clock
        self._begin = clock() if begun is None else begun

    @property
    def left_s(self) -> float:
        """Seconds until the end; negative behind it."""
        return self._time_s - self._before - (self._clock() - self._begin)

    def __call__(self) -> bool:
        """Whether another training may begin."""
        return self.left_s >= self._needed


def elapsed_s(events: Iterable[Event]) -> float:
    """Give the seconds that the sessions of a record took, each up to its last event."""
    sessions = [0.0]
    for event in events:
        if event["event"] == "session":
            sessions.append(0.0)
        sessions[-1] = max(sessions[-1], float(event.get("at_s", 0)))
    return sum(sessions)
