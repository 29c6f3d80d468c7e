"""The report as plain JSON: what the page embeds, and what `report RUN --json` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from runs.page.charts import plain
from runs.page.findings import Findings
from runs.page.importance import importance_data
from runs.page.progress import progress_of
from runs.page.subspaces import comparison_data
from runs.progress import progress_data

FORMAT = 1
"""Version of the keys; readers refuse a higher one."""


def report_data(findings: Findings) -> dict[str, Any]:
    """Give everything that the report says as JSON-able data.

    Returns:
        `format`; `facts`; `objectives` (name, column, direction, unit, label, ideal); `trials`, an
        object a finished trial with the columns of trials.csv, in the order of the ranking;
        `front`, the numbers of the trials on it, along it; `curves` by trial; `progress`, in the
        order in which trials finished: `trial`, `hypervolume`, `at_s`, and where parts of the run
        began (null where there is nothing to count from); `importance` of every axis by two
        estimators, with the held-out R2 of the surrogate; `comparisons` of sub-spaces, each side
        with its errors, ascending, and the `shares` of its networks that have at most these.
    """
    frame = findings.frame.astype(object).where(findings.frame.notna(), None)
    found: dict[str, Any] = plain(
        {
            "format": FORMAT,
            "facts": dict(findings.facts),
            "objectives": [asdict(objective) for objective in findings.objectives],
            "trials": frame.to_dict("records"),
            "front": findings.front["trial"].tolist(),
            "progress": progress_data(progress_of(findings)),
            "importance": importance_data(findings),
            "comparisons": comparison_data(findings),
            "curves": {number: list(curve) for number, curve in findings.curves.items()},
        }
    )
    return found
