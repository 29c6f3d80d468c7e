"""The ranking: who stands where, how sure that is, and what the rungs of a run came to."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure as Picture

from runs.figures import Theme
from runs.method_text import fidelity_text
from runs.page.document import Block, Cell, Column, Details, Figure, Row, Section, Table, Text
from runs.page.findings import Findings
from runs.page.networks import RANKING_COLUMNS, network_table
from runs.rung_figure import NARROW, WIDE, rung_figure
from runs.rung_table import section as rung_words
from runs.wording import Facts, is_dense, missing, plural, share

RANKED_SHOWN = 500
"""Trials in the table of the page; trials.csv has them all."""
IN_MARKDOWN = 20
"""Trials in the table of a pull request."""


def section(findings: Findings) -> Section:
    """Say how far the order can be trusted, and give it."""
    facts, frame = findings.facts, findings.frame
    lines = [fidelity_text(facts, frame), _proxy(facts, frame)]
    blocks: list[Block] = [Text(text=line) for line in lines if line]
    ranked = frame[frame["rank"].notna()]
    shown = ranked.head(RANKED_SHOWN)
    if ranked.empty:
        blocks.append(Text(text="No trial has a place in the ranking."))
    else:
        table = network_table(
            shown,
            RANKING_COLUMNS,
            findings,
            key="ranking",
            caption="Trials by the first objective; trials.csv has every column of all of them.",
            first="rank",
            numbers=shown["rank"].tolist(),
            most=IN_MARKDOWN,
        )
        summary = f"The first {len(shown):,} of {plural(len(frame), 'trial')}"
        blocks.append(Details(summary=summary, blocks=[table], unfolded=True))
    return Section(key="ranking", title="The ranking", blocks=blocks)


def rungs(findings: Findings) -> Section | None:
    """Say what the rungs of a run with halving came to; None without any."""
    said = rung_words(findings.facts)
    if said is None:
        return None
    headings = [
        Column(heading=heading, number=place > 0) for place, heading in enumerate(said["headings"])
    ]
    table = Table(
        key="rungs",
        caption="Trainings by the rung where they ended; a length is a share of the full one",
        columns=headings,
        rows=[Row(cells=[Cell(text=str(cell)) for cell in row]) for row in said["rows"]],
    )

    def draw(theme: Theme, *, narrow: bool) -> Picture:
        return rung_figure(findings.frame, theme=theme, size=NARROW if narrow else WIDE)

    figure = Figure(
        key="rungs",
        reading="One line is one network, from rung to rung, grey where it was stopped and in the "
        "colour of its largest kernel where it was trained in full length; where coloured lines "
        "cross, the lower rung had their networks in another order than the next.",
        alt="Learning curves from rung to rung, one line a network; trials.csv has the numbers.",
        draw=draw,
    )
    lines = [Text(text=line) for line in said["agreement"]]
    return Section(
        key="rungs", title="The rungs", blocks=[Text(text=said["rule"]), table, *lines, figure]
    )


def _proxy(facts: Facts, frame: pd.DataFrame) -> str:
    """Say what a short training tells, and how far an accuracy is known at all."""
    epochs = (facts.get("recipe") or {}).get("epochs")
    length = "a few epochs" if epochs is None else plural(epochs, "epoch")
    text = (
        f"A training of {length} is a proxy: it orders networks by how well they begin, "
        "which is not always how they would stand after a full training."
    )
    if is_dense(facts):
        return text
    images = (facts.get("data") or {}).get("val")
    complete = frame.loc[frame["state"] == "complete", "accuracy"]
    best = float(pd.to_numeric(complete, errors="coerce").max())
    if not images or missing(best):
        return text
    error = 100 * math.sqrt(max(best * (1 - best), 0.0) / images)
    return (
        f"{text} With {plural(images, 'validation image')} the standard error of an accuracy of "
        f"{share(best)} is {error:.1f} points, and the seed of a training adds to it: this run "
        "cannot separate ranks that lie closer together than that."
    )
