"""Reads a page as a browser does: its tags, its tables by caption, its text."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pandas as pd

from runs.page.findings import Findings
from runs.page.html import html
from runs.page.sections import report
from runs.ranking import front, objectives_named
from tests.made_runs import NAMES, facts_of

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Reader(HTMLParser):
    """Collects tags, attributes, the cells of tables by caption, and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._caption = ""
        self._rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self._open == [], "a tag was not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._caption, self._rows = "", []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            self.tables[self._caption.strip()] = self._rows

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self._open):
            return
        self.text += data
        if "caption" in self._open:
            self._caption += data
        elif "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += data.strip()

    def table(self, start: str) -> list[dict[str, str]]:
        """Give the rows of the table whose caption starts so, by heading."""
        (found,) = (rows for caption, rows in self.tables.items() if caption.startswith(start))
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def findings_of(frame: pd.DataFrame, names: tuple[str, ...] = NAMES, **changes: Any) -> Findings:
    """Give the findings of a run with these trials."""
    objectives = objectives_named(names)
    return Findings(
        facts=facts_of(frame, names, **changes),
        frame=frame,
        front=front(frame, objectives),
        objectives=objectives,
    )


def read(frame: pd.DataFrame, names: tuple[str, ...] = NAMES, **changes: Any) -> Reader:
    """Read the page of such a run."""
    return Reader(html(report(findings_of(frame, names, **changes)), drawn={}))
