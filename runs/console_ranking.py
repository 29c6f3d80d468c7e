"""The ranking and the front of a run as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from runs.ranking import block_text
from runs.wording import flag, main_score, scores_of

LEFT = ("id", "kernels", "widths", "structure", "block")
"""Columns of words in a table of networks."""

KNOWN_BY = {
    "mIoU": "miou",
    "estimate": "estimate",
    "95 %": "estimate_low",
    "ranks": "rank_low",
    "tied": "tied",
    "P best": "p_best",
    "P front": "p_front",
    "gain": "predicted_gain",
}
"""Columns that a table shows where the run has what they are read from."""
ESTIMATED_OMITS = ("val loss", "widths", "MMACs")
"""What gives way to the estimates, and in a narrow terminal the next one too."""
ESTIMATED_NARROW_OMITS = ("structure", "P front")
ESTIMATED_WIDE = 155
"""Columns from which a terminal shows every column of a table with estimates."""
OUTSIDE = "*"
"""Marks a network that the space cannot draw, as twins of equal MACs are."""
NARROW_OMITS = (
    *("val loss", "MMACs", "widths", "S1..S4"),
    *("95 %", "ranks", "tied", "P best", "gain"),
)
"""What a narrower terminal leaves to the files."""
WIDE = 130
"""Columns from which a terminal shows every column of a table."""


def ranking_table(frame: pd.DataFrame, title: str, *, width: int) -> Table:
    """Give networks as a table, those columns that the run knows and a width has room for."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    columns: dict[str, Callable[[Any], Any]] = {
        "rank": lambda row: _text(row["rank"], "d"),
        "id": lambda row: row["id"],
        "mIoU": lambda row: _text(row["miou"], ".1%"),
        "accuracy": lambda row: _text(row["accuracy"], ".1%"),
        "val loss": lambda row: _text(row["val_loss"], ".3f"),
        "estimate": lambda row: _text(row["estimate"], ".1%"),
        "95 %": lambda row: _ends(row, "estimate", ".1%"),
        "ranks": lambda row: _ends(row, "rank", "d"),
        "tied": lambda row: flag(row["tied"]),
        "P best": lambda row: _text(row["p_best"], ".0%"),
        "P front": lambda row: _text(row["p_front"], ".0%"),
        "test": lambda row: _text(main_score(scores_of(row, "test_"))[1], ".1%"),
        "latency ms": lambda row: _text(row["latency_ms"], ".3f"),
        "MMACs": lambda row: _text(row["macs"] / 1e6, ".2f"),
        "k params": lambda row: _text(row["params"] / 1e3, ".1f"),
        "kernels": lambda row: row["kernels"],
        "widths": lambda row: row["widths"],
        "structure": lambda row: row["structures"],
        "S1..S4": lambda row: " ".join(_text(row[f"s{i}"], ".1f") for i in range(1, 5)),
        "gain": lambda row: _text(100 * row["predicted_gain"], "+.2f"),
    }
    if len(frame[["block", "weights_sparsity"]].drop_duplicates()) > 1:
        columns["block"] = lambda row: block_text(row["block"], row["weights_sparsity"])
    known = {name for name, column in KNOWN_BY.items() if _known(frame, column)}
    omitted, wide = KNOWN_BY.keys() - known, width >= WIDE
    if "mIoU" in known:
        omitted.add("accuracy")
    if "estimate" in known:
        wide = width >= ESTIMATED_WIDE
        omitted |= {*ESTIMATED_OMITS, *(() if wide else ESTIMATED_NARROW_OMITS)}
    if not wide:
        omitted |= {*NARROW_OMITS}
    columns = {name: cell for name, cell in columns.items() if name not in omitted}
    for name in columns:
        table.add_column(
            name,
            justify="left" if name in LEFT else "right",
            no_wrap=True,
        )
    for _, row in frame.iterrows():
        cells = [str(cell(row)) for cell in columns.values()]
        if row["state"] != "complete":
            cells[2] = str(row["state"])
        if flag(row.get("outside_space")) == "yes":
            cells[1] += OUTSIDE
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _known(frame: pd.DataFrame, column: str) -> bool:
    return column in frame and bool(frame[column].notna().any())


def _ends(row: Any, name: str, form: str) -> str:
    low, high = (_text(row[f"{name}_{end}"], form) for end in ("low", "high"))
    return low if low == high else f"{low}\u2013{high}"


def _text(value: Any, form: str) -> str:
    if pd.isna(value):
        return "-"
    return format(int(value) if form == "d" else float(value), form)
