"""What the report of a long run costs: seconds to make, and how large the page is.

    python -m pytest -m "" -s tests/benchmarks/test_report.py

The trials are those of a simulated search: networks of the shipped space, scores by a formula.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runs.history import History
from runs.outputs import write_results
from runs.records import read_events
from tests.simulated_runs import plan_of, run

LIMIT_S = 20.0
"""What 2,000 trials may take."""
LIMITS_MB = {200: 8.0, 2000: 20.0}


@pytest.mark.slow
@pytest.mark.parametrize("trials", LIMITS_MB)
def test_report(trials: int, tmp_path: Path) -> None:
    plan = plan_of(trials, objectives=("accuracy", "latency"), workers=4, evidence=80, confirm=30)
    run(plan, tmp_path)
    history = History(read_events(tmp_path))
    begun = time.perf_counter()
    found = write_results(tmp_path, plan, history)
    seconds = time.perf_counter() - begun
    page = (tmp_path / "report.html").stat().st_size / 1e6
    print(
        f"\n{len(found.findings.frame):,} trials: {seconds:.1f} s (limit for 2,000: {LIMIT_S:g}), "
        f"page {page:.1f} MB (limit {LIMITS_MB[trials]:g}), front of {len(found.findings.front)}"
    )
    assert page < LIMITS_MB[trials]
