"""What the events of a run add up to: its trials, what is pending, what was refused."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from runs.records import Event
from search_space.architecture import Architecture

COUNTED = ("complete", "diverged")
"""States of trials that are ranked, where they are of full length."""
SPENDING = (*COUNTED, "stopped")
"""States of trials that eat their share of the budget."""


@dataclass(kw_only=True, slots=True)
class Trial:
    """One training of one network, from the moment it was asked for."""

    number: int
    role: str
    """anchor, evidence, search or confirm."""
    id: str
    seed: int
    architecture: Architecture
    asked: Event
    """The event that brought it, with the sampler's parameters."""
    starts: int = 0
    """How often its training was begun in sessions that were not ended on purpose."""
    state: str = "asked"
    """asked, then: complete, diverged, stopped (left at a lower rung), failed or infeasible."""
    result: dict[str, Any] = field(default_factory=dict)
    """Fields of its `done` event, and of later measurements."""
    measured_ms: float = math.nan
    """Latency as it was measured with the training; networks of a front are measured again."""

    @property
    def counts(self) -> bool:
        """Whether it is ranked: of full length, trained to its end or diverged on the way."""
        return self.state in COUNTED and self.length == 1

    @property
    def rung(self) -> int | None:
        """Rung that it trains to, from 0; None in a run without rungs, and where none stops it."""
        found: int | None = self.asked.get("rung")
        return found

    @property
    def length(self) -> Fraction:
        """Where its training ends, as a share of the full length."""
        return Fraction(*self.asked.get("length", (1, 1)))

    @property
    def share(self) -> Fraction:
        """What it takes of the budget: its length without that of the trial it continues."""
        return Fraction(*self.asked.get("share", (1, 1)))

    @property
    def continues(self) -> int | None:
        """Number of the stopped trial of the same network whose training it goes on with."""
        found: int | None = self.asked.get("continues")
        return found

    @property
    def repeat(self) -> int:
        """How many trainings of the same network were asked for before it; 0 competes."""
        return int(self.asked.get("repeat", 0))

    @property
    def outside(self) -> bool:
        """Whether the space cannot draw its network: a block's member of matched cost."""
        return bool(self.asked.get("outside_space", False))

    @property
    def study(self) -> dict[str, Any] | None:
        """Block, member, levels and varied factors of a training of the guideline study."""
        found: dict[str, Any] | None = self.asked.get("study")
        return found


