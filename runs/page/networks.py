"""Tables of networks: which columns, and how a cell is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from runs.page.document import Cell, Column, Row, Table
from runs.page.findings import Findings
from runs.wording import MISSING, WRITERS, is_dense, milliseconds, missing, share


def percentage_points(value: Any) -> str:
    """Write a share's difference in points."""
    return MISSING if missing(value) else f"{100 * value:+.2f}"


Columns = Sequence[tuple[str, str, str]]
"""Columns of a table: column of the frame, heading, how it is written."""

COMMON_COLUMNS = (
    ("kernels", "kernels", "text"),
    ("depths", "depths", "text"),
    ("widths", "widths", "text"),
    ("structures", "structure", "text"),
    ("block", "block", "text"),
    ("miou", "val. mIoU", "share"),
    ("accuracy", "val. accuracy", "share"),
    ("val_loss", "val. loss", "loss"),
    ("estimate", "estimate (95 % interval)", "interval"),
    ("rank_low", "ranks (95 %)", "ranks"),
    ("tied", "tied with rank 1", "flag"),
    ("p_best", "P(best)", "share"),
    ("p_front", "P(on the front)", "share"),
)
COST_COLUMNS = (
    ("latency_ms", "latency, ms", "latency"),
    ("macs", "MMACs", "mega"),
    ("params", "k params", "kilo"),
    ("weights_sparsity", "sparsity", "share"),
    ("macs_nonzero", "MMACs not zero", "mega"),
    ("params_nonzero", "k params not zero", "kilo"),
    ("outside_space", "outside the space", "flag"),
)
VARYING = (
    *("block", "weights_sparsity", "macs_nonzero", "params_nonzero"),
    *("latency_disturbed", "outside_space"),
)
"""Columns that are shown where they tell networks of the run apart."""
KNOWN = (
    *("miou", "test_miou", "estimate", "rank_low", "tied", "p_best", "p_front"),
    "predicted_gain",
)
"""Columns that are shown where the run has them."""
INTERVALS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "latency_ms": ("latency_low_ms", "latency_high_ms", milliseconds),
    "estimate": ("estimate_low", "estimate_high", share),
    "predicted_gain": ("predicted_gain_low", "predicted_gain_high", percentage_points),
}
"""Columns with an interval: those of its ends, and how all three are written."""
GAIN = ("predicted_gain", "predicted gain, points (95 % interval)", "interval")
DENSE_HEADINGS = {
    "accuracy": "val. pixel accuracy",
    "test_accuracy": "test pixel accuracy",
}
"""What accuracy is where pixels are named."""
FRONT_COLUMNS = (
    *COMMON_COLUMNS,
    ("test_miou", "test mIoU", "share"),
    ("test_accuracy", "test accuracy", "share"),
    ("latency_ms", "latency, ms (95 % interval)", "interval"),
    ("separable", "separable", "flag"),
    ("latency_disturbed", "disturbed", "flag"),
    *COST_COLUMNS[1:],
    *((f"s{number}", f"S{number}", "score") for number in range(1, 5)),
    GAIN,
)
"""Columns of the front's table: column of the frame, heading, how it is written."""
RANKING_COLUMNS = (
    ("role", "role", "text"),
    ("state", "state", "text"),
    *COMMON_COLUMNS,
    *COST_COLUMNS,
    GAIN,
    ("on_front", "on the front", "flag"),
)


def network_table(
    frame: pd.DataFrame,
    columns: Columns,
    findings: Findings,
    *,
    key: str,
    caption: str,
    first: str,
    numbers: Sequence[int] | range,
    most: int | None = None,
) -> Table:
    """Give a table of networks, every one by its id, which opens its card.

    Args:
        frame: the networks, a row each.
        columns: of the table; those that tell nothing of this run are left out.
        findings: of the run.
        key: of the table.
        caption: of the table.
        first: heading of the numbers.
        numbers: of the rows.
        most: rows that Markdown shows.
    """
    run, facts = findings.frame, findings.facts
    shown = [column for column in columns if _tells(run, column[0])]
    dense = DENSE_HEADINGS if is_dense(facts) else {}
    cards = set(findings.carded)
    rows = [
        Row(
            cells=[
                Cell(text=str(row["id"]), network=str(row["id"]) if row["id"] in cards else ""),
                Cell(text=str(number), value=float(number)),
                *(
                    Cell(text=_cell(row, column, kind), value=_value(row, column, kind))
                    for column, _, kind in shown
                ),
            ],
            badge="recommended"
            if row["id"] == facts.get("recommended") and row["state"] == "complete"
            else "",
        )
        for number, row in zip(numbers, _records(frame), strict=True)
    ]
    headings = [
        Column(heading="network"),
        Column(heading=first, number=True),
        *(
            Column(heading=dense.get(column, heading), number=kind not in ("text", "flag"))
            for column, heading, kind in shown
        ),
    ]
    return Table(key=key, caption=caption, columns=headings, rows=rows, most=most)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Give the rows as dicts, several times faster than by `iterrows`."""
    names = [str(name) for name in frame]
    return [dict(zip(names, row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def _value(row: Mapping[str, Any], column: str, kind: str) -> float | None:
    """Give what a cell sorts by; None sorts by its text."""
    value = row.get(column)
    return None if kind in ("text", "flag") or value is None or missing(value) else float(value)


def _tells(run: pd.DataFrame, column: str) -> bool:
    if column in KNOWN:
        return column in run and bool(run[column].notna().any())
    if column in VARYING:
        return column in run and run[column].nunique(dropna=False) > 1
    return True


def _cell(row: Mapping[str, Any], column: str, kind: str) -> str:
    if kind == "ranks":
        low, high = row["rank_low"], row["rank_high"]
        return MISSING if missing(low) else f"{low}" if low == high else f"{low}\u2013{high}"
    if kind == "interval":
        first, last, write = INTERVALS[column]
        low, high = row.get(first), row.get(last)
        ends = "" if missing(low) or missing(high) else f" ({_ends(write(low), write(high))})"
        return write(row[column]) + ends
    return WRITERS[kind](row[column])


def _ends(low: str, high: str) -> str:
    """Join the ends of an interval, with words where a sign stands before them."""
    return f"{low} to {high}" if low[0] in "+-" else f"{low}\u2013{high}"
