"""How far the scores can be trusted: noise floor, champion, audit, baselines."""

from __future__ import annotations

from typing import Any

from runs.noise_text import champion_lines, noise_lines
from runs.page.document import Block, Cell, Code, Column, Row, Section, Table, Text
from runs.page.findings import Findings
from runs.wording import Facts


def section(findings: Findings) -> Section:
    """Say what noise leaves of the scores, and whether longer trainings agree with short ones."""
    facts = findings.facts
    lines = [*noise_lines(facts), *champion_lines(facts)]
    blocks: list[Block] = [Text(text=line) for line in lines]
    if not lines:
        blocks.append(
            Text(
                text="The noise of a training was not measured here: too few networks were trained "
                "on several seeds, so ranks have no intervals. Searches of 60 trainings and more "
                "measure it."
            )
        )
    blocks += _audit(facts)
    return Section(key="trust", title="How far to trust it", blocks=blocks)


def _audit(facts: Facts) -> list[Block]:
    told: dict[str, Any] = facts.get("audit") or {}
    if not told:
        return [
            Text(
                text="No network was trained longer to see whether the order lasts; this does it:"
            ),
            Code(text=f"replk-search audit {facts.get('directory') or 'RUN'}"),
        ]
    blocks: list[Block] = [Text(text=line) for line in (told["headline"], *told["remarks"])]
    for place, sheet in enumerate(told["sheets"]):
        blocks.append(
            Table(
                key=f"audit-{place + 1}",
                caption=f"Audit: {sheet['title']}",
                columns=[
                    Column(heading=heading, number=i >= sheet["words"])
                    for i, heading in enumerate(sheet["headings"])
                ],
                rows=[Row(cells=[Cell(text=cell) for cell in row]) for row in sheet["rows"]],
            )
        )
        blocks += [Text(text=note, soft=True) for note in sheet["notes"]]
    return blocks
