"""How long a search will take, from a few timed steps or from what is done already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluators.latency import MIN_ROUNDS, WARMUP_CALLS
from runs.console import duration
from runs.finish import FINAL_FACTOR
from runs.history import History
from runs.jobs import TIME_LIMIT_S, JobKey, Slots, memory_limit, several
from runs.latencies import TRIAL_BUDGET_S, first_device
from runs.measures import model_of
from runs.objective import TimingJob, time_trainings
from runs.plan import Plan
from runs.workers import Job
from search_space.census import Census

TIMED_NETWORKS = 6
"""Networks whose steps are timed."""
PREDICTED_NETWORKS = 100
"""Networks whose latency is predicted."""
TRIAL_S = 0.3
"""What a trial takes beside its training and its latency: fork, merge check, record."""
ENOUGH_DONE = 5
"""Finished trainings that tell more than timed steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a search will take."""

    seconds: float
    low: float
    high: float
    """Ends of the range that the timed networks suggest."""
    training_s: float
    """Mean seconds of one training."""

    def text(self) -> str:
        """Say it in words."""
        span = f"{duration(self.low)} to {duration(self.high)}"
        return f"about {duration(self.seconds)} ({span}), {self.training_s:.1f} s a training"


def forecast(plan: Plan, pool: Slots, history: History) -> Forecast:
    """Say what the trainings that are left and the closing steps will take.

    Reckons with the trainings that are done; where these are few, times a few steps of a few
    networks of the space.
    """
    known = [t.result["train_seconds"] for t in history.done if t.state == "complete"]
    timed = np.array(known if len(known) >= ENOUGH_DONE else _timed(plan, pool))
    left, workers = plan.settings.budget - history.spent, plan.settings.workers
    latency = measurement_s(plan)

    def whole(training: float) -> float:
        # A latency measurement stops every worker: it is paid once a trial, whatever their number.
        search = left * ((training + TRIAL_S) / workers + latency)
        return search + (0 if plan.settings.study_alone else FINAL_FACTOR * training)

    mean, spread = float(timed.mean()), float(timed.std(ddof=1) / len(timed) ** 0.5)
    return Forecast(
        seconds=whole(mean),
        low=whole(max(mean - 2 * spread, float(timed.min()))),
        high=whole(mean + 2 * spread),
        training_s=mean,
    )


def measurement_s(plan: Plan) -> float:
    """Say how long a trial's latency takes to measure, the reference beside it included.

    That is its budget, unless the networks are so slow, by the model where there is one, that the
    least number of rounds takes longer.
    """
    budget, model = 2 * TRIAL_BUDGET_S, model_of(plan)
    if model is None:
        return budget
    census, rng = Census(plan.space), np.random.default_rng(plan.settings.seed)
    networks = (plan.reference, *(census.sample(rng) for _ in range(PREDICTED_NETWORKS)))
    reference, *others = (model.predict(network) for network in networks)
    rounds = MIN_ROUNDS + WARMUP_CALLS["cuda" if plan.settings.device != "cpu" else "cpu"]
    return max(budget, rounds * (reference + float(np.mean(others))) / 1000)


def _timed(plan: Plan, pool: Slots) -> list[float]:
    """Time some networks, as many at a time as the search will train."""
    rng = np.random.default_rng(plan.settings.seed)
    census = Census(plan.space)
    networks = (plan.reference, *(census.sample(rng) for _ in range(TIMED_NETWORKS - 1)))
    workers = min(plan.settings.workers, len(networks), pool.free)
    jobs = [
        Job(
            key=JobKey(kind="timing", trials=(worker,)),
            function=time_trainings,
            payload=TimingJob(
                architectures=networks[worker::workers],
                recipe=plan.recipe,
                data=plan.data,
                device=first_device(plan.settings.device),
                backends=plan.backends,
            ),
            time_limit_s=TIME_LIMIT_S,
            memory_limit_bytes=memory_limit(workers),
        )
        for worker in range(workers)
    ]
    return [seconds for part in several(pool, jobs) for seconds in part]
