"""Trainings of a finished run's trials anew, longer and on another seed: does what it found last?

Each is an event of the record, on the disk before its slot is given to another, so a stopped or
killed command goes on where it was. They eat no budget and take no part in the ranking.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from runs.backends import found_again, user_cache, writable
from runs.console import Console, duration
from runs.engines import preload
from runs.finish import is_finished
from runs.history import History, Trial, row_of
from runs.images import decoded
from runs.jobs import (
    TIME_LIMIT_S,
    WAIT_S,
    JobKey,
    Slots,
    key_of,
    memory_limit,
    refusal,
    undisturbed,
)
from runs.objective import TrainJob, train_network, training_seed
from runs.plan import Plan, resolved_device, unchanged_plan
from runs.records import Event, Records
from runs.session import HANGS, session_budget
from runs.watcher import Watcher
from runs.wording import plural
from runs.workers import Finished, Job, Pool, Progress
from search_space.errors import RunError, WorkFailed

Purpose = Literal["recheck", "audit"]

LONGER_REPEAT = 2_000_000
"""Repeat number that seeds longer trainings: used for nothing else."""


@dataclass(frozen=True, kw_only=True)
class Reopened:
    """A finished run whose record this process holds."""

    plan: Plan
    records: Records
    history: History
    """Follows what is trained here."""

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.records.directory


@contextlib.contextmanager
def reopened(directory: Path, *, command: str) -> Iterator[Reopened]:
    """Hold the record of a finished run for a `with` block.

    Args:
        directory: of the run.
        command: what goes on with the work after Ctrl-C.

    Raises:
        RunError: there is no run, it is in use, it cannot be written, its plan was changed, or it
            is not finished.
    """
    with Records.open(directory) as records:
        plan, history = unchanged_plan(records), History(records.events)
        require_finished(directory, plan, history, records.events)
        try:
            yield Reopened(plan=plan, records=records, history=history)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Every training that finished is on disk; go on with '{command}'."
            ) from None


def require_finished(
    directory: Path, plan: Plan, history: History, events: Sequence[Event]
) -> None:
    """Refuse a run that has something left to do.

    Raises:
        RunError: it has.
    """
    budget = session_budget(events) or plan.settings.budget
    if not is_finished(history, budget):
        raise RunError(
            f"{directory}: must be finished, {history.spent} of {budget} trainings are done; "
            f"finish it first with 'replk-search resume {directory}'"
        )


def missing(history: History, numbers: Sequence[int], factor: float) -> list[Trial]:
    """Give the trials of these that have no training of that length yet, or a failed one."""
    return [
        history.trials[number]
        for number in numbers
        if history.longer.get((number, factor), {"state": "failed"})["state"] == "failed"
    ]


def train_longer(
    run: Reopened,
    numbers: Sequence[int],
    *,
    factor: float,
    purpose: Purpose,
    workers: int | None = None,
    quiet: bool = False,
    cache: Path | None = None,
    open_pool: Callable[..., Pool] = Pool,
) -> None:
    """Train trials of a finished run `factor` times as long; those that the record has are kept.

    Args:
        run: as `reopened` gives it; its history has the results afterwards.
        numbers: of the trials.
        factor: of the length.
        purpose: stands in the events.
        workers: trainings at a time; None: as the run had.
        quiet: whether to show nothing.
        cache: folder for compiled libraries; None: the user's.
        open_pool: makes the pool.

    Raises:
        RunError: device or compiled library of the run cannot be had here.
        DataError: its images are gone or were changed.
        WorkFailed: a training could not begin.
    """
    todo = missing(run.history, numbers, factor)
    if not todo:
        return
    plan, workers = run.plan, min(workers or run.plan.settings.workers, len(todo))
    resolved_device(plan.settings.device)
    limit = _time_limit(run.history, factor)
    console = Console(len(todo), quiet=quiet, workers=workers)
    with writable(cache or user_cache()) as folder:
        plan = found_again(plan, cache=folder, forced=None, note=console.note)
        images = plan.data.load()
        with decoded(plan.data, images, run.directory) as source:
            del images
            pool = open_pool(workers, preload=preload(plan), cuda=plan.settings.device != "cpu")
            with pool, console:
                console.plan([_plan_text(todo, len(numbers), factor, workers)])
                LongerTrainings(
                    replace(run, plan=replace(plan, data=source)),
                    pool,
                    console,
                    factor=factor,
                    purpose=purpose,
                    workers=workers,
                    time_limit_s=limit,
                ).run(todo)


class LongerTrainings:
    """The loop: as many at a time as there are slots, each result recorded as it comes."""

    def __init__(
        self,
        run: Reopened,
        pool: Slots,
        watcher: Watcher,
        *,
        factor: float,
        purpose: Purpose,
        workers: int = 1,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        """Prepare; `time_limit_s` is for one training."""
        self.reopened = run
        self.pool = pool
        self.watcher = watcher
        self.factor = float(factor)
        self.purpose = purpose
        self.workers = workers
        self.time_limit_s = time_limit_s
        self._devices = itertools.cycle(_devices(run.plan.settings.device))

    def run(self, trials: Sequence[Trial]) -> None:
        """Train these trials.

        Raises:
            WorkFailed: a training cannot reach its files.
        """
        waiting, left = deque(trials), len(trials)
        while left:
            while waiting and self.pool.free:
                trial = waiting.popleft()
                self.pool.submit(self._job(trial))
                self.watcher.trial_started(trial.number, trial.id)
            for event in self.pool.events(WAIT_S):
                if isinstance(event, Progress):
                    self.watcher.progress(key_of(event).trials[0], event.metrics)
                elif isinstance(event, Finished):
                    self._take(event)
                    left -= 1

    def seed(self, trial: Trial) -> int:
        """Give the seed of a trial's longer training; it does not depend on the length."""
        return training_seed(self.reopened.plan.settings.seed, trial.id, LONGER_REPEAT)

    def _job(self, trial: Trial) -> Job:
        plan = self.reopened.plan
        return Job(
            key=JobKey(kind="longer", trials=(trial.number,)),
            function=train_network,
            payload=TrainJob(
                architecture=trial.architecture,
                seed=self.seed(trial),
                recipe=replace(plan.recipe, epochs=self.factor * plan.recipe.epochs),
                data=plan.data,
                device=next(self._devices),
                quiet=str(self.reopened.directory),
                run=str(self.reopened.directory),
                weights=None,
                backends=plan.backends,
            ),
            time_limit_s=self.time_limit_s,
            memory_limit_bytes=memory_limit(self.workers),
        )

    def _take(self, event: Finished) -> None:
        if sentence := refusal(event):
            # There is nothing wrong with the network.
            raise WorkFailed(sentence)
        trial = self.reopened.history.trials[key_of(event).trials[0]]
        found = (
            event.value
            if event.outcome == "ok"
            else {"state": "failed", "error": f"{event.outcome}: {event.error}".strip()}
        )
        with undisturbed():
            written = self.reopened.records.append(
                "longer",
                trial=trial.number,
                factor=self.factor,
                purpose=self.purpose,
                seed=self.seed(trial),
                **found,
            )
            self.reopened.history.apply(written)
        # Its latency was not measured again, so nothing disturbed it now.
        self.watcher.trial_done(row_of(trial) | found | {"latency_disturbed": False})


def _devices(device: str) -> list[str]:
    """Name what trainings take in turn."""
    if device != "cuda":
        return [device]
    # Ray gives each training its GPU, also where the driver has none.
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cuda"]


def _time_limit(history: History, factor: float) -> float:
    known = [_full_seconds(t) for t in history.done if t.state == "complete"]
    return max(TIME_LIMIT_S, HANGS * factor * max(known, default=0.0))


def _full_seconds(trial: Trial) -> float:
    """Give the time of a training in one go; a trial that continued another took a part of it."""
    return float(trial.result.get("train_seconds", 0.0) / trial.share)


def _plan_text(todo: Sequence[Trial], wanted: int, factor: float, workers: int) -> str:
    known = [_full_seconds(trial) for trial in todo]
    took = duration(factor * sum(known) / workers)
    there = wanted - len(todo)
    kept = f"; {there} of them are there already" if there else ""
    said = f"{plural(wanted, 'network')} trained anew at {factor:g} times the length{kept}"
    return f"{said}: about {took}, {workers} at a time"
