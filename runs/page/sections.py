"""The report of a run: which sections it has, in their order."""

from __future__ import annotations

from collections.abc import Callable

from runs.page import (
    answer,
    cards,
    casualties,
    front,
    guidelines,
    importance,
    parallel,
    progress,
    ranking,
    repeat,
    subspaces,
    trust,
)
from runs.page.data import report_data
from runs.page.document import Document, Section
from runs.page.findings import Findings

SECTIONS: tuple[Callable[[Findings], Section | None], ...] = (
    front.section,
    cards.section,
    ranking.section,
    ranking.rungs,
    guidelines.section,
    progress.section,
    parallel.section,
    importance.section,
    subspaces.section,
    trust.section,
    casualties.section,
    repeat.section,
)
"""Each makes its part of the report, or None where a run has nothing to say there."""


def report(findings: Findings) -> Document:
    """Make the report of a run."""
    found = (section(findings) for section in SECTIONS)
    name = str(findings.facts.get("name") or "search")
    return Document(
        title=f"Search of the space {name}",
        subtitle=answer.subtitle(findings),
        answer=answer.sentences(findings),
        sections=[section for section in found if section is not None],
        data=report_data(findings),
    )
