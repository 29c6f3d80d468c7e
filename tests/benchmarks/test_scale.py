"""What the driver itself costs in a run of ten thousand trials.

    python -m pytest -s tests/benchmarks/test_scale.py

Everything is real but the trainings, which take simulated time. Speeds are CPU times of the driver.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from runs.history import History
from runs.records import read_events
from runs.search import Search
from tests.simulated_runs import plan_of, run

TRIALS, PART = 10_000, 1_000
WORKERS = 8
OVERHEAD_MS, FLAT, PROPOSAL_MS, KILOBYTES = 20.0, 1.5, 100.0, 20.0
MORE, LATE = 300, 200
"""Trainings that TPE brings after all the others, and proposals of them that are timed."""


@dataclass
class Clock:
    """CPU time of a driver by trial, with and without its proposals, and its memory."""

    proposals: list[float] = field(default_factory=list)
    proposing: float = 0.0
    ends: list[float] = field(default_factory=list)
    memory: dict[int, int] = field(default_factory=dict)

    def watch(self, search: Search) -> None:
        """Time every call of the sampler."""
        search.schedule.proposer.propose = self.timed(search.schedule.proposer.propose)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Note what each call of a function takes."""

        def call(*arguments: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*arguments)
            finally:
                self.proposals.append(time.process_time() - begin)
                self.proposing += self.proposals[-1]

        return call

    def done(self, count: int) -> None:
        """Note the time and now and then the memory after a trial."""
        self.ends.append(time.process_time() - self.proposing)
        if count % PART == 0:
            gc.collect()
            self.memory[count] = psutil.Process().memory_info().rss

    def told(self, trials: int) -> tuple[float, float, float]:
        """Give the ms a trial of the first and of the last part, and the KB that a trial takes."""
        first, last = self.ends[PART] - self.ends[0], self.ends[-1] - self.ends[-1 - PART]
        counts = sorted(self.memory)
        grown = self.memory[counts[-1]] - self.memory[counts[0]]
        return first, last, grown / 1024 / (trials - counts[0])


def report(name: str, clock: Clock) -> tuple[float, float, float]:
    """Print what a run took a trial."""
    trials = len(clock.ends)
    first, last, kilobytes = clock.told(trials)
    print(
        f"\n{name}: {trials} trials; driver without the sampler {first * 1000 / PART:.2f} ms a "
        f"trial in the first {PART}, {last * 1000 / PART:.2f} in the last (limit {OVERHEAD_MS}), "
        f"ratio {last / first:.2f} (limit {FLAT}); memory {kilobytes:.1f} KB a trial "
        f"(limit {KILOBYTES})"
    )
    return first, last, kilobytes


@pytest.mark.parametrize("fidelity", ["full", "halving"])
def test_ten_thousand_trials(tmp_path: Path, fidelity: str) -> None:
    # A trial of halving takes a fifth of a training, on average over the rungs.
    part = 1 if fidelity == "full" else 5
    budget = TRIALS // part
    plan = plan_of(budget, sampler="random", workers=WORKERS, fidelity=fidelity)
    clock = Clock()
    search, pool = run(plan, tmp_path, on_done=clock.done, prepare=clock.watch)
    assert search.history.spent == budget
    first, last, kilobytes = report(fidelity, clock)
    print(f"workers busy {100 * pool.busy / WORKERS / pool.now:.1f} % of the simulated time")

    begin = time.process_time()
    history = History(read_events(tmp_path))
    print(f"read again in {time.process_time() - begin:.1f} s")

    settings = replace(plan.settings, budget=budget + MORE // part, sampler="tpe")
    clock = Clock()
    run(replace(plan, settings=settings), tmp_path, on_done=clock.done, prepare=clock.watch)
    took = 1000 * np.array(clock.proposals[-LATE:])
    print(
        f"a proposal of TPE after {len(history.trials)} trials: {took.mean():.0f} ms, 95 % below "
        f"{np.percentile(took, 95):.0f} (limit of the mean {PROPOSAL_MS})"
    )
    # Halving orders a rung of thousands anew for each that comes: not flat, but within the limit.
    assert fidelity == "halving" or last / first < FLAT
    assert 1000 * max(first, last) / PART < OVERHEAD_MS
    assert kilobytes < KILOBYTES
    assert took.mean() < PROPOSAL_MS
