"""Runs of thousands of trials in minutes: everything is real but the jobs, which only take time."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.cost import cost
from runs.anchors import anchors
from runs.objective import LatencyJob, TrainJob
from runs.plan import Plan
from runs.records import Records
from runs.search import Search
from runs.workers import Finished, Job, PoolEvent
from search_space.architecture import Architecture
from tests.played import planned

SECONDS = (
    *(1.29, 1.41, 1.51, 1.6, 1.65, 1.69, 1.72, 1.76, 1.8, 1.84, 1.88, 1.92, 1.96, 2.0, 2.04),
    *(2.09, 2.13, 2.17, 2.21, 2.25, 2.29, 2.33, 2.41, 2.46, 2.5, 2.55, 2.63, 2.72, 2.76, 2.87),
    *(2.96, 3.25, 3.52, 4.3, 5.01, 5.98, 8.16, 9.76, 11.32, 14.5),
)
"""Seconds of full-length trainings: 40 quantiles of `assets/trainings.csv` of the benchmarks."""

MEASURED_S = 0.01
"""Seconds that measurements take."""


@dataclass
class Sleeps:
    """Slots whose jobs do nothing but take simulated time, and give results from a formula."""

    workers: int
    classes: int = 10
    now: float = 0.0
    """Seconds of the simulated clock."""
    busy: float = 0.0
    """Seconds of worker time that trainings took."""
    _running: list[tuple[float, int, Job]] = field(default_factory=list)
    _begun: int = 0

    @property
    def free(self) -> int:
        """Number of jobs that `submit` takes now."""
        return self.workers - len(self._running)

    def submit(self, job: Job) -> None:
        """Begin a job; it ends when its time has passed."""
        assert self.free > 0
        seconds = MEASURED_S
        if isinstance(job.payload, TrainJob):
            rng = np.random.default_rng(job.payload.seed)
            seconds = float(rng.choice(SECONDS) * job.payload.length)
            self.busy += seconds
        heapq.heappush(self._running, (self.now + seconds, self._begun, job))
        self._begun += 1

    def events(self, timeout: float | None = None) -> Sequence[PoolEvent]:
        """Let time pass until the next job ends."""
        assert self._running, f"nothing runs that could end within {timeout} s"
        self.now, _, job = heapq.heappop(self._running)
        value = self._trained(job.payload) if isinstance(job.payload, TrainJob) else None
        if isinstance(job.payload, LatencyJob):
            value = self._measured(job.payload)
        return [Finished(key=job.key, outcome="ok", value=value)]

    def _trained(self, job: TrainJob) -> dict[str, Any]:
        rng = np.random.default_rng(job.seed)
        accuracy = self._accuracy(job.architecture) - 0.1 * (1 - float(job.length))
        accuracy = float(np.clip(accuracy + 0.01 * rng.standard_normal(), 0.1, 1))
        return {
            "state": "complete" if job.length == 1 else "stopped",
            "accuracy": accuracy,
            "val_loss": -math.log(accuracy),
            "train_seconds": 1.0,
            "steps": 70,
            "curve": [[step, 2 * 0.9**step] for step in range(10)],
        }

    def _accuracy(self, network: Architecture) -> float:
        words = np.random.default_rng(int(network.id[:8], 16)).random()
        size = math.log10(cost(network, self.classes).macs_inference)
        return float(0.1 + 0.07 * size + 0.1 * words)

    def _measured(self, job: LatencyJob) -> dict[str, Any]:
        networks = []
        for network in job.architectures:
            relative = cost(network, self.classes).macs_inference / 1e7
            latency = {"relative": relative, "relative_low": 0.99 * relative}
            latency |= {"relative_high": 1.01 * relative, "median_ms": relative}
            latency |= {"low_ms": relative, "high_ms": relative, "disturbed": False}
            networks.append(latency)
        return {"seconds": MEASURED_S, "waited": 0.0, "networks": networks}


@dataclass
class Quiet:
    """A watcher that counts."""

    done: int = 0
    on_done: Callable[[int], None] = lambda _: None

    def trial_started(self, number: int, text: str) -> None:
        """Say nothing."""

    def progress(self, number: int, metrics: dict[str, Any]) -> None:
        """Say nothing."""

    def trial_done(self, row: dict[str, Any]) -> None:  # noqa: ARG002
        """Count it."""
        self.done += 1
        self.on_done(self.done)

    def counts(self, counts: Counter[str]) -> None:
        """Say nothing."""


def plan_of(budget: int, **settings: Any) -> Plan:
    """Plan a run on the shipped space that spends all of its budget on the search."""
    plan = planned(budget=budget, **{"objectives": ("accuracy", "macs"), **settings})
    reference = anchors(plan.space)[2][0].to_json()
    return replace(plan, facts={**plan.facts, "reference": reference})


def run(
    plan: Plan,
    directory: Path,
    *,
    on_done: Callable[[int], None] = lambda _: None,
    prepare: Callable[[Search], None] = lambda _: None,
) -> tuple[Search, Sleeps]:
    """Run a search to its end, or go on with one; `prepare` is shown the search before."""
    (directory / "weights").mkdir(parents=True, exist_ok=True)
    begun = (directory / "trials.jsonl").exists()
    pool = Sleeps(plan.settings.workers)
    with Records.open(directory) if begun else Records.create(directory, {}) as records:
        search = Search(plan, records, pool, Quiet(on_done=on_done))
        prepare(search)
        search.run()
    return search, pool
