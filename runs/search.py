"""The main loop: ask, train, measure, record; one isolated child process a trial.

The record is the truth. A trial's number and architecture are on the disk before it is handed out,
and its result before the slot is given to another; what was asked for and never finished is trained
again when the run is resumed.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from evaluators.compliance import compliance
from evaluators.cost import cost
from runs.anchors import first_networks
from runs.blocks import chance_level
from runs.history import History, Trial, row_of
from runs.jobs import (
    TIME_LIMIT_S,
    WAIT_S,
    JobKey,
    Slots,
    first_line,
    key_of,
    memory_limit,
    refusal,
    undisturbed,
)
from runs.latencies import TRIAL_BUDGET_S, latency_fields, latency_job, reference_ms
from runs.measures import measure_with, model_of
from runs.objective import TrainJob, measure_networks, train_network, training_seed
from runs.plan import Plan
from runs.prediction import PREDICTED
from runs.proposals import Proposer
from runs.ranking import objectives_named
from runs.records import Event, Records
from runs.schedule import Schedule
from runs.standings import leaders_of
from runs.study import study_of
from runs.workers import Finished, Job, Progress
from search_space.errors import RunError, WorkFailed

FAILURES_IN_A_ROW = 20
STARTS = 4
"""A training is begun so often; one that took its driver down each time is recorded as failed.

