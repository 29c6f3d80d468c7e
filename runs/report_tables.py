"""Tables of networks on the page of a run: which columns, and how a cell is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from runs.wording import MISSING, WRITERS, Facts, is_dense, milliseconds, missing, share


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
    ("tied", "tied with no. 1", "flag"),
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
    ("id", "network", "text"),
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
    ("id", "network", "text"),
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
    facts: Facts,
    *,
    numbers: Sequence[int] | range,
    run: pd.DataFrame,
) -> dict[str, Any]:
    """Give the headings and rows of a table, every cell as text.

    Args:
        frame: the networks, a row each.
        columns: of the table; those that tell nothing of this run are left out.
        facts: of the run.
        numbers: of the rows.
        run: all networks of which these are some.
    """
    shown = [column for column in columns if _tells(run, column[0])]
    rows = [
        {
            "number": number,
            "recommended": row["id"] == facts.get("recommended") and row["state"] == "complete",
            "cells": [_cell(row, column, kind) for column, _, kind in shown],
        }
        for number, (_, row) in zip(numbers, frame.iterrows(), strict=True)
    ]
    dense = DENSE_HEADINGS if is_dense(facts) else {}
    headings = [
        (dense.get(column, heading), kind in ("text", "flag")) for column, heading, kind in shown
    ]
    return {"headings": headings, "rows": rows}


def _tells(run: pd.DataFrame, column: str) -> bool:
    if column in KNOWN:
        return column in run and bool(run[column].notna().any())
    if column in VARYING:
        return column in run and run[column].nunique(dropna=False) > 1
    return True


def _cell(row: pd.Series[Any], column: str, kind: str) -> str:
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