class History:
    """The trials of a run in the order they were asked for; kept up to date event by event.

    What is asked for at every proposal is kept beside them, so that a proposal costs the same at
    the ten thousandth trial as at the tenth.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[int, Trial] = {}
        self.done: list[Trial] = []
        """Finished trials in the order they finished."""
        self.of_role: dict[str, list[Trial]] = {}
        """Trials in the order they were asked for, by role."""
        self.blocks: dict[int, dict[int, Trial]] = {}
        """Trainings of the study that were asked for, by block and member."""
        self.networks: dict[str, list[Trial]] = {}
        """Trainings of each network that were asked for, by its id."""
        self.tried: dict[str, int] = {}
        """Ids of the space's networks that were asked for, with the number of a trial of each."""
        self.next_number = 0
        """What the next trial is called."""
        self.spent = Fraction(0)
        """Budget eaten so far, in full-length trainings."""
        self.rejected: Counter[str] = Counter()
        """Refused proposals by the constraint that they broke."""
        self.refused: dict[int, Event] = {}
        """By the trial whose proposal they preceded: how many proposals were refused, and why."""
        self.sessions: list[Event] = []
        self.final: dict[str, Event] = {}
        """The last event of each closing step: remeasured, tested, finaltrained, finished."""
        self.retried: dict[int, Event] = {}
        """Trials that are trained once more, by number: why, and with which micro-batch."""
        self.longer: dict[tuple[int, float], Event] = {}
        """Longer trainings by trial and factor of the length; they eat no budget and rank none."""
        self._before = 0.0
        """Seconds of the sessions before this one, each up to its last event."""
        self._at_s = 0.0
        """The last event of this session."""
        self._pending: dict[int, Trial] = {}
        self._counts: Counter[str] = Counter()
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in one event; events of later versions that mean nothing here are passed over."""
        kind = event["event"]
        if kind == "session":
            self._before, self._at_s = self._before + self._at_s, 0.0
        self._at_s = max(self._at_s, float(event.get("at_s", 0.0)))
        if kind in ("started", "done") and event["trial"] not in self.trials:
            # Damage took the line that asked for it: it is no trial, but its number is taken.
            self.next_number = max(self.next_number, event["trial"] + 1)
        elif kind == "asked":
            before = event.get("continues")
            if before is not None and before not in self.trials:
                # Damage took that one's line: what goes on with it is a training of its own.
                event = {**event, "continues": None}
            self._add(
                Trial(
                    number=event["trial"],
                    role=event["role"],
                    id=event["id"],
                    seed=event["seed"],
                    architecture=Architecture.from_json(event["architecture"]),
                    asked=event,
                )
            )
        elif kind == "started":
            self.trials[event["trial"]].starts += 1
        elif kind == "retried":
            self.retried[event["trial"]] = event
            # It ended without its driver.
            if event["trial"] in self.trials and self.trials[event["trial"]].starts:
                self.trials[event["trial"]].starts -= 1
        elif kind == "interrupted":
            # The user ended that session: it was not these trainings that took it down.
            for number in self.trials.keys() & set(event["trials"]):
                self.trials[number].starts -= 1
        elif kind == "done":
            trial = self.trials[event["trial"]]
            if trial.state == "asked":
                self.done.append(trial)
            self._count(trial, -1)
            trial.state = event["state"]
            self._count(trial, 1)
            trial.result.update(event)
            if "at_s" in event:
                # Every session counts from its own beginning; a run is all of them.
                trial.result["at_s"] = round(self._before + event["at_s"], 2)
            trial.measured_ms = event.get("latency_ms", math.nan)
        elif kind == "refused":
            self._refuse(event)
        elif kind == "session":
            self.sessions.append(event)
        elif kind == "longer":
            self.longer[event["trial"], event["factor"]] = event
        elif kind == "remeasured":
            self._update(event["latencies"])
            self.final[kind] = event
        elif kind == "tested":
            # Records from before there was segmentation hold accuracies alone.
            before = event.get("accuracies", {})
            self._update({number: {"test_accuracy": before[number]} for number in before})
            self._update(event.get("scores", {}))
            self.final[kind] = event
        else:
            self.final[kind] = event

    def without(self, numbers: Container[int]) -> History:
        """Give the history of the same trials without some."""
        found = History()
        for trial in self.trials.values():
            if trial.number not in numbers:
                found._add(trial)
        found.done = [trial for trial in self.done if trial.number not in numbers]
        return found

    @property
    def pending(self) -> list[Trial]:
        """Trials that were asked for and have no result: a resumed run trains them first."""
        return list(self._pending.values())

    def repeats(self, architecture_id: str) -> int:
        """Count the trainings of a network that were begun anew; one that goes on is the same."""
        return sum(t.continues is None for t in self.networks.get(architecture_id, ()))

    @property
    def counts(self) -> Counter[str]:
        """Trials by state; `duplicate` and `rejected` proposals beside them."""
        return +self._counts

    def rows(self) -> list[dict[str, Any]]:
        """Give one row a finished trial, for trials.csv."""
        return [row_of(trial) for trial in self.trials.values() if trial.state != "asked"]

    def _add(self, trial: Trial) -> None:
        """Take in a trial."""
        self.trials[trial.number] = trial
        self.of_role.setdefault(trial.role, []).append(trial)
        self.networks.setdefault(trial.id, []).append(trial)
        if not trial.outside:
            self.tried[trial.id] = trial.number
        if trial.study is not None:
            self.blocks.setdefault(trial.study["block"], {})[trial.study["member"]] = trial
        self.next_number = max(self.next_number, trial.number + 1)
        self._count(trial, 1)

    def _update(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in later measurements of trials, by number."""
        for number, fields in found.items():
            if int(number) in self.trials:
                self.trials[int(number)].result.update(fields)

    def _count(self, trial: Trial, by: int) -> None:
        """Add a trial in its state, or take it out again."""
        self._counts[trial.state] += by
        if trial.state in SPENDING:
            self.spent += by * trial.share
        if trial.state == "asked" and by > 0:
            self._pending[trial.number] = trial
        else:
            self._pending.pop(trial.number, None)

    def _refuse(self, event: Event) -> None:
        """Take in refused proposals; where a kill made them be drawn again, they count once."""
        number = event["trial"]
        for told, by in ((self.refused.get(number), -1), (event, 1)):
            if told is not None:
                for constraint, times in told["rejected"].items():
                    self.rejected[constraint] += by * times
                self._counts["duplicate"] += by * told["duplicates"]
                self._counts["rejected"] += by * sum(told["rejected"].values())
        self.refused[number] = event


def plain_number(value: Fraction) -> int | float:
    """Give a number of trainings as JSON and people take it."""
    return value.numerator if value.denominator == 1 else round(float(value), 3)


def reason_of(event: Event) -> str:
    """Say in a line why a longer training failed."""
    return str(event["error"]).splitlines()[0]


def row_of(trial: Trial) -> dict[str, Any]:
    """Give the row of a finished trial."""
    hidden = {"seq", "event", "trial", "curve"}
    found = {key: value for key, value in trial.result.items() if key not in hidden}
    return {
        "trial": trial.number,
        "role": trial.role,
        "id": trial.id,
        "seed": trial.seed,
        "repeat": trial.repeat,
        "rung": trial.rung,
        "length": float(trial.length),
        "continues": trial.continues,
        "study_block": None if trial.study is None else trial.study["block"],
        "outside_space": trial.outside,
        **found,
        "architecture": trial.architecture.to_json(),
    }
