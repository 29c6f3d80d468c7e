"""The table of the guidelines, for the page and for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from runs.guideline_notes import caveats, held_against, legend, sanity_text
from runs.guideline_text import HEADINGS, Row, rows
from runs.wording import MISSING, Facts

RIGHT = ("up", "adjusted", "detectable")
"""Columns of numbers."""


# The page.


def section(facts: Facts) -> dict[str, Any] | None:
    """Give what the page says of the guidelines; None without evidence."""
    shown = rows(facts)
    if not shown:
        return None
    return {
        "headings": [(heading, field in RIGHT) for field, heading in HEADINGS.items()],
        "rows": [[_whole(getattr(row, field)) or MISSING for field in HEADINGS] for row in shown],
        "sanity": sanity_text(facts),
        "caveats": caveats(facts),
        "tested": held_against(facts),
        "legend": legend(facts),
        "hash": str((facts.get("guidelines") or {}).get("sha256") or ""),
    }


def _whole(text: str) -> str:
    """Keep an interval, a bound and a source on one line each."""
    return re.sub(r"(?<=[\[<(])[^\])]*", lambda found: found[0].replace(" ", "\u00a0"), text)


# The console.

NARROW_OMITS = ("cost", "recheck")
"""What a narrower terminal shows under the table, beside what else is known of the effect."""
WIDE = 150
"""Columns from which a terminal shows every column of the table."""
WRAPPED = {"name": len("structure"), "verdict": len("contradicted")}
"""Columns of several lines, and their longest word."""


def console_table(facts: Facts, width: int) -> Group | None:
    """Give the guideline table for a terminal of `width` columns; None without evidence."""
    shown = rows(facts)
    if not shown:
        return None
    wide = width >= WIDE
    fields = [
        field
        for field in HEADINGS
        if field not in ("loss", "new") and (wide or field not in NARROW_OMITS)
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0))
    for field in fields:
        heading, number = HEADINGS[field], field in RIGHT
        table.add_column(
            heading.replace(" ", "\n") if number and not wide else heading,
            justify="right" if number else "left",
            no_wrap=field not in WRAPPED,
            min_width=WRAPPED.get(field),
        )
    for row in shown:
        cells = {field: getattr(row, field) for field in fields}
        if wide:
            cells["effect"] = "\n".join(filter(None, (row.effect, *_more(row))))
            cells["cost"] = row.cost.replace(", latency", "\nlatency").replace(" [", "\n[")
        table.add_row(*(Text(cell) for cell in cells.values()))
    return Group(
        Text("\nguidelines on this task"),
        table,
        *([] if wide else [Text(line) for line in _under(shown)]),
        # What a reader needs, then what explains it.
        *(Text(line) for line in filter(None, (sanity_text(facts), *caveats(facts)))),
        *(Text(line) for line in (*held_against(facts), *legend(facts))),
    )


def _more(row: Row) -> list[str]:
    """Give what else is known of an effect."""
    return [
        f"{word} {text}"
        for word, text in (("new network", row.new), ("cross-entropy", row.loss))
        if text
    ]


def _under(shown: Iterable[Row]) -> list[str]:
    """Give what a narrow table leaves out, a line a guideline."""
    lines = []
    for row in shown:
        longer = f"longer training {row.recheck}" if row.recheck else ""
        if told := ", ".join(filter(None, (*_more(row), row.cost, longer))):
            lines.append(f"{row.guideline.upper()}: {told}")
    return lines
