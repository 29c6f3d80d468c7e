"""What became of the proposals that brought no network: refused, failed, diverged, stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from runs.page.document import Block, Cell, Column, Points, Row, Section, Table, Text
from runs.page.findings import Findings
from runs.wording import Facts, missing, reason_text

REASONS_SHOWN = 10
"""Reasons of failed trials, most frequent first."""
DIVERGED_SHOWN = 50


def section(findings: Findings) -> Section:
    """Count what became of every proposal, and say why."""
    facts, frame = findings.facts, findings.frame
    blocks: list[Block] = []
    if lost := list(facts.get("missing") or ()):
        blocks += [Text(text="The record is damaged, so this report lacks:"), Points(items=lost)]
    blocks.append(
        _counted("tally", "Proposals of the sampler by what became of them", _tally(facts))
    )
    rejected = sorted(dict(facts.get("rejected") or {}).items(), key=lambda item: -item[1])
    if rejected:
        caption = "Rejected proposals by the constraint that they broke"
        counted = [(f"{n:,}", word) for word, n in rejected]
        blocks.append(_counted("rejected", caption, counted, word="constraint"))
    failures = _failures(frame)
    if failures:
        rows = [(f"{n:,}", reason) for reason, n in failures]
        blocks.append(
            _counted("failed", "Failed trials by reason", rows, word="reason", noun="trials")
        )
    diverged = frame[frame["state"] == "diverged"]
    if len(diverged):
        blocks.append(_diverged(diverged))
    return Section(key="casualties", title="What became of the proposals", blocks=blocks)


def _counted(
    key: str,
    caption: str,
    rows: Sequence[tuple[str, str]],
    *,
    word: str = "outcome",
    noun: str = "proposals",
) -> Table:
    return Table(
        key=key,
        caption=caption,
        columns=[Column(heading=word), Column(heading=noun, number=True)],
        rows=[
            Row(cells=[Cell(text=what), Cell(text=count, value=float(count.replace(",", "")))])
            for count, what in rows
        ],
        wrap=True,
    )


def _diverged(diverged: pd.DataFrame) -> Table:
    shown = diverged.head(DIVERGED_SHOWN)
    return Table(
        key="diverged",
        caption="Diverged trials: the loss left the finite numbers in the step that is named",
        columns=[
            *(Column(heading="network"), Column(heading="trial", number=True)),
            *(Column(heading="kernels"), Column(heading="step", number=True)),
        ],
        rows=[
            Row(
                cells=[
                    Cell(text=str(row["id"])),
                    Cell(text=str(row["trial"])),
                    Cell(text=str(row["kernels"])),
                    Cell(text="" if missing(row.get("steps")) else f"{row['steps']:g}"),
                ]
            )
            for _, row in shown.iterrows()
        ],
    )


def _tally(facts: Facts) -> list[tuple[str, str]]:
    counts = facts.get("counts") or {}
    lines = {
        "complete": "trained to the end",
        "diverged": "diverged: the loss left the finite numbers; ranked last, and counted",
        "stopped": "ended at a lower rung; those of them that went on did so as another trial",
        "failed": "failed, and not counted",
        "duplicate": "proposed again though it was known; not trained twice",
        "rejected": "rejected by a constraint before training",
        "infeasible": "infeasible: did not fit into the memory, and not counted",
    }
    shown = [
        (f"{counts.get(key, 0):,}", text)
        for key, text in lines.items()
        if key not in ("infeasible", "stopped") or counts.get(key)
    ]
    if facts.get("exhausted"):
        shown.append(
            ("0", "networks left: the space was searched to its end before the budget was spent")
        )
    return shown


def _failures(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """Give the reasons of the failed trials, most frequent first."""
    errors = frame.loc[frame["state"].isin(["failed", "infeasible"]), "error"]
    reasons = Counter(reason_text(error) for error in errors)
    return reasons.most_common(REASONS_SHOWN)
