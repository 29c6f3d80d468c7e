"""The trials of a run whose record is gone, from the table that was made of it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from runs.records import Event
from search_space.errors import RunError

TABLE_NAME = "trials.csv"
DERIVED = {
    *("rank", "front_rank", "on_front", "separable", "estimate", "estimate_low", "estimate_high"),
    *("rank_low", "rank_high", "tied", "p_best", "p_front", "predicted_gain"),
    *("predicted_gain_low", "predicted_gain_high", "block", "stem", "weights_sparsity"),
    *("kernels", "depths", "widths", "structures", "study_block"),
}
"""Columns that are reckoned anew from the others, and the block, whose levels are lost."""
TEXTS = {"role", "state", "id", "error", "architecture"}
"""Columns that may look like a number and are none."""
ASKED = {
    *("trial", "role", "id", "seed", "architecture", "repeat", "rung", "length", "continues"),
    "outside_space",
}
"""Columns that say what was asked for; the others are what it came to."""


def events_of_table(directory: Path) -> list[Event]:
    """Give events that add up to the trials of trials.csv, in the order they finished.

    What the table does not hold is lost: learning curves, blocks of the study, proposals.

    Raises:
        RunError: there is no such table, or no trial in it; the message is part of a sentence.
    """
    try:
        content = (directory / TABLE_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "no UTF-8"
        raise RunError(f"{TABLE_NAME} cannot be read either, {said}") from None
    csv.field_size_limit(10**7)
    rows = [row for row in map(_values, csv.DictReader(io.StringIO(content))) if _is_trial(row)]
    if not rows:
        raise RunError(f"{TABLE_NAME} holds no trial either")
    asked = sorted(rows, key=lambda row: int(row["trial"]))
    lengths = {row["trial"]: _length(row) for row in rows}
    events = [_asked(row, lengths) for row in asked]
    done = sorted(asked, key=lambda row: row.get("at_s", math.inf))
    events += [_done(row) for row in done]
    return [{"seq": seq, **event} for seq, event in enumerate(events)]


def _values(row: Mapping[str, str]) -> dict[str, Any]:
    """Read the cells of a row that are not empty."""
    return {
        name: text if name in TEXTS else _value(text)
        for name, text in row.items()
        # A row that is too long has a list of what is left, and no name for it.
        if name and isinstance(text, str) and text
    }


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return text


def _is_trial(row: Mapping[str, Any]) -> bool:
    """Whether a row has what makes it a trial; one that was cut off has not."""
    numbered = all(type(row.get(name)) is int for name in ("trial", "seed"))
    return numbered and all(name in row for name in ("role", "id", "state", "architecture"))


def _asked(row: Mapping[str, Any], lengths: Mapping[int, Fraction]) -> Event:
    """Give the event that asked for a trial."""
    event = {"event": "asked", **{name: row[name] for name in ASKED if name in row}}
    length, before = lengths[row["trial"]], row.get("continues")
    # It was charged for what it trained itself.
    share = length - lengths.get(before, Fraction(0)) if before is not None else length
    event |= {"length": list(length.as_integer_ratio()), "share": list(share.as_integer_ratio())}
    if row["role"] == "confirm":
        # Of which part of the confirmation is not in the table: it chose no champion.
        event["confirm"] = {"target": None, "part": ""}
    return event


def _done(row: Mapping[str, Any]) -> Event:
    """Give the event of its result."""
    found = {k: v for k, v in row.items() if k not in ASKED | DERIVED and v is not None}
    return {"event": "done", "trial": row["trial"], **found}


def _length(row: Mapping[str, Any]) -> Fraction:
    return Fraction(row.get("length") or 1).limit_denominator(10**6)
