"""How it was measured, in which environment, and the command that repeats the run."""

from __future__ import annotations

from runs.method_text import command_text, method, sessions
from runs.page.document import Block, Cell, Code, Column, Details, Pairs, Row, Section, Table, Text
from runs.page.findings import Findings


def section(findings: Findings) -> Section:
    """Say what one must know to judge the numbers, and to get them again."""
    facts = findings.facts
    blocks: list[Block] = [Pairs(rows=method(facts))]
    if command := command_text(facts):
        blocks += [
            Text(
                text="This command repeats the run in a new directory. Accuracies depend on the "
                "seed, the versions and the kind of device; latencies on the machine and on what "
                "else it does."
            ),
            Code(text=command),
        ]
    if told := sessions(facts):
        headings = ("begun", "budget", "workers", "command")
        table = Table(
            key="sessions",
            caption="Sessions of the run; one that was stopped is continued by the next",
            columns=[
                Column(heading=heading, number=heading in ("budget", "workers"))
                for heading in headings
            ],
            rows=[
                Row(cells=[Cell(text=str(one[name])) for name in ("started", *headings[1:])])
                for one in told
            ],
            wrap=True,
        )
        blocks.append(
            Details(summary=f"Sessions: {len(told)}", blocks=[table], unfolded=len(told) > 1)
        )
    return Section(key="measured", title="How it was measured", blocks=blocks)
