"""Runs with little in them make a sensible report: page, Markdown, pictures and data."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from runs.page.html import html
from runs.page.markdown import markdown
from runs.page.pictures import pictures
from runs.page.sections import report
from tests.made_runs import NAMES, failed, frame_of, rows
from tests.pages import Reader, findings_of

DIVERGED = {"state": "diverged", "accuracy": None, "val_loss": None}
EQUAL = {"accuracy": 0.8, "val_loss": 0.5, "latency_ms": 1.0, "macs": 10**6, "params": 10**4}
NO_LATENCY = dict.fromkeys(("latency_ms", "latency_low_ms", "latency_high_ms"))

CASES: dict[str, tuple[list[dict[str, Any]], tuple[str, ...], str]] = {
    "no finished trial": ([], NAMES, "there is no network to recommend"),
    "one trial": (rows(1), NAMES, "It rests on 1 training of 1 distinct network"),
    "all failed": ([failed(n, "error: it broke") for n in range(3)], NAMES, "error: it broke"),
    "all diverged": (
        rows(3, **{f"t{n}": DIVERGED for n in range(3)}),
        NAMES,
        "there is no network to recommend",
    ),
    "equal values": (rows(25, **{f"t{n}": EQUAL for n in range(25)}), NAMES, "Take network"),
    "one objective": (rows(6), ("accuracy",), "Take network"),
    "no latency": (
        rows(6, **{f"t{n}": NO_LATENCY for n in range(6)}),
        ("accuracy", "macs"),
        "Take network",
    ),
    "three objectives": (rows(6), ("accuracy", "latency", "params"), "Take network"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_report_is_made_of_whatever_there_is(name: str) -> None:
    trials, objectives, said = CASES[name]
    document = report(findings_of(frame_of(trials, objectives), objectives))
    drawn = pictures(document)
    page = html(document, drawn)
    assert said in re.sub(r"\s+", " ", Reader(page).text)
    assert len(document.answer) == 3
    text = markdown(document)
    assert text.startswith("# Search of the space default\n")
    for picture in re.findall(r"\(figures/([\w/-]+)\.png\)", text):
        assert picture in drawn
    for nothing in ("None", "nan", "NaN", "<NA>"):
        assert not re.search(rf"\b{nothing}\b", Reader(page).text), nothing
        assert not re.search(rf"\b{nothing}\b", text), nothing
    told = json.loads(json.dumps(document.data, allow_nan=False))
    assert len(told["trials"]) == len(trials)


def test_markdown_escapes_what_comes_from_a_run() -> None:
    evil = "<script>alert(1)</script> | [a](http://x) `b`"
    frame = frame_of(rows(2))
    text = markdown(report(findings_of(frame, name=evil, rejected={evil: 3}, command=evil)))
    assert "<script>" not in text.split("```")[0]
    assert r"\<script\>alert(1)\</script\> \| \[a\](http://x) \`b\`" in text
    rows_of_table = [line for line in text.splitlines() if line.startswith("| ")]
    heads = [line for line in text.splitlines() if re.fullmatch(r"\|(-+:?\|)+", line)]
    assert heads
    assert all(line.endswith(" |") for line in rows_of_table)


def test_tables_of_markdown_have_as_many_cells_as_headings() -> None:
    text = markdown(report(findings_of(frame_of(rows(30)))))
    width = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        width = width or cells
        assert cells == width, line
