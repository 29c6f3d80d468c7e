"""The main loop: ask, train, measure, record; local workers, one isolated child process a trial.

The record is the truth. A trial's number and architecture are on the disk before it is handed out, and
its result before the slot is given to another; what was asked for and never finished is trained again
when the run is resumed.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

from evaluators.compliance import compliance
from evaluators.cost import Cost, cost
from runs.history import History, Trial
from runs.objective import LatencyJob, TrainJob, measure_networks, train_network, training_seed
from runs.plan import Plan
from runs.proposals import Proposer
from runs.ranking import objectives_named
from runs.records import Event, Records
from runs.workers import Finished, Job, Pool, Progress, Started
from search_space.errors import WorkFailed

WAIT_S = 1.0
"""Longest sleep between two looks at the children."""
FAILURES_IN_A_ROW = 20
STARTS = 2
"""A training that took its driver down twice is recorded as failed, not begun a third time."""
LATENCY_BUDGET_S = 0.1
"""Seconds of measurement for each network during the search; the front is measured longer at the end."""
TIME_LIMIT_S = 1800.0
"""A training that takes longer is one that hangs."""


class Watcher(Protocol):
    """What the loop tells a console."""

    def trial_started(self, number: int, text: str) -> None:
        """A training begins."""

    def progress(self, number: int, metrics: dict[str, Any]) -> None:
        """A training reports."""

    def trial_done(self, row: dict[str, Any]) -> None:
        """A trial has its result."""

    def counts(self, counts: Counter[str]) -> None:
        """Trials by state, duplicates and rejected ones included."""


@dataclass(kw_only=True, slots=True)
class _Shares:
    """Seconds of worker time by what they went to."""

    training: float = 0.0
    latency: float = 0.0
    begin: float = field(default_factory=time.monotonic)

    def fields(self, workers: int) -> dict[str, float]:
        """Give seconds of wall time, and of worker time on training and on latency."""
        wall = time.monotonic() - self.begin
        return {
            "wall_s": round(wall, 2),
            "worker_s": round(wall * workers, 2),
            "training_s": round(self.training, 2),
            "latency_s": round(self.latency, 2),
        }


class Search:
    """One session of a run on this machine."""

    def __init__(self, plan: Plan, records: Records, pool: Pool, watcher: Watcher) -> None:
        self.plan = plan
        self.records = records
        self.pool = pool
        self.watcher = watcher
        self.history = History(records.events)
        self.proposer = Proposer(
            plan.space,
            objectives_named(plan.settings.objectives),
            sampler=plan.settings.sampler,
            seed=plan.settings.seed,
            num_classes=plan.num_classes,
            measure=lambda architecture: measures(cost(architecture, plan.num_classes)),
        )
        self.shares = _Shares()
        self.exhausted = False
        self._again = deque(self.history.pending)
        self._training: dict[int, Trial] = {}
        self._trained: dict[int, dict[str, Any]] = {}
        self._measuring: tuple[int, ...] = ()
        self._devices: dict[int, str] = {}

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.records.directory

    def run(self) -> None:
        """Train until the budget is spent or the space is exhausted.

        Raises:
            WorkFailed: too many trials failed.
        """
        while True:
            self._fill()
            if not (self._training or self._trained or self._measuring):
                if self.shares.training:
                    self._record("timing", **self.shares.fields(self.plan.settings.workers))
                return
            for event in self.pool.events(WAIT_S):
                if isinstance(event, Progress):
                    self.watcher.progress(event.key[1], event.metrics)
                elif isinstance(event, Finished):
                    self._finished(event)
                else:
                    assert isinstance(event, Started)

    # Handing out.

    def _fill(self) -> None:
        """Give every free slot something to do: a measurement first, it holds results back."""
        while self.pool.free:
            if self._trained and not self._measuring:
                self._measure()
                continue
            in_flight = len(self._training) + len(self._trained)
            if self.history.spent + in_flight >= self.plan.settings.budget:
                return
            trial = self._next()
            if trial is None:
                return
            if trial.state == "asked":
                self._train(trial)

    def _next(self) -> Trial | None:
        """Give the next trial: one that a killed session left, else a new proposal."""
        if self._again:
            return self._again.popleft()
        if self.exhausted:
            return None
        number = max(self.history.trials, default=-1) + 1
        proposal = self.proposer.propose(number, self.history)
        if proposal is None:
            # What is in flight cannot free a network, so the space has no more.
            self.exhausted = True
            self._record("exhausted", distinct=len(self.history.tried))
            return None
        if proposal.duplicates or proposal.rejected:
            self._record(
                "refused",
                trial=number,
                duplicates=proposal.duplicates,
                rejected=dict(proposal.rejected),
            )
        architecture = proposal.architecture
        self._record(
            "asked",
            trial=number,
            role=proposal.role,
            id=architecture.id,
            seed=training_seed(self.plan.settings.seed, architecture.id),
            architecture=architecture.to_json(),
            **proposal.fields(),
        )
        return self.history.trials[number]

    def _train(self, trial: Trial) -> None:
        if trial.starts >= STARTS:
            self._fail(trial, "its training ended the whole search twice")
            return
        self._record("started", trial=trial.number, start=trial.starts + 1)
        self._training[trial.number] = trial
        device = self._device(trial.number)
        self.pool.submit(
            Job(
                key=("train", trial.number),
                function=train_network,
                payload=TrainJob(
                    architecture=trial.architecture,
                    seed=trial.seed,
                    recipe=self.plan.recipe,
                    data=self.plan.data,
                    device=device,
                    run=str(self.directory),
                    weights=str(weights_path(self.directory, trial.number)),
                ),
                time_limit_s=TIME_LIMIT_S,
                memory_limit_bytes=memory_limit(self.plan.settings.workers),
            )
        )
        self.watcher.trial_started(trial.number, trial.id)

    def _measure(self) -> None:
        """Measure all trained networks that wait, side by side."""
        numbers = self._measuring = tuple(self._trained)
        self.pool.submit(
            Job(
                key=("latency", *numbers),
                function=measure_networks,
                payload=LatencyJob(
                    architectures=tuple(self.history.trials[n].architecture for n in numbers),
                    reference=self.plan.reference,
                    num_classes=self.plan.num_classes,
                    device=self._device(numbers[0]),
                    batch_size=self.plan.settings.latency_batch,
                    run=str(self.directory),
                    budget_s=LATENCY_BUDGET_S,
                ),
                time_limit_s=TIME_LIMIT_S,
            )
        )

    def _device(self, number: int) -> str:
        """Give a trial its device: the GPU that the fewest running trials have."""
        if self.plan.settings.device != "cuda":
            return self.plan.settings.device
        count = self.plan.settings.workers
        taken = Counter(self._devices[n] for n in self._training if n in self._devices)
        self._devices[number] = min((f"cuda:{i}" for i in range(count)), key=lambda d: taken[d])
        return self._devices[number]

    # Taking in.

    def _finished(self, event: Finished) -> None:
        kind, *numbers = event.key  # type: ignore[misc]
        if kind == "train":
            trial = self._training.pop(numbers[0])
            if event.outcome == "ok":
                self.shares.training += event.value["train_seconds"]
                self._trained[trial.number] = event.value
            else:
                self._fail(trial, f"{event.outcome}: {event.error}")
            return
        self._measuring = ()
        if event.outcome != "ok":
            for number in numbers:
                del self._trained[number]
                self._fail(self.history.trials[number], f"latency: {event.outcome}: {event.error}")
            return
        # Every worker stands still while one measures.
        alone = event.value["seconds"] - event.value["waited"]
        self.shares.latency += alone * self.plan.settings.workers
        for number, latency in zip(numbers, event.value["networks"], strict=True):
            self._complete(self.history.trials[number], self._trained.pop(number), latency)

    def _complete(self, trial: Trial, trained: dict[str, Any], latency: dict[str, Any]) -> None:
        counted = cost(trial.architecture, self.plan.num_classes)
        scores = compliance(trial.architecture)
        self._record(
            "done",
            trial=trial.number,
            **trained,
            **latency_fields(latency),
            macs=counted.macs_merged,
            params=counted.params_merged,
            macs_train=counted.macs_train,
            params_train=counted.params_train,
            activations=counted.activations,
            s1=scores.s1,
            s2=scores.s2,
            s3=scores.s3,
            s4=scores.s4,
        )
        self._told(trial)

    def _fail(self, trial: Trial, why: str) -> None:
        """Record a failed trial, and end the run where nothing but failures comes."""
        self._record("done", trial=trial.number, state="failed", error=why.strip())
        self._told(trial)
        failed = [t for t in self.history.done if t.state == "failed"]
        last = self.history.done[-FAILURES_IN_A_ROW:]
        in_a_row = len(last) == FAILURES_IN_A_ROW and all(t.state == "failed" for t in last)
        if in_a_row or len(failed) > self.plan.settings.budget / 2:
            reasons = Counter(str(t.result["error"]).splitlines()[0] for t in failed)
            reason, times = reasons.most_common(1)[0]
            raise WorkFailed(
                f"{self.directory}: {len(failed)} of {len(self.history.done)} trials failed, {times} of them with: "
                f"{reason}; mend the cause, then continue with 'replk-search resume {self.directory}'"
            )

    def _told(self, trial: Trial) -> None:
        row = next(row for row in self.history.rows() if row["trial"] == trial.number)
        self.watcher.trial_done(row)
        self.watcher.counts(self.history.counts)

    def _record(self, kind: str, **fields: Any) -> Event:
        event = self.records.append(kind, **fields)
        self.history.apply(event)
        return event


def measures(counted: Cost) -> dict[str, float]:
    """Give what constraints are about, of the merged network and one image."""
    return {
        "params": counted.params_merged,
        "macs": counted.macs_merged,
        "activations": counted.activations,
        "depth": counted.depth,
    }


def latency_fields(latency: dict[str, Any]) -> dict[str, float]:
    """Give the columns of a measured latency."""
    return {
        "latency_ms": latency["median_ms"],
        "latency_low_ms": latency["low_ms"],
        "latency_high_ms": latency["high_ms"],
    }


def weights_path(directory: Path, number: int) -> Path:
    """Give the file of a trial's weights."""
    return directory / "weights" / f"{number}.safetensors"


def memory_limit(workers: int) -> int:
    """Give the bytes that one training may take: its share of four fifths of the machine."""
    return int(0.8 * psutil.virtual_memory().total / workers)


def single(
    pool: Pool, job: Job, on_progress: Callable[[dict[str, Any]], None] = lambda _: None
) -> Any:
    """Run one job alone and give its value.

    Raises:
        WorkFailed: the job did not end well.
    """
    return several(pool, [job], on_progress)[0]


def several(
    pool: Pool, jobs: list[Job], on_progress: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[Any]:
    """Run some jobs, as many at a time as there are slots, and give their values in order.

    Raises:
        WorkFailed: a job did not end well.
    """
    waiting, values = deque(jobs), {}
    while len(values) < len(jobs):
        while waiting and pool.free:
            pool.submit(waiting.popleft())
        for event in pool.events(WAIT_S):
            if isinstance(event, Progress):
                on_progress(event.metrics)
            elif isinstance(event, Finished):
                if event.outcome != "ok":
                    raise WorkFailed(f"{event.key}: {event.outcome}: {event.error}")
                values[event.key] = event.value
    return [values[job.key] for job in jobs]
