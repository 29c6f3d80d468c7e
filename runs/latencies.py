"""Latencies that compare over a whole run: each is measured beside the run's reference network.

A machine changes its speed; the ratio of two networks that alternate round by round hardly does. On
a shared machine of 2 cores the same networks took 0.49 to 0.95 ms in four calls, and 0.65 to 0.70
of the reference. So the reference is measured once, long, when the run begins, and `latency_ms` of
a network is its ratio to the reference times that number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from runs.history import History
from runs.jobs import TIME_LIMIT_S, JobKey, Slots, memory_limit, single
from runs.objective import LatencyJob, measure_networks, merged_network
from runs.plan import Plan
from runs.records import Records
from runs.workers import Job
from search_space.architecture import Architecture

TRIAL_BUDGET_S = 0.05
"""Seconds of measurement for a network, and as many for the reference beside it."""
FRONT_BUDGET_S = 1.0
"""The same for a network of the front, at the end."""
REFERENCE_BUDGET_S = 1.0
"""The same for the reference alone, at the beginning."""
REFERENCE_TRIES = 3
"""How often the reference is measured where something else keeps the machine busy."""


def latency_job(
    plan: Plan, architectures: Sequence[Architecture], *, directory: Path, budget_s: float
) -> LatencyJob:
    """Describe a measurement of some networks side by side, beside the reference."""
    return LatencyJob(
        architectures=tuple(architectures),
        reference=plan.reference,
        reference_model=_reference_model(plan),
        num_classes=plan.num_classes,
        device=first_device(plan.settings.device),
        batch_size=plan.settings.latency_batch,
        backend=plan.settings.latency_backend,
        quiet=str(directory),
        budget_s=budget_s,
    )


def _reference_model(plan: Plan) -> bytes | None:
    settings = plan.settings
    if settings.latency_backend == "torch":
        return None
    return _exported(plan.reference, plan.num_classes, settings.latency_batch)


@cache
def _exported(reference: Architecture, num_classes: int, batch_size: int) -> bytes:
    # Not at the top: ONNX Runtime is optional.
    session = import_module("evaluators.onnx_session")
    images = torch.zeros(batch_size, reference.channels, *reference.size)
    model: bytes = session.exported(merged_network(reference, num_classes), images)
    return model


def reference_ms(plan: Plan, records: Records, pool: Slots) -> float:
    """Give the latency of the reference in milliseconds; measures and records it in a new run.

    Raises:
        WorkFailed: it could not be measured.
    """
    known = History(records.events).final.get("reference")
    if known is None:
        found = measure_reference(plan, pool, records.directory)
        known = records.append("reference", **found)
    return float(known["latency_ms"])


def measure_reference(plan: Plan, pool: Slots, directory: Path) -> dict[str, Any]:
    """Measure the reference alone; gives the fields of the event `reference`.

    Raises:
        WorkFailed: it could not be measured.
    """
    payload = latency_job(plan, [plan.reference], directory=directory, budget_s=REFERENCE_BUDGET_S)
    job = Job(
        key=JobKey(kind="latency"),
        function=measure_networks,
        payload=payload,
        time_limit_s=TIME_LIMIT_S,
        memory_limit_bytes=memory_limit(1),
    )
    tries: list[dict[str, Any]] = []
    # Every latency of the run is scaled by this one.
    while not tries or (tries[-1]["disturbed"] and len(tries) < REFERENCE_TRIES):
        tries += single(pool, job)["networks"]
    latency = min(tries, key=lambda one: (one["disturbed"], one["median_ms"]))
    return {
        "id": plan.reference.id,
        "latency_ms": latency["median_ms"],
        "latency_low_ms": latency["low_ms"],
        "latency_high_ms": latency["high_ms"],
        "latency_disturbed": latency["disturbed"],
    }


def latency_fields(latency: dict[str, Any], reference: float) -> dict[str, Any]:
    """Give the columns of a measured latency.

    Args:
        latency: as `measure_networks` gives it.
        reference: latency of the run's reference in milliseconds.
    """
    return {
        "latency_ms": latency["relative"] * reference,
        "latency_low_ms": latency["relative_low"] * reference,
        "latency_high_ms": latency["relative_high"] * reference,
        "latency_raw_ms": latency["median_ms"],
        "latency_disturbed": latency["disturbed"],
    }


def first_device(device: str) -> str:
    """Give the one device for what runs alone."""
    return "cuda:0" if device == "cuda" else device
