"""How long a search will take, from a few timed steps or from what is done already.

A search is reckoned part by part: its own trainings by rungs, blocks and noise floor, whose
networks are as large as the largest of their context, the confirmation of the leaders, and the
closing steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from runs.console import duration
from runs.finish import FINAL_FACTOR
from runs.history import SPENDING, History, Trial
from runs.jobs import Room, Slots
from runs.latencies import FRONT_BUDGET_S
from runs.plan import Plan, Settings
from runs.rungs import ladder
from runs.schedule import own_part
from runs.timing import Seconds, Timed, measurement_s, time_networks

TRIAL_S = 0.3
"""What a trial takes beside its training and its latency: fork, merge check, record."""
ENOUGH_DONE = 5
"""Finished trainings that tell more than timed steps."""
LEADERS = 1.3
"""Training time of networks that lead over that of all: 1.1 to 1.6 in three runs."""
FRONT = 10
"""Networks that are measured again at the end: 5 to 16 in eight runs."""
WRITING_S = 10.0
"""What tables, figures, test scores and the linear classifier take at the end."""
GO_ON = 1.2
"""Stopped trainings that go on, over one in `halving_factor`: which are the best changes while they
are chosen. 1.1 to 1.3 in played runs of 40 to 300 trainings."""
TIMING_ERROR = 0.1
"""Part by which timed steps are off for all networks alike: a machine changes its speed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a search will take."""

    seconds: float
    low: float
    high: float
    """Ends of the range that the timed networks suggest; the high one has a second round of the
    final training."""
    training_s: float
    """Mean seconds of one training in full length."""
    closing_s: float
    """Seconds of the closing steps, which are in `seconds`."""
    machine_hours: float
    """Hours of CPU cores, or of GPUs."""
    machine: str
    """What these are."""

    def text(self) -> str:
        """Say it in words."""
        span = f"{duration(self.low)} to {duration(self.high)}"
        return (
            f"about {duration(self.seconds)} ({span}), {self.training_s:.1f} s a training; "
            f"{self.machine_hours:.2g} {self.machine}-hours"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Trainings of one kind."""

    trials: float
    """Begun anew or going on."""
    lengths: float
    """Of all together, in full lengths."""
    measured: float
    """Networks whose latency is measured."""
    seconds: Sequence[Seconds]
    """As `Timed` has them."""
    larger: float = 1.0
    """How much longer these networks train than those that were timed."""

    @property
    def whole_s(self) -> float:
        """Mean seconds of one in full length."""
        return self.larger * float(np.sum(self.seconds, axis=1).mean())

    @property
    def worker_s(self) -> float:
        """Seconds of worker time, without latencies."""
        steps, once = self.larger * np.mean(self.seconds, axis=0)
        return float(self.lengths * steps + self.trials * (once + TRIAL_S))

    @property
    def variance(self) -> float:
        """Of these: of the timed networks' mean, and of the networks that will be drawn."""
        whole = self.larger * np.sum(self.seconds, axis=1)
        if len(whole) < 2:
            return 0.0
        return float(whole.var(ddof=1) * (self.lengths**2 / len(whole) + self.lengths))


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """Trainings that are left, in full lengths."""

    own: float
    """Of the search itself."""
    study: float
    """Of blocks and noise floor."""
    confirm: float

    @classmethod
    def whole(cls, settings: Settings) -> Left:
        """Give all of a run."""
        return cls(
            own=own_part(settings),
            study=settings.noise + settings.evidence,
            confirm=settings.confirm,
        )

    @classmethod
    def of(cls, plan: Plan, history: History) -> Left:
        """Give what a history leaves."""
        settings = plan.settings
        document = plan.facts.get("study")
        if document is not None and settings.evidence:
            # A space with few contexts gets fewer blocks; the search takes what they leave.
            block = document["block"]
            settings = replace(
                settings,
                noise=document["noise"],
                evidence=min(settings.evidence, block["runs"] * block["blocks"]),
            )
        whole = cls.whole(settings)
        spent = {"own": 0.0, "study": 0.0, "confirm": 0.0}
        for trial in history.done:
            if trial.state in SPENDING:
                spent[_part_of(trial)] += float(trial.share)
        study = max(0.0, whole.study - spent["study"])
        confirm = max(0.0, whole.confirm - spent["confirm"])
        left = float(settings.budget - history.spent)
        own = 0.0 if settings.study_alone else max(0.0, left - study - confirm)
        return cls(own=own, study=study, confirm=min(confirm, left))


def _part_of(trial: Trial) -> str:
    if trial.role == "evidence" or "noise" in trial.asked:
        return "study"
    return "confirm" if trial.role == "confirm" else "own"


