"""The end of a search: the front measured again and tested, the recommended network trained on.

Every step is an event of the record. A resumed run repeats only the steps that came before its last
trial; a search that was killed while it ended goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluators.latency import separable
from runs.blocks import METRICS
from runs.history import History, Trial, plain_number
from runs.jobs import (
    TIME_LIMIT_S,
    JobKey,
    OnProgress,
    Slots,
    memory_limit,
    several,
    single,
    undisturbed,
)
from runs.latencies import (
    FRONT_BUDGET_S,
    first_device,
    latency_fields,
    latency_job,
    reference_ms,
)
from runs.objective import (
    ScoreJob,
    TrainJob,
    fit_baseline,
    measure_networks,
    score_networks,
    train_network,
    training_seed,
)
from runs.plan import Plan
from runs.ranking import front, objectives_named
from runs.records import Records
from runs.standings import ranked, recommended
from runs.training_job import weights_name, weights_path
from runs.wording import plural
from runs.worker_time import WorkerTime
from runs.workers import Job

REMEASURE_ROUNDS = 4
"""A network that comes onto the front by a new measurement is measured again too, so often."""
FINAL_FACTOR = 12
"""Length of the final training over that of a trial."""
FINAL_ROUNDS = 3
"""The final training goes on, each round twice as long, while it trails the linear classifier."""
FINAL_MARGIN = 0.01
"""By how much it must be ahead there: a little over the deviation of a share of 2,000 images."""
FINAL_REPEAT = 1_000_000
"""Repeat number that seeds final trainings: used for nothing else."""

Note = Callable[[str], None]


class Finish:
    """The closing steps of one run."""

    def __init__(
        self,
        plan: Plan,
        records: Records,
        pool: Slots,
        *,
        note: Note,
        on_progress: OnProgress,
        time_limit_s: float = TIME_LIMIT_S,
        out_of_time: bool = False,
        begun: float | None = None,
    ) -> None:
        """Prepare the steps.

        Args:
            plan: of the run.
            records: its record, open.
            pool: what runs its jobs.
            note: is told what takes time.
            on_progress: is told how a training goes.
            time_limit_s: for a training as long as a trial's.
            out_of_time: whether trainings were left out because the time was over.
            begun: when the session began, by the monotonic clock; None: now.
        """
        self.plan = plan
        self.time_limit_s = time_limit_s
        self.records = records
        self.pool = pool
        self.note = note
        self.out_of_time = out_of_time
        self.time = WorkerTime(session=begun)
        self.on_progress = on_progress
        self.history = History(records.events)
        self.objectives = objectives_named(plan.settings.objectives)
        last = [e["seq"] for e in records.events if e["event"] == "done"]
        self.last_done = max(last, default=-1)

    def run(self) -> None:
        """Do the steps that the record does not hold yet."""
        if len(self.front()):
            self._once("remeasured", self._remeasure)
            self._once("tested", self._test)
            if not self.plan.settings.study_alone:
                self._once("finaltrained", self._train_on)
            self._prune()
        self._once(
            "finished",
            lambda: {
                "spent": plain_number(self.history.spent),
                "distinct": len(self.history.tried),
                "budget": self.plan.settings.budget,
                "out_of_time": self.out_of_time,
            },
        )

    def front(self) -> list[Trial]:
        """Give the trials of the front, along it."""
        return [
            self.history.trials[int(n)]
            for n in front(ranked(self.plan, self.history), self.objectives)["trial"]
        ]

    def _once(self, kind: str, step: Callable[[], dict[str, Any]]) -> None:
        known = self.history.final.get(kind)
        if known is None or known["seq"] < self.last_done:
            found = step()
            with undisturbed():
                event = self.records.append(kind, **found, at_s=self.time.at_s)
                self.history.apply(event)

    def _remeasure(self) -> dict[str, Any]:
        """Measure the front again with nothing else running, and whoever comes onto it by that."""
        reference = reference_ms(self.plan, self.records, self.pool)
        latencies: dict[str, dict[str, Any]] = {}
        for _ in range(REMEASURE_ROUNDS):
            trials = [trial for trial in self.front() if str(trial.number) not in latencies]
            if not trials:
                break
            said = plural(len(trials), "network")
            self.note(f"measuring {said} of the front again, side by side")
            payload = latency_job(
                self.plan,
                [trial.architecture for trial in trials],
                directory=self.records.directory,
                budget_s=FRONT_BUDGET_S,
            )
            key = JobKey(kind="latency", trials=tuple(trial.number for trial in trials))
            measured = single(self.pool, Job(key=key, function=measure_networks, payload=payload))
            for trial, latency in zip(trials, measured["networks"], strict=True):
                latencies[str(trial.number)] = latency_fields(latency, reference)
                trial.result.update(latencies[str(trial.number)])
        best = [str(t.number) for t in self.front() if str(t.number) in latencies]
        intervals = [
            (latencies[n]["latency_low_ms"], latencies[n]["latency_high_ms"]) for n in best
        ]
        for number, apart in zip(best, separable(intervals), strict=True):
            latencies[number]["separable"] = apart
        return {"latencies": latencies}

    def _test(self) -> dict[str, Any]:
        """Look at the test images once, for the networks on the front."""
        trials = [trial for trial in self.front() if self._weights(trial).exists()]
        if not trials:
            return {"scores": {}}
        shares = min(len(trials), self.plan.settings.workers)
        jobs = []
        for share in range(shares):
            part = trials[share::shares]
            payload = ScoreJob(
                networks=tuple((trial.architecture, weights_name(trial.number)) for trial in part),
                run=str(self.records.directory),
                data=self.plan.data,
                device=first_device(self.plan.settings.device),
            )
            key = JobKey(kind="test", trials=tuple(trial.number for trial in part))
            jobs.append(Job(key=key, function=score_networks, payload=payload))
        scored = several(self.pool, jobs)
        return {
            "scores": {
                str(trial.number): scores
                for share, part in enumerate(scored)
                for trial, scores in zip(trials[share::shares], part, strict=True)
            }
        }

    def _train_on(self) -> dict[str, Any]:
        """Train the recommended network until it beats the linear classifier in validation."""
        metric = METRICS[self.plan.settings.task]
        best = recommended(self.plan, self.history)
        assert best is not None
        start = weights_name(best.number) if self._weights(best).exists() else None
        target = f"weights/final-{best.id}.safetensors"
        epochs = self.plan.recipe.epochs * FINAL_FACTOR
        total, trained, baseline = 0.0, {}, None
        for attempt in range(FINAL_ROUNDS):
            self.note(f"training the recommended network {best.id} on for {epochs:g} epochs")
            jobs = [self._final_job(best, epochs, start=start, target=target, attempt=attempt)]
            if baseline is None:
                jobs.append(
                    Job(key=JobKey(kind="baseline"), function=fit_baseline, payload=self.plan.data)
                )
            values = several(self.pool, jobs, self.on_progress)
            trained, baseline = values[0], baseline or values[1]
            total += epochs
            if trained["state"] == "diverged":
                break
            start, epochs = target, 2 * epochs
            if trained[metric] >= baseline[f"val_{metric}"] + FINAL_MARGIN:
                break
        assert baseline is not None
        test = ScoreJob(
            networks=((best.architecture, target),),
            run=str(self.records.directory),
            data=self.plan.data,
            device=first_device(self.plan.settings.device),
        )
        tested = (
            single(self.pool, Job(key=JobKey(kind="test"), function=score_networks, payload=test))
            if (self.records.directory / target).exists()
            else [{}]
        )
        names = dict.fromkeys(("accuracy", metric))
        return {
            "trial": best.number,
            "id": best.id,
            "epochs": total,
            "state": trained["state"],
            "val_loss": trained["val_loss"],
            **{name: trained[name] for name in names},
            **{f"test_{name}": tested[0].get(f"test_{name}") for name in names},
            **{
                f"baseline_{split}_{name}": baseline[f"{split}_{name}"]
                for split in ("val", "test")
                for name in names
            },
            "weights": Path(target).name,
        }

    def _final_job(
        self, trial: Trial, epochs: float, *, start: str | None, target: str, attempt: int
    ) -> Job:
        return Job(
            key=JobKey(kind="final"),
            function=train_network,
            payload=TrainJob(
                architecture=trial.architecture,
                seed=training_seed(self.plan.settings.seed, trial.id, FINAL_REPEAT + attempt),
                recipe=replace(self.plan.recipe, epochs=epochs),
                data=self.plan.data,
                device=first_device(self.plan.settings.device),
                quiet=str(self.records.directory),
                run=str(self.records.directory),
                weights=target,
                start=start,
                backends=self.plan.backends,
            ),
            time_limit_s=FINAL_FACTOR * 2**attempt * self.time_limit_s,
            memory_limit_bytes=memory_limit(1),
        )

    def _weights(self, trial: Trial) -> Path:
        return weights_path(self.records.directory, trial.number)

    def _prune(self) -> None:
        """Drop the weights that nobody asked to keep.

        What stopped trainings go on from stays, for a run that is given more budget or time.
        """
        keep = self.plan.settings.keep_weights
        if keep == "all":
            return
        if keep == "none":
            shutil.rmtree(self.records.directory / "checkpoints", ignore_errors=True)
        kept = {self._weights(trial) for trial in self.front()} if keep == "front" else set()
        for trial in self.history.trials.values():
            if self._weights(trial) not in kept:
                self._weights(trial).unlink(missing_ok=True)
            # What a killed training left.
            self._weights(trial).with_suffix(".tmp").unlink(missing_ok=True)


def is_finished(history: History, total: int) -> bool:
    """Whether a search to this total has nothing left to do, its closing steps included."""
    finished = history.final.get("finished")
    last = max((trial.result["seq"] for trial in history.done), default=-1)
    if finished is None or finished["seq"] < last:
        return False
    if float(history.spent) < float(finished["spent"]) - 0.001:
        # Damage to the record took trials that were done.
        return False
    # A study that needs no more than it has, or lost a training, ends below its budget.
    complete = history.spent >= total or "exhausted" in history.final
    stopped_by_time = finished.get("out_of_time", False)
    return complete or (finished.get("budget") == total and not stopped_by_time)
