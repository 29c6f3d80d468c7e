"""The runs that are compared, read from their records; nothing of them is written or locked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from runs.console import plain
from runs.history import SPENDING, History, plain_number
from runs.plan import PLAN_NAME, Plan, plan_of, recorded_plan
from runs.ranking import Objective, rank, trials_frame
from runs.records import RECORD_NAME, Event, acknowledged, header_of, read_events
from search_space.errors import ReplkError, RunError


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Run:
    """One of the runs."""

    name: str
    """The end of its path, as long as it takes to differ from those of the others."""
    path: Path
    plan: Plan
    history: History
    frame: pd.DataFrame
    """Finished trials, not ranked."""
    lost: int
    """Events that damage took from its record."""

    @property
    def budget(self) -> int:
        """What it aimed at last, in full-length trainings."""
        sessions = self.history.sessions
        return int(sessions[-1]["budget"]) if sessions else self.plan.settings.budget

    @property
    def spent(self) -> int | float:
        """What it ate of that."""
        return plain_number(self.history.spent)

    @property
    def data(self) -> dict[str, Any]:
        """What its plan says of the images."""
        found: dict[str, Any] = self.plan.facts["data"]
        return found

    @property
    def device(self) -> dict[str, Any]:
        """What its plan says of the device; {} in an old one."""
        found: dict[str, Any] = self.plan.facts.get("device") or {}
        return found


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read the runs.

    Raises:
        RunError: there are fewer than two, one stands twice, or one cannot be read.
    """
    if len(paths) < 2:
        raise RunError(
            f"RUN: must be two runs or more, got {len(paths)}; "
            "of one alone 'replk-search report RUN' shows everything"
        )
    seen: dict[Path, Path] = {}
    for path in paths:
        place = path.resolve()
        if place in seen:
            raise RunError(f"RUN: must differ, got {path} twice; leave one out")
        seen[place] = path
    runs = [_read(path, name) for path, name in zip(paths, _names(list(seen)), strict=True)]
    _require_no_copy(runs)
    return runs


def competing(run: Run, objectives: Sequence[Objective]) -> pd.DataFrame:
    """Give the complete networks of a run with all objectives known, best first.

    One trial of a network counts, its first complete one, with what it measured: a network that
    was trained again is no better off for it, and runs that know their noise are treated as those
    that do not. `spent` is what the run had eaten of its budget when the trial ended.
    """
    ranked = rank(run.frame, objectives)
    complete = ranked[(ranked["state"] == "complete") & ranked["rank"].notna()]
    known = complete.dropna(subset=[objective.column for objective in objectives])
    spent = dict(_spent(run.history))
    return known.assign(spent=known["trial"].map(spent).astype(float)).reset_index(drop=True)


def _spent(history: History) -> list[tuple[int, float]]:
    """Give what was eaten of the budget when each trial ended, in that order."""
    total, found = Fraction(0), []
    for trial in history.done:
        if trial.state in SPENDING:
            total += trial.share
        found.append((trial.number, float(total)))
    return found


def _read(path: Path, name: str) -> Run:
    events = read_events(path)
    plan = _plan(path, header_of(events))
    try:
        history = History(events)
        frame = trials_frame(history.rows())
    except (KeyError, TypeError, ValueError, ReplkError) as error:
        said = " ".join(str(error).split())
        raise RunError(
            f"{path / RECORD_NAME}: must be as the search wrote it, got {type(error).__name__}: "
            f"{said}; leave the run out, or restore the file from a copy"
        ) from error
    lost = max(acknowledged(path), events[-1]["seq"] + 1) - len(events)
    return Run(name=name, path=path, plan=plan, history=history, frame=frame, lost=lost)


def _plan(path: Path, header: Event | None) -> Plan:
    """Read the plan of a run; the copy in its record stands in where run.yaml is gone."""
    if header is None or (path / PLAN_NAME).exists():
        return recorded_plan(path, header)
    return plan_of(header["plan"], name=f"{path / RECORD_NAME} (space)")


def _names(places: Sequence[Path]) -> list[str]:
    """Give the shortest ends of paths that all differ."""
    most = max(len(place.parts) for place in places)
    for parts in range(1, most):
        names = [plain("/".join(place.parts[-parts:])) for place in places]
        if len({*names}) == len(names):
            return names
    return [plain(str(place)) for place in places]


def _require_no_copy(runs: Sequence[Run]) -> None:
    """Refuse a run beside its copy, which would count as a second search that found the same.

    Raises:
        RunError: two runs began in the same second, and their first trainings ended with the same
            numbers, times to the last digit.
    """
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        if not run.history.done:
            continue
        key = str(run.plan.facts.get("started")), repr(run.history.done[0].result)
        if key in first:
            raise RunError(
                f"RUN: must be different runs, {run.path} is a copy of {first[key].path}; "
                "leave one out"
            )
        first[key] = run
