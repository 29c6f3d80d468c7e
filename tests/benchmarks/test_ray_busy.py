"""64 Ray workers on one machine, with trainings of 10 s that sleep: are they kept busy?

The core loop, its sampler, the Searcher, Tune and the workers are the real ones; only what a worker
does is a sleep. Ray starts as many workers at once as the machine has cores, so that on two cores
64 take a minute or two to be there; the share is counted from the moment in which all are busy for
the first time to the last hand-out.

    python -m pytest -m "" -s tests/benchmarks/test_ray_busy.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from runs.planning import middle
from runs.ray_engine import RayEngine
from runs.records import Records
from runs.search import Search
from tests.benchmarks.ray_sleeper import Sleeper
from tests.micro import Silence
from tests.played import planned

WORKERS = int(os.environ.get("REPLK_BUSY_WORKERS", "64"))
ROUNDS = int(os.environ.get("REPLK_BUSY_ROUNDS", "20"))
LEAST = 0.9

Stretch = tuple[float, float]


def busy_share(stretches: Sequence[Stretch], workers: int) -> tuple[float, float]:
    """Give the share of worker time that went into trainings, and the seconds it is over.

    From the moment in which every worker trains for the first time to the last hand-out.
    """
    changes = sorted([(b, 1) for b, _ in stretches] + [(e, -1) for _, e in stretches])
    running, full = 0, None
    for at, change in changes:
        running += change
        if running == workers:
            full = at
            break
    assert full is not None, "the workers were never all busy"
    last = max(begin for begin, _ in stretches)
    inside = sum(max(0.0, min(end, last) - max(begin, full)) for begin, end in stretches)
    return inside / (workers * (last - full)), last - full


def test_share_of_known_stretches() -> None:
    stretches = [(0.0, 10.0), (2.0, 12.0), (11.0, 21.0), (12.0, 22.0)]
    share, seconds = busy_share(stretches, 2)
    assert seconds == 10.0
    assert share == pytest.approx((8 + 10 + 1) / 20)


@pytest.mark.slow
def test_workers_of_a_cluster_are_kept_busy(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    plan = planned(budget=WORKERS * ROUNDS, workers=WORKERS, objectives=("accuracy", "macs"))
    plan = replace(plan, facts={**plan.facts, "reference": middle(plan.space).to_json()})
    engine = RayEngine(
        "local",
        num_cpus=WORKERS,
        object_store_memory=200 << 20,
        _temp_dir=str(tmp_path_factory.getbasetemp().parent / "rayb"),
        # It would start as many idle workers at once.
        _system_config={"prestart_worker_first_driver": False, "worker_niceness": 0},
    )
    crew = f"{Sleeper.__module__}:{Sleeper.__name__}"
    begin = time.monotonic()
    with Records.create(tmp_path / "run", {}) as records:
        records.append("reference", id="", latency_ms=1.0, latency_low_ms=0.9, latency_high_ms=1.1)
        with engine.pool(WORKERS, plan, tmp_path / "run", crew=crew) as pool:
            Search(plan, records, pool, Silence()).run()
        done = [event for event in records.events if event["event"] == "done"]
    seconds = time.monotonic() - begin
    engine.close()
    assert len(done) == WORKERS * ROUNDS
    share, over = busy_share([(event["began"], event["ended"]) for event in done], WORKERS)
    print(f"\n{WORKERS} workers busy {share:.1%} over {over:.0f} s of {seconds:.0f} s")
    assert share >= LEAST