def forecast(plan: Plan, pool: Slots, history: History, room: Room | None = None) -> Forecast:
    """Say what the trainings that are left and the closing steps will take.

    Reckons with the trainings that are done; where these are few, times a few steps of a few
    networks of the space.

    Args:
        plan: of the run.
        pool: runs the jobs.
        history: of the run.
        room: for one training; None: its part of this machine's memory.

    Raises:
        WorkFailed: a network could not be timed.
    """
    return reckoned(
        plan.settings, Left.of(plan, history), timed_networks(plan, pool, history, room)
    )


def timed_networks(plan: Plan, pool: Slots, history: History, room: Room | None = None) -> Timed:
    """Give what trainings take: by those that are done, or where these are few by timed steps.

    Raises:
        WorkFailed: a network could not be timed.
    """
    return _known(plan, history, Left.of(plan, history)) or time_networks(plan, pool, room)


def reckoned(settings: Settings, left: Left, timed: Timed) -> Forecast:
    """Give the forecast of what is left.

    A latency measurement stops every worker: it is paid once a network, whatever their number.
    """
    study = timed.study
    leaders = study if settings.study_alone else timed.search
    parts = [
        _own_part(settings, left.own, timed.search),
        _Part(trials=left.study, lengths=left.study, measured=left.study, seconds=study),
        _Part(
            trials=left.confirm,
            lengths=left.confirm,
            measured=left.confirm,
            seconds=leaders,
            larger=LEADERS,
        ),
    ]
    begun = [part for part in parts if part.trials]
    # The last training of every part is awaited by all workers but the one that has it.
    idle = sum(part.whole_s for part in begun) / 2 * (1 - 1 / settings.workers)
    search_s = sum(part.worker_s for part in begun) / settings.workers + idle
    search_s += timed.latency_s * sum(part.measured for part in begun)
    final = 0.0 if settings.study_alone else FINAL_FACTOR * LEADERS * parts[0].whole_s
    closing = WRITING_S + (FRONT + 1) * FRONT_BUDGET_S + final
    seconds = search_s + closing
    variance = sum(part.variance for part in begun) / settings.workers**2
    variance += (FINAL_FACTOR * LEADERS) ** 2 * _between(timed.search) if final else 0
    beside = 2 * math.sqrt(variance + (TIMING_ERROR / 2 * seconds) ** 2)
    gpu = settings.device != "cpu"
    hours = settings.workers * (settings.gpus_per_trial if gpu else 1) * seconds / 3600
    return Forecast(
        seconds=seconds,
        low=max(seconds - beside, seconds / 2),
        high=seconds + beside + 2 * final,
        training_s=(parts[1] if settings.study_alone else parts[0]).whole_s,
        closing_s=closing,
        machine_hours=hours,
        machine="GPU" if gpu else "core",
    )


def _own_part(settings: Settings, units: float, seconds: Sequence[Seconds]) -> _Part:
    """Give the search's own trainings by rungs."""
    ends = ladder(settings)
    goes_on = [(GO_ON / settings.halving_factor) ** rung for rung in range(len(ends))]
    shares = [float(end - start) for end, start in zip(ends, (Fraction(0), *ends), strict=False)]
    networks = units / sum(share * part for share, part in zip(shares, goes_on, strict=True))
    return _Part(trials=networks * sum(goes_on), lengths=units, measured=networks, seconds=seconds)


def _known(plan: Plan, history: History, left: Left) -> Timed | None:
    """Give what the trainings that are done tell; None where these are few."""
    done = [trial for trial in history.done if trial.state in ("complete", "stopped")]
    own = _split([trial for trial in done if _part_of(trial) != "study"])
    study = _split([trial for trial in done if _part_of(trial) == "study"])
    few = len(own) + len(study) < ENOUGH_DONE
    few = few or (left.own > 0 and len(own) < ENOUGH_DONE)
    few = few or (left.study > 0 and len(study) < ENOUGH_DONE)
    if few:
        return None
    return Timed(search=own or study, study=study or own, latency_s=measurement_s(plan))


def _split(trials: Sequence[Trial]) -> tuple[Seconds, ...]:
    """Split the times of trainings into what goes with the length and what comes once."""
    shares = np.array([float(trial.share) for trial in trials])
    took = np.array([float(trial.result["train_seconds"]) for trial in trials])
    once = 0.0
    if len(set(shares)) > 1:
        once = float(np.clip(np.polyfit(shares, took, 1)[1], 0, took.min()))
    return tuple((float(steps), once) for steps in (took - once) / shares)


def _between(seconds: Sequence[Seconds]) -> float:
    """Give the variance of whole trainings between networks."""
    return float(np.sum(seconds, axis=1).var(ddof=1)) if len(seconds) > 1 else 0.0
