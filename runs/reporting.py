"""The command `report`: everything that is said of a run, made anew from its record."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.folders import require_writable, run_directory
from runs.gathering import gather
from runs.outputs import write_results
from runs.page.data import report_data
from runs.salvage import Salvaged, salvaged
from search_space.errors import RunError, SpaceError
from search_space.predicates import parse_predicate

logger = logging.getLogger(__name__)


def report(
    directory: Path, *, predicates: Sequence[str] = (), out: Path | None = None
) -> list[Path]:
    """Write tables, figures and page of a run; gives what was written.

    Args:
        directory: of the run.
        predicates: sub-spaces to compare.
        out: folder for the files, which holds nothing yet; None: the run's own.

    Raises:
        ReplkError: there is nothing to read, a predicate is wrong, or a file cannot be written.
    """
    if out is not None:
        require_writable(run_directory(out, directory.name))
    run = _read(directory, predicates)
    if out is None and not os.access(directory, os.W_OK):
        raise RunError(
            f"{directory}: must be a directory that can be written, it is not; "
            "name another folder for the report with --out"
        )
    found = write_results(
        directory, run.plan, run.history, predicates=predicates, missing=run.missing, out=out
    )
    return found.paths


def report_json(directory: Path, *, predicates: Sequence[str] = ()) -> dict[str, Any]:
    """Give the report of a run as plain JSON; writes nothing.

    Raises:
        ReplkError: there is nothing to read, or a predicate is wrong.
    """
    run = _read(directory, predicates)
    return report_data(
        gather(directory, run.plan, run.history, predicates=predicates, missing=run.missing)
    )


def _read(directory: Path, predicates: Sequence[str]) -> Salvaged:
    """Read a run as far as it is sound, and see that its networks can be asked the predicates."""
    for text in predicates:
        parse_predicate(text)
    found = salvaged(directory)
    notes = [f"{directory}: {note}" for note in found.missing]
    # A published network that a run began with may have more stages than its space.
    drawn = (len(trial.architecture.stages) for trial in found.history.trials.values())
    stages = max([len(found.plan.space.stages), *drawn])
    for text in predicates:
        try:
            parse_predicate(text, stages=stages)
        except SpaceError as error:
            # Right for other spaces: the report says that no network meets it.
            notes.append(str(error))
    for note in notes:
        logger.warning("%s", note)
    return found
