"""Halving: short trainings first, and the better ones of each rung go on; for several objectives.

The rule is the asynchronous one of ASHA (Li et al. 2020, arXiv 1810.05934): nobody waits for a rung
to fill, so in all more than one in so many goes on, as others come among the best. The order within
a rung is that of NSGA-II (Deb et al. 2002): fronts one after the other, and in a front those first
that stand alone; Syne Tune's MO-ASHA goes by fronts too. What goes on depends on the trials of the
record alone, so a resumed run goes on with those of the killed one.

Only networks of full length are ranked, so a small budget must reach that length with one of them:
what the furthest network still needs for it is kept back until one is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from runs.history import History, Trial
from runs.plan import Settings
from runs.ranking import Objective, objectives_named

RUNGS = 3
"""Rungs of a run with halving: 1/9, 1/3 and all of the length where the factor is 3."""
ENDED = ("stopped", "diverged")
"""States of trials that were trained at a rung below the last one; only the stopped go on."""

Floats = NDArray[np.float64]


def ladder(settings: Settings) -> tuple[Fraction, ...]:
    """Give where each rung ends, as a share of the full length: (1,) without halving."""
    if settings.fidelity != "halving":
        return (Fraction(1),)
    return tuple(Fraction(1, settings.halving_factor**k) for k in reversed(range(RUNGS)))


def step_fields(
    ladder: Sequence[Fraction], rung: int, continues: int | None = None
) -> dict[str, Any]:
    """Give what the `asked` event of a training says of its rung; nothing in a run without rungs.

    Args:
        ladder: where each rung ends, as `ladder` gives it.
        rung: to which it trains, from 0.
        continues: number of the trial whose training it goes on with, one of the rung below; None
            where it begins anew.
    """
    if len(ladder) == 1:
        return {}
    length = ladder[rung]
    share = length if continues is None else length - ladder[rung - 1]
    return {
        "rung": rung,
        "length": list(length.as_integer_ratio()),
        "share": list(share.as_integer_ratio()),
        "continues": continues,
    }


def promotion_order(
    rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]
) -> list[int]:
    """Give the numbers of the trials of one rung, the one that goes on first at the front.

    By front, then by crowding distance, then by number. Trials of which an objective is not known
    come behind all others, diverged ones last. The order of the rows plays no part.

    Args:
        rows: `trial`, `state` and the objectives' columns of each.
        objectives: of the run.
    """
    found = _Rung()
    for row in rows:
        found.add(row["trial"], row["state"], [row.get(o.column) for o in objectives], objectives)
    return found.order


class Ladder:
    """Says which stopped training goes on; it follows one history as that grows."""

    def __init__(self, settings: Settings) -> None:
        """Prepare for a run; without halving nothing ever goes on."""
        self.lengths = ladder(settings)
        self.factor = settings.halving_factor
        self.objectives = objectives_named(settings.objectives)
        self._follow(None)

    def propose(self, history: History, left: Fraction, *, beyond: bool = False) -> Trial | None:
        """Give the stopped trial that goes on next; None where new networks are trained first.

        From the second-highest rung down: of the n trials that ended at a rung the best n/factor
        may go on, each once. One whose training went on and failed keeps its place.

        Args:
            history: of the run; the one of the last call, or another.
            left: of the budget, in full-length trainings; what goes on fits into it, beside what
                is kept for the furthest network.
            beyond: all n may go on, but from a rung to which none is trained just now: there is
                not enough left for all, so the best of all of them goes first.
        """
        reserve = self.reserve(history, left)
        ending = {trial.rung for trial in history.pending} if beyond else set()
        for rung in reversed(range(len(self.lengths) - 1)):
            # The reserve is there for the furthest network.
            room = left if 1 - self.lengths[rung] == reserve else left - reserve
            if self.lengths[rung + 1] - self.lengths[rung] > room or rung in ending:
                continue
            found = self._rungs[rung]
            number = found.next(len(found.numbers) // (1 if beyond else self.factor))
            if number is not None:
                return history.trials[number]
        return None

    def begins(self, history: History, left: Fraction) -> bool:
        """Whether a new network may begin with what is left, beside what is kept."""
        return left - self.lengths[0] >= self.reserve(history, left)

    def reserve(self, history: History, left: Fraction) -> Fraction:
        """Give what must stay of `left` for the furthest network to reach the full length.

        Nothing once a network reached the last rung, or is trained to it, and nothing where what
        is left cannot bring one there.
        """
        self._read(history)
        pending = {trial.rung for trial in history.pending}
        if self._reached or len(self.lengths) - 1 in pending:
            return Fraction(0)
        going = [r for r, found in enumerate(self._rungs) if r in pending or found.waits]
        length = self.lengths[max(going, default=0)]
        # Where there is none, one must begin first.
        enough = left >= (1 - length if going else 1)
        return 1 - length if enough else Fraction(0)

    def _follow(self, history: History | None) -> None:
        self._history = history
        self._finished = self._asked = 0
        self._reached = False
        self._rungs = [_Rung() for _ in self.lengths]

    def _read(self, history: History) -> None:
        """Take in what came since the last call."""
        if history is not self._history:
            self._follow(history)
        for trial in history.done[self._finished :]:
            if trial.rung is not None and trial.state == "complete":
                self._reached = True
            elif trial.rung is not None and trial.state in ENDED:
                self._rungs[trial.rung].add(
                    trial.number,
                    trial.state,
                    [_value(trial, objective) for objective in self.objectives],
                    self.objectives,
                )
        self._finished = len(history.done)
        # Numbers grow, so what was asked for since then stands at the end.
        last = next(reversed(history.trials), -1)
        for number in range(self._asked, last + 1):
            asked = history.trials.get(number)
            if asked is not None and asked.continues is not None and asked.rung is not None:
                self._rungs[asked.rung - 1].gone.add(asked.continues)
        self._asked = last + 1


def _value(trial: Trial, objective: Objective) -> Any:
    """Give an objective as it was when the training ended: a front is measured again later."""
    if objective.column == "latency_ms":
        return trial.measured_ms
    return trial.result.get(objective.column)


@dataclass(slots=True)
class _Rung:
    """Trials that ended at one rung; their order is worked out anew only where one was added."""

    numbers: list[int] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    """Less is better; NaN where a value is not known."""
    diverged: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    """Trials that were continued, whatever came of it."""
    _order: list[int] = field(default_factory=list)

    def add(
        self, number: int, state: str, values: Sequence[Any], objectives: Sequence[Objective]
    ) -> None:
        """Take in a trial with its values of the objectives."""
        self.numbers.append(number)
        if state == "diverged":
            self.diverged.add(number)
            values = [None] * len(objectives)
        signs = [-1.0 if objective.direction == "max" else 1.0 for objective in objectives]
        known = [np.nan if value is None else float(value) for value in values]
        self.losses.append([sign * value for sign, value in zip(signs, known, strict=True)])

    @property
    def order(self) -> list[int]:
        """Numbers of the trials, the best first."""
        if len(self._order) != len(self.numbers):
            self._order = self._sorted()
        return self._order

    @property
    def waits(self) -> bool:
        """Whether there is one that may go on and was not continued."""
        return any(map(self._may_go_on, self.numbers))

    def next(self, places: int) -> int | None:
        """Give the best of the first `places` that may go on and was not continued."""
        return next(filter(self._may_go_on, self.order[:places]), None)

    def _may_go_on(self, number: int) -> bool:
        return number not in self.gone and number not in self.diverged

    def _sorted(self) -> list[int]:
        numbers = np.array(self.numbers)
        losses = np.array(self.losses, dtype=float)
        by_number = np.argsort(numbers)
        numbers, losses = numbers[by_number], losses[by_number]
        known = np.isfinite(losses).all(axis=1)
        order = front_order(losses[known])
        behind = sorted(numbers[~known].tolist(), key=lambda n: (n in self.diverged, n))
        return [*numbers[known][order].tolist(), *behind]


def front_order(losses: Floats) -> NDArray[np.int64]:
    """Give the places of the points, the best first: by front, then by crowding distance.

    Args:
        losses: (N, objectives); finite, less is better.
    """
    fronts = np.asarray(moocore.pareto_rank(losses) if len(losses) else [], dtype=np.int64)
    return np.lexsort((-crowding_distance(losses, fronts), fronts))


def crowding_distance(losses: Floats, fronts: NDArray[np.int64]) -> Floats:
    """Give how far the neighbours of each point in its front lie apart (Deb et al. 2002).

    Summed over the objectives, each in units of its range in that front; infinite for the ends. Of
    equal points the earlier one is the end. An objective in which a whole front is equal adds 0.

    Args:
        losses: (N, objectives).
        fronts: (N,) the front of each point.
    """
    distance = np.zeros(len(losses))
    if not len(losses):
        return distance
    for values in losses.T:
        order = np.lexsort((values, fronts))
        sorted_values, of = values[order], fronts[order]
        turns = np.flatnonzero(np.diff(of)) + 1
        first, last = np.append(0, turns), np.append(turns, len(of)) - 1
        width = sorted_values[last] - sorted_values[first]
        gaps = np.zeros(len(of))
        gaps[1:-1] = sorted_values[2:] - sorted_values[:-2]
        gaps /= np.repeat(np.where(width > 0, width, 1.0), last - first + 1)
        gaps[first], gaps[last] = np.inf, np.inf
        gaps[np.repeat(width == 0, last - first + 1)] = 0.0
        distance[order] += gaps
    return distance