One network may take a machine down; somebody who kills a run three times must lose none.
"""


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

    def __init__(
        self,
        plan: Plan,
        records: Records,
        pool: Slots,
        watcher: Watcher,
        *,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        """Prepare to go on where the record ends; `time_limit_s` is for one training."""
        self.plan = plan
        self.records = records
        self.pool = pool
        self.watcher = watcher
        self.time_limit_s = time_limit_s
        self.history = History(records.events)
        self._earlier = len(self.history.done)
        self.model = model_of(plan)
        proposer = Proposer(
            plan.space,
            objectives_named(plan.settings.objectives),
            sampler=plan.settings.sampler,
            seed=plan.settings.seed,
            chance=chance_level(plan),
            measure=measure_with(plan.num_classes, self.model),
            first=first_networks(
                plan.space, plan.settings.warm_start, plan.facts.get("warm_start", {})
            ),
        )
        self.schedule = Schedule(
            plan,
            proposer,
            study_of(plan),
            lambda history: leaders_of(plan, history),
            exhausted="exhausted" in self.history.final,
        )
        self.shares = _Shares()
        self._again = deque(self.history.pending)
        self._training: dict[int, Trial] = {}
        self._trained: dict[int, dict[str, Any]] = {}
        self._reference_ms = float("nan")
        self._measuring: tuple[int, ...] = ()
        self._alone: deque[int] = deque()
        self._devices: dict[int, str] = {}

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.records.directory

    @property
    def exhausted(self) -> bool:
        """Whether the space has no network left."""
        return self.schedule.exhausted

    def run(self) -> None:
        """Train until the budget is spent or the space is exhausted.

        Raises:
            WorkFailed: too many trials failed, or the disk takes no weights.
        """
        self._reference_ms = reference_ms(self.plan, self.records, self.pool)
        try:
            while True:
                self._fill()
                if not (self._training or self._trained):
                    if self.shares.training:
                        self._record("timing", **self.shares.fields(self.plan.settings.workers))
                    return
                for event in self.pool.events(WAIT_S):
                    if isinstance(event, Progress):
                        self.watcher.progress(key_of(event).trials[0], event.metrics)
                    elif isinstance(event, Finished):
                        self._finished(event)
        except (KeyboardInterrupt, WorkFailed):
            # They are begun again, and it was not they that ended this session.
            with contextlib.suppress(RunError):
                self._record("interrupted", trials=sorted({*self._training, *self._trained}))
            raise

    # Handing out.

    def _fill(self) -> None:
        """Give every free slot something to do: a measurement first, it holds results back."""
        while self.pool.free:
            if self._trained and not self._measuring:
                alone = self._alone.popleft() if self._alone else None
                self._measure(tuple(self._trained) if alone is None else (alone,))
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
        number = max(self.history.trials, default=-1) + 1
        proposal = self.schedule.propose(number, self.history)
        if self.exhausted and "exhausted" not in self.history.final:
            self._record("exhausted", distinct=len(self.history.tried))
        if proposal is None or proposal == "wait":
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
            seed=training_seed(
                self.plan.settings.seed, architecture.id, int(proposal.more.get("repeat", 0))
            ),
            architecture=architecture.to_json(),
            **proposal.fields(),
        )
        return self.history.trials[number]

    def _train(self, trial: Trial) -> None:
        if trial.starts >= STARTS:
            self._fail(trial, f"its training ended the whole search {STARTS} times")
            return
        self._record("started", trial=trial.number, start=trial.starts + 1)
        self._training[trial.number] = trial
        self.pool.submit(
            Job(
                key=JobKey(kind="train", trials=(trial.number,)),
                function=train_network,
                payload=TrainJob(
                    architecture=trial.architecture,
                    seed=trial.seed,
                    recipe=self.plan.recipe,
                    data=self.plan.data,
                    device=self._device(trial.number),
                    quiet=str(self.directory),
                    run=str(self.directory),
                    weights=weights_name(trial.number),
                    backends=self.plan.backends,
                ),
                time_limit_s=self.time_limit_s,
                memory_limit_bytes=memory_limit(self.plan.settings.workers),
            )
        )
        self.watcher.trial_started(trial.number, trial.id)

    def _measure(self, numbers: tuple[int, ...]) -> None:
        """Measure trained networks side by side."""
        self._measuring = numbers
        self.pool.submit(
            Job(
                key=JobKey(kind="latency", trials=numbers),
                function=measure_networks,
                payload=latency_job(
                    self.plan,
                    [self.history.trials[n].architecture for n in numbers],
                    directory=self.directory,
                    budget_s=TRIAL_BUDGET_S,
                ),
                # A training that hangs never yields to it, and is ended by its own limit.
                time_limit_s=2 * self.time_limit_s,
            )
        )

    def _device(self, number: int) -> str:
        """Give a training its device: the GPU that the fewest running ones have."""
        if self.plan.settings.device != "cuda":
            return self.plan.settings.device
        taken = Counter(self._devices[n] for n in self._training if n in self._devices)
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        self._devices[number] = min(devices, key=lambda device: taken[device])
        return self._devices[number]

    # Taking in.

    def _finished(self, event: Finished) -> None:
        if key_of(event).kind == "train":
            self._take_training(event, self.history.trials[key_of(event).trials[0]])
        else:
            self._take_latencies(event)

    def _take_training(self, event: Finished, trial: Trial) -> None:
        if sentence := refusal(event):
            # The trial stays pending: there is nothing wrong with it.
            raise WorkFailed(
                f"{sentence}, then continue with 'replk-search resume {self.directory}'"
            )
        del self._training[trial.number]
        if event.outcome == "ok":
            self.shares.training += event.value["train_seconds"]
            self._trained[trial.number] = event.value
        else:
            self._fail(trial, f"{event.outcome}: {event.error}")

    def _take_latencies(self, event: Finished) -> None:
        numbers, self._measuring = self._measuring, ()
        if event.outcome == "ok":
            # Every worker stands still while one measures.
            alone = event.value["seconds"] - event.value["waited"]
            self.shares.latency += alone * self.plan.settings.workers
            for number, latency in zip(numbers, event.value["networks"], strict=True):
                self._complete(self.history.trials[number], self._trained.pop(number), latency)
            return
        # Measured one by one, a network that cannot be measured fails alone.
        if len(numbers) > 1:
            self._alone.extend(numbers)
            return
        del self._trained[numbers[0]]
        self._fail(self.history.trials[numbers[0]], f"latency: {first_line(event)}")

    def _complete(self, trial: Trial, trained: dict[str, Any], latency: dict[str, Any]) -> None:
        counted = cost(trial.architecture, self.plan.num_classes)
        scores = compliance(trial.architecture)
        self._record(
            "done",
            trial=trial.number,
            **trained,
            **latency_fields(latency, self._reference_ms),
            **self._predicted(trial),
            macs=counted.macs_inference,
            params=counted.params_inference,
            macs_train=counted.macs_train,
            params_train=counted.params_train,
            activations=counted.activations,
            s1=scores.s1,
            s2=scores.s2,
            s3=scores.s3,
            s4=scores.s4,
        )
        self._told(trial)

    def _predicted(self, trial: Trial) -> dict[str, float]:
        """Give the latency that was predicted before building, where there is a model."""
        if self.model is None:
            return {}
        return {PREDICTED: self.model.predict(trial.architecture)}

    def _fail(self, trial: Trial, why: str) -> None:
        """Record a failed trial, and end the run where this session brings little but failures."""
        self._record("done", trial=trial.number, state="failed", error=why.strip())
        self._told(trial)
        done = self.history.done[self._earlier :]
        failed = [t for t in done if t.state == "failed"]
        last = done[-FAILURES_IN_A_ROW:]
        in_a_row = len(last) == FAILURES_IN_A_ROW and all(t.state == "failed" for t in last)
        if in_a_row or len(failed) > self.plan.settings.budget / 2:
            reasons = Counter(str(t.result["error"]).splitlines()[0] for t in failed)
            reason, times = reasons.most_common(1)[0]
            raise WorkFailed(
                f"{self.directory}: {len(failed)} of {len(done)} trials failed, {times} of them "
                f"with: {reason}; mend the cause, then continue with "
                f"'replk-search resume {self.directory}'"
            )

    def _told(self, trial: Trial) -> None:
        self.watcher.trial_done(row_of(trial))
        self.watcher.counts(self.history.counts)

    def _record(self, kind: str, **fields: Any) -> Event:
        with undisturbed():
            event = self.records.append(kind, **fields)
            self.history.apply(event)
        return event


def weights_name(number: int) -> str:
    """Name the file of a trial's weights inside its run directory."""
    return f"weights/{number}.safetensors"


def weights_path(directory: Path, number: int) -> Path:
    """Give the file of a trial's weights."""
    return directory / weights_name(number)
