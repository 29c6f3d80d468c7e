"""The parts of a document, whatever it is written as: plain data, every text still unescaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from matplotlib.figure import Figure as MatplotlibFigure

from runs.figures import Theme


class Draw(Protocol):
    """Draws one picture."""

    def __call__(self, theme: Theme, *, narrow: bool) -> MatplotlibFigure:
        """Draw it in a colour scheme, for a wide or a narrow page; with a canvas for Agg."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    soft: bool = False
    """Whether it stands back, as a remark on how to read what stands above it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """Short texts, one below the other."""

    kind: ClassVar[str] = "points"
    items: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Words and what is to be said of each."""

    kind: ClassVar[str] = "pairs"
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """What one types or reads letter by letter."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """The head of a column."""

    heading: str
    number: bool = False
    """Whether it holds numbers, which stand on the right and sort by value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    value: float | None = None
    """What it sorts by, where that is not its text."""
    network: str = ""
    """Id of the network whose card it opens; empty for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row; its first cell names it."""

    cells: Sequence[Cell]
    badge: str = ""
    """A word that marks it, such as `recommended`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table; in HTML its columns sort, and long ones can be filtered."""

    kind: ClassVar[str] = "table"
    key: str
    """Unique in the document; the element is `table-<key>`."""
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    wrap: bool = False
    """Whether its cells hold sentences, which are broken into lines."""
    most: int | None = None
    """Rows that Markdown shows; None for all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One position of a switch: what changes in the chart."""

    label: str
    data: Mapping[str, Any]
    """Of the traces, as `Plotly.restyle` takes it: lists hold one value a trace."""
    layout: Mapping[str, Any]
    """As `Plotly.relayout` takes it."""
    reading: str = ""
    """How to read the chart in this position; empty where that does not change."""
    alt: str = ""
    """The same for what somebody who cannot see it must know."""
    note: str | None = None
    """The same for the note; None where that does not change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Switch:
    """A choice above a chart; its first option is what the chart shows at first."""

    label: str
    options: Sequence[Option]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A picture that can be explored, and the same as a file."""

    kind: ClassVar[str] = "figure"
    key: str
    """Unique in the document; the element is `figure-<key>`, the files are `figures/<key>.*`."""
    reading: str
    """One sentence that says how to read it."""
    alt: str
    """What somebody who cannot see it must know."""
    note: str = ""
    """What else is to be said of the chart, but not of the drawing; empty for nothing."""
    chart: Mapping[str, Any] | None = None
    """`data` and `layout` in the schema of plotly, as plain JSON; None shows the drawing."""
    draw: Draw | None = None
    """Draws it as a file; None where there is only the chart."""
    switches: Sequence[Switch] = ()

    @property
    def plain_switches(self) -> list[list[dict[str, Any]]]:
        """What the options of each switch change, for the page's script."""
        return [
            [
                {"data": option.data, "layout": option.layout} | _said(option)
                for option in switch.options
            ]
            for switch in self.switches
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """What is folded away until somebody asks for it."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence[Block]
    unfolded: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A small picture inside a text: SVG that we wrote ourselves, every name in it escaped."""

    kind: ClassVar[str] = "drawing"
    svg: str
    alt: str
    key: str = ""
    """Of its file `figures/<key>.svg`; empty for none."""
    reading: str = ""
    """A sentence below it that says how to read it, and what Markdown shows of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """All there is of one network; the element is `card-<network>`."""

    network: str
    title: str
    badge: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cards:
    """Networks, one after the other."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


Block = Text | Points | Pairs | Code | Table | Figure | Details | Drawing | Cards


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the document with a heading."""

    key: str
    """Unique in the document; the element has this id."""
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """The whole."""

    title: str
    subtitle: str
    answer: Sequence[str]
    """What a reader in a hurry needs, in sentences."""
    sections: Sequence[Section]
    data: Mapping[str, Any]
    """The same as plain JSON, embedded in the page for programs."""


def _said(option: Option) -> dict[str, str]:
    """Give what is to be said beside the chart in a position, where that changes."""
    said = {key: value for key in ("reading", "alt") if (value := getattr(option, key))}
    return said if option.note is None else said | {"note": option.note}


def figures(document: Document) -> list[Figure]:
    """Give all figures of a document, in their order."""
    return [block for block in _all_blocks(document) if isinstance(block, Figure)]


def drawings(document: Document) -> list[Drawing]:
    """Give all drawings of a document that have a file of their own, in their order."""
    return [block for block in _all_blocks(document) if isinstance(block, Drawing) and block.key]


def _all_blocks(document: Document) -> Iterator[Block]:
    for section in document.sections:
        yield from _inside(section.blocks)


def _inside(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        yield block
        if isinstance(block, Details):
            yield from _inside(block.blocks)
        elif isinstance(block, Cards):
            for card in block.cards:
                yield from _inside(card.blocks)
