"""The command `report`: everything that is said of a run, made anew from its record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.history import History
from runs.outputs import gather, write_results
from runs.page.data import report_data
from runs.plan import Plan, recorded_plan
from runs.records import header_of, read_events
from search_space.predicates import parse_predicate


def report(
    directory: Path, *, predicates: Sequence[str] = (), out: Path | None = None
) -> list[Path]:
    """Write tables, figures and page of a run; gives what was written.

    Args:
        directory: of the run.
        predicates: sub-spaces to compare.
        out: folder for the files; None: the run's own.

    Raises:
        ReplkError: there is nothing to read, a predicate is wrong, or a file cannot be written.
    """
    plan, history, missing = _read(directory, predicates)
    found = write_results(directory, plan, history, predicates=predicates, missing=missing, out=out)
    return found.paths


def report_json(directory: Path, *, predicates: Sequence[str] = ()) -> dict[str, Any]:
    """Give the report of a run as plain JSON; writes nothing.

    Raises:
        ReplkError: there is nothing to read, or a predicate is wrong.
    """
    plan, history, missing = _read(directory, predicates)
    return report_data(gather(directory, plan, history, predicates=predicates, missing=missing))


def _read(directory: Path, predicates: Sequence[str]) -> tuple[Plan, History, tuple[str, ...]]:
    """Read a run as far as it is sound, once the predicates are known to be right."""
    for text in predicates:
        parse_predicate(text)
    events = read_events(directory)
    return recorded_plan(directory, header_of(events)), History(events), ()
