"""Searches in this process, with injected jobs, and what they must leave."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from runs import session
from runs.history import History
from runs.plan import Plan
from runs.records import Records, read_events
from runs.search import Search
from tests.micro import Meddled, Silence

QUIET = session.Manner(quiet=True)
LONGER = 3
"""Epochs where a third of a third must still be a step."""


def recorded(directory: Path) -> Records:
    """A new record that knows the reference's latency: measuring it takes two seconds."""
    records = Records.create(directory, {})
    records.append("reference", id="", latency_ms=0.5, latency_low_ms=0.4, latency_high_ms=0.6)
    return records


def searched(plan: Plan, records: Records, pool: Meddled | None = None) -> History:
    with pool or Meddled(plan.settings.workers) as pool:
        folder = pool._folder
        assert folder.is_dir()
        try:
            Search(plan, records, pool, Silence()).run()
        finally:
            pool.close()
            assert not folder.exists()
            assert running_jobs() == []
    return History(records.events)


def running_jobs() -> list[psutil.Process]:
    """Children of children of this process: a fork server's jobs, and what they started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if os.getsid(process.pid) != os.getsid(0):
                found.append(process)
        except ProcessLookupError:
            continue
    return found


def assert_first_of(history: History, finished: Path, count: int) -> None:
    """The first trials are, to the last bit, those of a run that met no fault."""
    straight = History(read_events(finished))
    for number in range(count):
        one, other = history.trials[number], straight.trials[number]
        assert (one.id, one.seed, one.state) == (other.id, other.seed, other.state)
        for key in ("accuracy", "val_loss", "curve", "macs", "params"):
            assert one.result[key] == other.result[key]
