"""The main loop: ask, train, measure, record; one isolated child process a trial.

The record is the truth. A trial's number and architecture are on the disk before it is handed out,
and its result before the slot is given to another; what was asked for and never finished is trained
again when the run is resumed.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs.anchors import first_networks
from runs.attempts import (
    STARTS,
    another_try,
    images_at_once,
    is_alone,
    require_hope,
    told_diverged,
    too_large,
)
from runs.blocks import chance_level
from runs.devices import DeviceShares
from runs.history import History, Trial, row_of
from runs.jobs import (
    TIME_LIMIT_S,
    WAIT_S,
    JobKey,
    Room,
    Slots,
    first_line,
    key_of,
    memory_limit,
    refusal,
    undisturbed,
)
from runs.latencies import TRIAL_BUDGET_S, latency_fields, latency_job, reference_ms
from runs.measures import measure_with, model_of, network_fields
from runs.objective import measure_networks, training_seed
from runs.plan import Plan
from runs.prediction import PREDICTED
from runs.proposals import Proposer
from runs.ranking import objectives_named
from runs.records import Event, Records
from runs.schedule import Schedule
from runs.standings import leaders_of
from runs.study import study_of
from runs.training_job import checkpoint_name, training_job
from runs.waiting import Waiting
from runs.watcher import Watcher
from runs.worker_time import WorkerTime
from runs.workers import Finished, Job, Progress
from search_space.errors import WorkFailed

LATENCY = (
    *("latency_ms", "latency_low_ms", "latency_high_ms", "latency_raw_ms", "latency_disturbed"),
    PREDICTED,
)
"""What a training that goes on takes over: it is the same network."""


class Search:
    """One session of a run, on this machine or on a cluster."""

    def __init__(
        self,
        plan: Plan,
        records: Records,
        pool: Slots,
        watcher: Watcher,
        *,
        time_limit_s: float = TIME_LIMIT_S,
        room: Room | None = None,
        in_time: Callable[[], bool] = lambda: True,
        on_done: Callable[[Trial], None] = lambda _: None,
        begun: float | None = None,
    ) -> None:
        """Prepare to go on where the record ends.

        Args:
            plan: of the run.
            records: its record, open.
            pool: what runs its jobs.
            watcher: is told what happens.
            time_limit_s: for one training in full length.
            room: for one training; None: its part of this machine's memory.
            in_time: whether another training may begin.
            on_done: is told of every finished trial.
            begun: when the session began, by the monotonic clock; None: now.
        """
        self.plan = plan
        self.records = records
        self.pool = pool
        self.watcher = watcher
        self.time_limit_s = time_limit_s
        self.room = room or Room(host_bytes=memory_limit(plan.settings.workers))
        self.in_time = in_time
        self.on_done = on_done
        self.history = History(records.events)
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
        self.time = WorkerTime(session=begun)
        self.out_of_time = False
        """Whether trainings were left out because the time is over."""
        self._done: list[Trial] = []
        self._waiting = Waiting(self.history)
        self._begun = {trial.number: trial.starts for trial in self.history.pending}
        self._training: dict[int, Trial] = {}
        self._trained: dict[int, dict[str, Any]] = {}
        self._reference_ms = float("nan")
        self._measuring: tuple[int, ...] = ()
        self._one_by_one: deque[int] = deque()
        self._measured_again: set[int] = set()
        self._devices = DeviceShares(plan.settings.device, self.room.gpus)

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
                    if self.time.training:
                        self._record("timing", **self.time.fields(self.plan.settings.workers))
                    return
                for event in self.pool.events(WAIT_S):
                    if isinstance(event, Progress):
                        self.watcher.progress(key_of(event).trials[0], event.metrics)
                    elif isinstance(event, Finished):
                        self._finished(event)
        except (KeyboardInterrupt, WorkFailed):
            # They are begun again, and it was not they that ended this session.
            with contextlib.suppress(WorkFailed):
                self._record("interrupted", trials=self._cut_off())
            raise

    def _cut_off(self) -> list[int]:
        """Give the trials that this session began and did not end, as the record has them."""
        return [t.number for t in self.history.pending if t.starts > self._begun.get(t.number, 0)]

    # Handing out.

    def _fill(self) -> None:
        """Give every free slot something to do: a measurement first, it holds results back."""
        while self.pool.free:
            if self._trained and not self._measuring:
                one = self._one_by_one.popleft() if self._one_by_one else None
                self._measure(tuple(self._trained) if one is None else (one,))
                continue
            trial = self._next()
            if trial is None:
                return
            if trial.state == "asked":
                self._train(trial)

    def _next(self) -> Trial | None:
        """Give the next trial: one that was handed out before, else a new proposal."""
        running = self._training.values()
        if any(is_alone(self.history, trial) for trial in running):
            return None
        left = self.plan.settings.budget - self.history.spent
        promised = sum(trial.share for trial in self.history.pending)
        if not self._waiting and promised >= left:
            return None
        if not self.in_time():
            self.out_of_time = True
            return None
        if self._waiting:
            taken = sum(self.history.trials[n].share for n in (*self._training, *self._trained))
            return self._waiting.next(running, left - taken)
        return self._asked()

    def _asked(self) -> Trial | None:
        """Give a new trial, recorded before it is handed out."""
        number = self.history.next_number
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
            self._lose(trial, f"its training ended the whole search {STARTS} times")
            return
        alone = is_alone(self.history, trial)
        images = self._images(trial)
        if images is None:
            self._make_room(trial)
            return
        self._record("started", trial=trial.number, start=trial.starts + 1, images=images)
        self._training[trial.number] = trial
        self.pool.submit(
            training_job(
                self.plan,
                trial,
                directory=self.directory,
                device=self._devices.take(trial.number),
                images=images,
                time_limit_s=self.time_limit_s,
                memory_bytes=self.room.host(alone=alone),
                gpu_share=1.0 if alone else self.plan.settings.gpus_per_trial,
            )
        )
        self.watcher.trial_started(trial.number, trial.id)

    def _images(self, trial: Trial) -> int | None:
        """Give the images of a backward pass of a trial; None where no two fit."""
        known = self.history.retried.get(trial.number)
        fewer: int | None = known["micro_batch"] if known else None
        return fewer or images_at_once(self.plan, trial, self.room.network())

    def _make_room(self, trial: Trial) -> None:
        """Have a network that does not fit beside others trained alone, if it fits there."""
        most = self.room.network(alone=True)
        why = too_large(self.plan, trial, most)
        images = images_at_once(self.plan, trial, most)
        if images is None or is_alone(self.history, trial):
            self._lose(trial, why, state="infeasible")
            return
        fields = {"outcome": "memory", "why": why, "micro_batch": images}
        self._record("retried", trial=trial.number, **fields)
        self._waiting.add(trial)

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
        self._devices.give_back(trial.number)
        if event.outcome != "ok":
            self._try_again(trial, event)
            return
        trained = told_diverged(event.value)
        self.time.training += trained["train_seconds"]
        if trial.continues is None:
            self._trained[trial.number] = trained
            return
        before = self.history.trials[trial.continues].result
        self._complete(trial, trained, {k: before[k] for k in LATENCY if k in before})
        (self.directory / checkpoint_name(trial.continues)).unlink(missing_ok=True)

    def _try_again(self, trial: Trial, event: Finished) -> None:
        """Train a trial once more where that can help, else record that it failed."""
        before = self.history.retried.get(trial.number)
        images = self._images(trial) or self.plan.recipe.batch_size
        fields = another_try(trial, event, before, images=images)
        if fields is not None:
            self._record("retried", **fields)
            self._waiting.add(trial)
            return
        state = "infeasible" if event.outcome == "memory" else "failed"
        self._lose(trial, f"{event.outcome}: {event.error}", state=state)

    def _take_latencies(self, event: Finished) -> None:
        numbers, self._measuring = self._measuring, ()
        if event.outcome == "ok":
            # Every worker stands still while one measures.
            alone = event.value["seconds"] - event.value["waited"]
            self.time.latency += alone * self.plan.settings.workers
            for number, latency in zip(numbers, event.value["networks"], strict=True):
                trial = self.history.trials[number]
                fields = latency_fields(latency, self._reference_ms) | self._predicted(trial)
                self._complete(trial, self._trained.pop(number), fields)
            return
        # Measured one by one, a network that cannot be measured fails alone.
        if len(numbers) > 1:
            self._one_by_one.extend(numbers)
            return
        trial = self.history.trials[numbers[0]]
        if event.outcome == "crash" and trial.number not in self._measured_again:
            self._measured_again.add(trial.number)
            return
        del self._trained[trial.number]
        self._lose(trial, f"latency: {first_line(event)}")

    def _complete(self, trial: Trial, trained: dict[str, Any], latency: dict[str, Any]) -> None:
        """Record a trained and measured trial, whose network's files are on the disk."""
        self._record(
            "done",
            trial=trial.number,
            **trained,
            **latency,
            **network_fields(trial.architecture, self.plan.num_classes),
        )
        self._told(trial)

    def _predicted(self, trial: Trial) -> dict[str, float]:
        """Give the latency that was predicted before building, where there is a model."""
        if self.model is None:
            return {}
        return {PREDICTED: self.model.predict(trial.architecture)}

    def _lose(self, trial: Trial, why: str, *, state: str = "failed") -> None:
        """Record a trial that brought nothing."""
        self._record("done", trial=trial.number, state=state, error=why.strip())
        self._told(trial)
        require_hope(self._done, budget=self.plan.settings.budget, directory=self.directory)

    def _told(self, trial: Trial) -> None:
        self._done.append(trial)
        self.on_done(trial)
        self.watcher.trial_done(row_of(trial))
        self.watcher.counts(self.history.counts)

    def _record(self, kind: str, **fields: Any) -> Event:
        with undisturbed():
            event = self.records.append(kind, **fields, at_s=self.time.at_s)
            self.history.apply(event)
        return event
