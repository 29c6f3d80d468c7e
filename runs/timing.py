"""Steps of a few networks, timed before a search begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.contexts import Context, draw_contexts, factors, members
from evaluators.evidence import GUIDELINES
from evaluators.latency import MIN_ROUNDS, WARMUP_CALLS
from evaluators.memory import fitting_images
from runs.calibration import draw_networks
from runs.jobs import TIME_LIMIT_S, JobKey, Room, Slots, memory_limit, several
from runs.latencies import TRIAL_BUDGET_S, first_device
from runs.measures import measure_with, model_of
from runs.objective import TimingJob, time_trainings
from runs.plan import Plan
from runs.workers import Job
from search_space.architecture import Architecture
from search_space.census import Census

TIMED_NETWORKS = 6
"""Networks of the space whose steps are timed."""
TIMED_BLOCKS = 3
"""Contexts of the study whose networks are timed, two each: a small, a middle and a large one."""
PREDICTED_NETWORKS = 100
"""Networks whose latency is predicted."""

Seconds = tuple[float, float]
"""Of a full-length training: what is in proportion to its length, and what comes once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """What trainings take, by a few networks."""

    search: tuple[Seconds, ...]
    """Networks of the space."""
    study: tuple[Seconds, ...]
    """Networks of the study; those of the space where it has none."""
    latency_s: float
    """Of one network, the reference beside it included; no training goes on meanwhile."""


def time_networks(plan: Plan, pool: Slots, room: Room | None = None) -> Timed:
    """Time steps of a few networks of the space and of its study, as many at a time as are free.

    Args:
        plan: says how the networks are trained.
        pool: runs the jobs.
        room: for one training; None: its part of this machine's memory.

    Raises:
        WorkFailed: a network could not be timed.
    """
    drawn = [plan.reference, *draw_networks(plan, TIMED_NETWORKS - 1)[: TIMED_NETWORKS - 1]]
    limit = memory_limit(plan.settings.workers) if room is None else room.host_bytes
    drawn = _trainable(plan, drawn, limit) or [plan.reference]
    blocks = _trainable(plan, block_networks(plan), limit)
    seconds = _timed(plan, pool, [*drawn, *blocks], limit)
    own, study = seconds[: len(drawn)], seconds[len(drawn) :]
    return Timed(search=own, study=study or own, latency_s=measurement_s(plan))


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


def block_networks(plan: Plan) -> list[Architecture]:
    """Give networks of the study at both ends of its factors; none where a run has no study."""
    if not (plan.settings.noise or plan.settings.evidence):
        return []
    document = plan.facts.get("study")
    measure = measure_with(plan.num_classes, model_of(plan))
    if document is not None:
        contexts = [Context.from_dict(one) for one in document["contexts"][:TIMED_BLOCKS]]
    elif all(factor.missing is not None for factor in factors(plan.space)):
        contexts = []
    else:
        # A time that is made into a budget is shared out afterwards: there may be a study.
        rng = np.random.default_rng((plan.settings.seed, 0))
        contexts = draw_contexts(plan.space, TIMED_BLOCKS, measure=measure, rng=rng)
    ends = [[level] * len(GUIDELINES) for level in (0, 1)]
    return [
        network
        for context in contexts
        for network in members(context, ends, plan.space, measure=measure)
    ]


def _trainable(
    plan: Plan, networks: Sequence[Architecture], limit_bytes: int
) -> list[Architecture]:
    """Give the networks whose batches are predicted to fit into the memory of a training whole.

    On a GPU all of them: the limit is one of main memory.
    """
    batch = plan.recipe.batch_size
    if plan.settings.device != "cpu":
        return list(networks)
    return [
        network
        for network in networks
        if batch
        == fitting_images(network, plan.num_classes, batch, limit_bytes, backends=plan.backends)
    ]


def _timed(
    plan: Plan, pool: Slots, networks: Sequence[Architecture], limit_bytes: int
) -> tuple[Seconds, ...]:
    """Time some networks, as many at a time as the search will train."""
    workers = min(plan.settings.workers, len(networks), pool.free)
    jobs = [
        Job(
            key=JobKey(kind="timing", trials=(worker,)),
            function=time_trainings,
            payload=TimingJob(
                architectures=tuple(networks[worker::workers]),
                recipe=plan.recipe,
                data=plan.data,
                device=first_device(plan.settings.device),
                backends=plan.backends,
            ),
            time_limit_s=TIME_LIMIT_S,
            memory_limit_bytes=limit_bytes,
        )
        for worker in range(workers)
    ]
    found = several(pool, jobs)
    return tuple(found[place % workers][place // workers] for place in range(len(networks)))
