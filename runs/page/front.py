"""The front: what no other network beats in every objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Picture

from runs.figures import Theme, front_figure
from runs.front_view import marks_of, views
from runs.guideline_notes import compliance_lines
from runs.method_text import disturbed_text
from runs.page.document import Block, Details, Figure, Points, Section, Text
from runs.page.findings import Findings
from runs.page.front_chart import front_chart
from runs.page.networks import FRONT_COLUMNS, network_table
from runs.ranking import Objective
from runs.wording import Facts, missing, plural, quantity


def section(findings: Findings) -> Section:
    """Show the front as a picture and as a table."""
    facts, frame, front = findings.facts, findings.frame, findings.front

    seen, marks = views(frame, findings.objectives), marks_of(facts)

    def draw(theme: Theme, *, narrow: bool) -> Picture:
        return front_figure(seen[0], marks, theme=theme, narrow=narrow)

    chart, switches = front_chart(findings, seen)

    blocks: list[Block] = [
        Figure(
            key="front",
            reading=_reading(frame, front, findings.objectives),
            alt=_alt(frame, front, findings.objectives),
            chart=chart,
            draw=draw,
            switches=switches,
        )
    ]
    if front.empty:
        blocks.append(Text(text="No training was complete, so there is no front."))
    else:
        blocks += [
            network_table(
                front,
                FRONT_COLUMNS,
                findings,
                key="front",
                caption="Networks of the front, along it. Kernels, depths and widths are by stage, "
                "stages apart by |; kernels of one stage apart by /.",
                first="no.",
                numbers=range(1, len(front) + 1),
            ),
            Details(
                summary="What S1 to S4 say",
                blocks=[
                    Text(
                        text="Each is a score from 0 to 1 for how far a network follows a "
                        "published guideline for large kernels; a dash stands where the guideline "
                        "has nothing to apply to. They were not searched for."
                    ),
                    Points(items=compliance_lines(facts)),
                ],
            ),
        ]
    if text := _hypervolume(facts, findings.objectives):
        blocks.append(Text(text=text))
    return Section(key="front", title="The front", blocks=blocks)


def _alt(frame: pd.DataFrame, front: pd.DataFrame, objectives: Sequence[Objective]) -> str:
    complete = int((frame["state"] == "complete").sum())
    axes = " over ".join(objective.label for objective in objectives[:2])
    return (
        f"Scatter plot of {axes} for {plural(complete, 'trained network')}; "
        f"the {len(front)} on the front are listed in the table below."
    )


def _reading(frame: pd.DataFrame, front: pd.DataFrame, objectives: Sequence[Objective]) -> str:
    up = objectives[0]
    better = f"{'Higher' if up.direction == 'max' else 'Lower'} is better ({up.label})"
    if len(objectives) == 1:
        return f"{better}; the coloured point is the best trial, numbered as in the table."
    across = objectives[1]
    side = "left" if across.direction == "min" else "right"
    sentence = (
        f"{better}, and further {side} is better ({across.label}): no trial beats a coloured "
        "point in every objective; its number is that of the table."
    )
    if across.column == "latency_ms" and front["latency_low_ms"].notna().any():
        sentence += " Bars are 95 % intervals of the latency."
    if disturbed := disturbed_text(frame):
        sentence += f" {disturbed}"
    if len(objectives) > 2:
        sentence += (
            f" Only the first two of the {len(objectives)} objectives are drawn, "
            "so points of the front may lie inside the cloud."
        )
    return sentence


def _hypervolume(facts: Facts, objectives: Sequence[Objective]) -> str:
    """Say how much of the objectives the front covers; empty where it is not known."""
    point: dict[str, Any] = facts.get("reference_point") or {}
    if missing(facts.get("hypervolume")) or not point:
        return ""
    named = ", ".join(
        f"{objective.label} {quantity(point[objective.name], objective)}"
        for objective in objectives
        if objective.name in point
    )
    return (
        f"Hypervolume {facts['hypervolume']:.4f}: the share of the box between the ideal and the "
        f"reference point that the trials dominate. Reference point: {named}. Compare it only "
        "with runs that use the same reference point."
    )
