"""The rungs of a run with halving in words: for the page and for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from runs.wording import (
    MISSING,
    Facts,
    amount,
    fixed,
    is_dense,
    length_text,
    missing,
    plural,
    share,
)

HEADINGS = (
    "length",
    "epochs",
    "trained",
    "diverged",
    "went on",
    "best",
    "trainings spent",
    "of all",
)
"""Of the table; the first column is of words."""


def section(facts: Facts) -> dict[str, Any] | None:
    """Give what the page says of the rungs; None in a run without halving.

    Args:
        facts: as `gathering.run_facts` gives them; read are `rungs`, as `rung_facts` gives them,
            and `settings`.
    """
    if not drawable(facts):
        return None
    return {
        "headings": [_heading(name, facts) for name in HEADINGS],
        "rows": list(_rows(facts)),
        "rule": rule_text(facts),
        "agreement": agreement_lines(facts),
    }


def console_table(facts: Facts) -> Group | None:
    """Give the same for a terminal."""
    if not drawable(facts):
        return None
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(HEADINGS):
        table.add_column(_heading(name, facts), justify="right" if place else "left", no_wrap=True)
    for row in _rows(facts):
        table.add_row(*(Text(cell) for cell in row))
    return Group(Text("\nrungs"), table, *(Text(line) for line in agreement_lines(facts)))


def drawable(facts: Facts) -> bool:
    """Whether any training ended at a rung."""
    rows = (facts.get("rungs") or {}).get("rows") or ()
    return any(row["trained"] for row in rows)


def rule_text(facts: Facts) -> str:
    """Say by which rule networks went on."""
    factor = (facts.get("settings") or {}).get("halving_factor", 3)
    lengths = [length_text(row["length"]) for row in facts["rungs"]["rows"]]
    return (
        f"Every network of the search began with {lengths[0]} of a training. At each rung the best "
        f"one in {factor} of those that had ended there went on from where they had stopped: by "
        "front over the objectives, and in a front those first that stand alone. None waited for "
        f"the others, so in all more than one in {factor} may have gone on. Scores are "
        "compared within a rung only, since the learning rate is still high at the lower ones; "
        "only networks that were trained in full length are ranked."
    )


def agreement_lines(facts: Facts) -> list[str]:
    """Say how far each rung orders the networks as the next one does."""
    lines = []
    for told in facts["rungs"]["agreement"]:
        below, above = (length_text(length) for length in told["lengths"])
        whole = "the full length" if above == "1" else f"{above} of the length"
        if missing(told["value"]):
            continue
        lines.append(
            f"Kendall's tau between the scores at {below} and at {whole}: "
            f"{fixed(told['value'], 2)} [{fixed(told['low'], 2)}, {fixed(told['high'], 2)}] over "
            f"{plural(told['networks'], 'network')} that reached both."
        )
    if lines:
        lines.append("Networks that were stopped are left out of these.")
    return lines


def _heading(name: str, facts: Facts) -> str:
    if name != "best":
        return name
    return "best val. mIoU" if is_dense(facts) else "best val. accuracy"


def _rows(facts: Facts) -> Iterable[list[str]]:
    rungs = facts["rungs"]
    beside = rungs["beside"]
    total = sum(row["spent"] for row in (*rungs["rows"], beside))
    for row in rungs["rows"]:
        last = row is rungs["rows"][-1]
        yield [
            length_text(row["length"]),
            f"{row['epochs']:.3g}",
            f"{row['trained']:,}",
            f"{row['diverged']:,}",
            MISSING if last else f"{row['went_on']:,}",
            share(row["best"]),
            amount(row["spent"]),
            share(row["spent"] / total),
        ]
    if beside["trained"]:
        yield [
            "1, beside the rungs",
            *(MISSING,),
            f"{beside['trained']:,}",
            *(MISSING,) * 3,
            amount(beside["spent"]),
            share(beside["spent"] / total),
        ]
