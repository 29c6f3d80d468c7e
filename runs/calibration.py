"""Calibration of the latency model: networks of the space, measured before the search begins.

The run's reference is measured here too, so that measured and predicted milliseconds have one
scale. Nothing is on the disk yet: a constraint that nothing meets leaves nothing behind.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from evaluators.latency_model import (
    FOLDS,
    Conditions,
    LatencyModel,
    vector_width,
)
from runs.anchors import broken, published_start
from runs.jobs import TIME_LIMIT_S, JobKey, Slots, memory_limit, single
from runs.latencies import latency_fields, latency_job, measure_reference
from runs.measures import measure_with
from runs.objective import LatencyJob, measure_networks
from runs.plan import Plan
from runs.prediction import PREDICTED
from runs.workers import Job
from search_space.acceptance import LATENCY, known_beforehand, require_acceptance
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.errors import WorkFailed

NETWORKS = 36
"""Networks to measure: of 18, 24 and 36 the held-out error was 7.2, 6.3 and 5.9 % (families)."""
AT_ONCE = 9
"""Networks of one measurement; so few are in memory at a time."""
BUDGETS_S = (0.05, 0.3)
"""Seconds of measurement for a network; the second where the first left a poor model."""
GOOD_ERROR = 0.10
"""Held-out error above which the networks are measured again, longer: the machine may be busy."""
WORST_ERROR = 0.30
"""Held-out error above which a model judges nothing."""
WORTH = 100
"""Trainings from which on a run without a constraint on latency calibrates too."""
DRAWS = 20_000
"""Draws after which networks that break other constraints are taken as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A fitted model and what it was fitted on."""

    model: LatencyModel
    reference: dict[str, Any]
    """Fields of the event `reference`: the run's, in the same milliseconds."""
    networks: list[dict[str, Any]]
    """Of each network its id, its measured latency and the prediction of the final model."""
    seconds: float

    def events(self) -> dict[str, dict[str, Any]]:
        """Give the events of the record, by their kind."""
        told = {"networks": self.networks, "seconds": round(self.seconds, 2)}
        return {"reference": self.reference, "calibration": told}


def needs_model(plan: Plan) -> bool:
    """Whether a constraint is on latency, which only a model tells before a network is built."""
    return known_beforehand(plan.space) is not plan.space


def worth_model(plan: Plan) -> bool:
    """Whether a run is so long that its latencies are better checked against a model."""
    return plan.settings.budget >= WORTH and "latency" in plan.settings.objectives


def calibrate(plan: Plan, pool: Slots, *, networks: int = NETWORKS) -> Calibration:
    """Measure networks of the space and fit the model.

    Raises:
        WorkFailed: one of them could not be measured, or the latencies follow no model.
    """
    begin = time.monotonic()
    drawn, conditions = draw_networks(plan, networks), conditions_of(plan)
    model = None
    # There is no run directory yet; its quiet needs a place all the same.
    with TemporaryDirectory() as folder:
        reference = measure_reference(plan, pool, Path(folder))
        for budget_s in BUDGETS_S:
            job = partial(latency_job, plan, directory=Path(folder), budget_s=budget_s)
            measured = _measured(job, pool, drawn, reference["latency_ms"])
            fitted = LatencyModel.fit(drawn, [m["latency_ms"] for m in measured], conditions)
            if model is None or fitted.error < model.error:
                model, latencies = fitted, measured
            if model.error <= GOOD_ERROR:
                break
    assert model is not None
    if model.error > WORST_ERROR:
        raise WorkFailed(
            f"latency model: must predict networks it has not seen within {WORST_ERROR:.0%}, got "
            f"{model.error:.0%} after measuring {len(drawn)}; is the machine busy? Try again when "
            "it is quiet, or constrain macs instead"
        )
    return Calibration(
        model=model,
        reference=reference,
        networks=[
            {"id": network.id, **latency, PREDICTED: model.predict(network)}
            for network, latency in zip(drawn, latencies, strict=True)
        ],
        seconds=time.monotonic() - begin,
    )


def applied(plan: Plan, calibration: Calibration) -> Plan:
    """Give the plan with the model frozen in it, and what it says of the space.

    Raises:
        SpaceError: less than one network in a thousand meets the constraints, by its prediction.
    """
    model, settings = calibration.model, plan.settings
    facts = {**plan.facts, "latency_model": model.to_dict()}
    if needs_model(plan):
        measure = measure_with(plan.num_classes, model)
        rng = np.random.default_rng(settings.seed)
        accepted = require_acceptance(plan.space, measure, rng=rng)
        facts["networks_accepted"] = f"{accepted.text()} ({LATENCY} as predicted)"
        if settings.warm_start == "published":
            facts["warm_start"] = published_start(
                plan.space, budget=settings.budget, measure=measure
            )
    return replace(plan, facts=facts)


def draw_networks(plan: Plan, number: int) -> list[Architecture]:
    """Draw networks of the space evenly, each once, that meet the constraints known beforehand.

    A space that has fewer is given whole, and over and over until there is enough to fit.
    """
    census, known = Census(plan.space), known_beforehand(plan.space)
    if census.size <= number:
        whole = list(census.all())
        return [*itertools.islice(itertools.cycle(whole), max(FOLDS, len(whole)))]
    measure = measure_with(plan.num_classes)
    rng = np.random.default_rng((plan.settings.seed, number))
    fitting: dict[str, Architecture] = {}
    others: dict[str, Architecture] = {}
    for _ in range(DRAWS):
        network = census.sample(rng)
        found = fitting if broken(known, network, measure) is None else others
        found[network.id] = network
        if len(fitting) == number:
            break
    return [*fitting.values(), *others.values()][:number]


def conditions_of(plan: Plan) -> Conditions:
    """Give what the latencies of a run depend on beside the network."""
    device, settings = plan.facts["device"], plan.settings
    return Conditions(
        num_classes=plan.num_classes,
        batch_size=settings.latency_batch,
        device=str(device.get("name") or device["device"]),
        backend=settings.latency_backend,
        threads=device.get("threads", 1),
        vector=vector_width(settings.device),
    )


def _measured(
    job_for: Callable[[Sequence[Architecture]], LatencyJob],
    pool: Slots,
    networks: Sequence[Architecture],
    reference: float,
) -> list[dict[str, Any]]:
    """Measure networks a few at a time, one measurement after the other: nothing else may run."""
    jobs = (
        Job(
            key=JobKey(kind="calibration", trials=(first,)),
            function=measure_networks,
            payload=job_for(networks[first : first + AT_ONCE]),
            time_limit_s=TIME_LIMIT_S,
            memory_limit_bytes=memory_limit(1),
        )
        for first in range(0, len(networks), AT_ONCE)
    )
    return [
        latency_fields(latency, reference)
        for job in jobs
        for latency in single(pool, job)["networks"]
    ]
