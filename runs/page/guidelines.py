"""The guidelines on this task: effects, intervals and verdicts."""

from __future__ import annotations

from matplotlib.figure import Figure as Picture

from runs.figures import Theme
from runs.guideline_figure import NARROW, WIDE, drawable, guideline_figure
from runs.guideline_table import section as guideline_words
from runs.page.document import (
    Block,
    Cell,
    Column,
    Details,
    Figure,
    Points,
    Row,
    Section,
    Table,
    Text,
)
from runs.page.findings import Findings


def section(findings: Findings) -> Section | None:
    """Say which guidelines hold; None where none was tested."""
    facts = findings.facts
    said = guideline_words(facts)
    if said is None:
        return None
    blocks: list[Block] = [Text(text=said["sanity"])] if said["sanity"] else []

    def draw(theme: Theme, *, narrow: bool) -> Picture:
        return guideline_figure(facts, theme=theme, size=NARROW if narrow else WIDE)

    if drawable(facts):
        blocks.append(
            Figure(
                key="guidelines",
                reading="A dot is the effect of following a guideline, the thick line its 95 % "
                "interval and the thin one what a new network can expect; within the grey band an "
                "effect is of no practical use.",
                alt="Effects of the guidelines with their intervals; the table has the numbers.",
                draw=draw,
            )
        )
    blocks.append(
        Table(
            key="guidelines",
            caption="What each guideline was worth on this task, between networks of equal MACs",
            columns=[Column(heading=heading, number=right) for heading, right in said["headings"]],
            rows=[Row(cells=[Cell(text=cell) for cell in row]) for row in said["rows"]],
            wrap=True,
        )
    )
    blocks += [Text(text=sentence) for sentence in said["caveats"]]
    if said["tested"]:
        blocks.append(
            Details(
                summary="What was held against what", blocks=[Points(items=list(said["tested"]))]
            )
        )
    blocks += [Text(text=sentence, soft=True) for sentence in said["legend"]]
    if said["hash"]:
        text = f"The whole hash, as run.yaml has it: sha256 {said['hash']}."
        blocks.append(Text(text=text, soft=True))
    return Section(key="guidelines", title="The guidelines on this task", blocks=blocks)
