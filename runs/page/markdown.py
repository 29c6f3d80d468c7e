"""A document as Markdown for a pull request: the same facts, pictures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from runs.page.document import (
    Block,
    Card,
    Cards,
    Code,
    Details,
    Document,
    Drawing,
    Figure,
    Pairs,
    Points,
    Section,
    Table,
    Text,
)

_MARKS = re.compile(r"([\\`*_\[\]<>#|~])")


def markdown(document: Document, *, folder: str = "figures") -> str:
    """Write a document as Markdown (GitHub's).

    Args:
        document: what to write.
        folder: of the pictures, from where the text will stand.
    """
    parts = [f"# {escape(document.title)}", escape(document.subtitle)]
    parts += [f"> {escape(sentence)}" for sentence in document.answer]
    for section in document.sections:
        parts += _section(section, folder)
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Keep a text from being read as Markdown or HTML."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def _section(section: Section, folder: str) -> list[str]:
    return [f"## {escape(section.title)}", *_blocks(section.blocks, folder)]


def _blocks(blocks: Sequence[Block], folder: str) -> list[str]:
    return [WRITERS[block.kind](block, folder) for block in blocks]


def _table(block: Table, _folder: str) -> str:
    rows = block.rows if block.most is None else block.rows[: block.most]
    lines = [
        "| " + " | ".join(escape(column.heading) or " " for column in block.columns) + " |",
        "|" + "|".join("---:" if column.number else "---" for column in block.columns) + "|",
    ]
    for row in rows:
        cells = [escape(cell.text) for cell in row.cells]
        if row.badge:
            cells[0] = f"**{cells[0]}** ({escape(row.badge)})"
        lines.append("| " + " | ".join(cells) + " |")
    left = len(block.rows) - len(rows)
    more = f" The first {len(rows)} of {len(block.rows)} rows." if left else ""
    return f"*{escape(block.caption)}*{more}\n\n" + "\n".join(lines)


def _figure(block: Figure, folder: str) -> str:
    reading = escape(block.reading)
    if block.draw is None:
        return reading
    return f"![{escape(block.alt)}]({folder}/{block.key}.png)\n\n{reading}"


def _drawing(block: Drawing, folder: str) -> str:
    words = escape(block.reading or block.alt)
    return f"![drawing]({folder}/{block.key}.svg)\n\n{words}" if block.key else words


def _card(card: Card, folder: str) -> str:
    """Fold a card away: a pull request has no room for thirty of them."""
    badge = f" ({card.badge})" if card.badge else ""
    return _details(Details(summary=f"{card.title}{badge}", blocks=card.blocks), folder)


def _details(block: Details, folder: str) -> str:
    inside = "\n\n".join(_blocks(block.blocks, folder))
    opened = " open" if block.unfolded else ""
    summary = block.summary.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<details{opened}><summary>{summary}</summary>\n\n{inside}\n\n</details>"


def _code(block: Code, _folder: str) -> str:
    # A fence longer than any inside it.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block.text)), default=0))
    return f"{fence}\n{block.text}\n{fence}"


WRITERS: dict[str, Callable[[Any, str], str]] = {
    Text.kind: lambda block, _: escape(block.text),
    Points.kind: lambda block, _: "\n".join(f"- {escape(item)}" for item in block.items),
    Pairs.kind: lambda block, _: "\n".join(
        f"- **{escape(word)}**: {escape(text)}" for word, text in block.rows
    ),
    Code.kind: _code,
    Table.kind: _table,
    Figure.kind: _figure,
    Details.kind: _details,
    Drawing.kind: _drawing,
    Cards.kind: lambda block, folder: "\n\n".join(_card(card, folder) for card in block.cards),
}
"""How each kind of block is written."""
