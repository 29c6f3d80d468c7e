"""The front: what no other network beats in every objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure as Picture

from runs.figures import Theme, front_figure
from runs.front_view import LIKELY, POSSIBLE, View, marks_of, views
from runs.guideline_notes import compliance_lines
from runs.knee import CLEAR, knees
from runs.method_text import disturbed_text
from runs.page.document import Block, Details, Figure, Points, Section, Switch, Text
from runs.page.findings import Findings
from runs.page.front_chart import front_chart
from runs.page.networks import FRONT_COLUMNS, network_table
from runs.ranking import Objective
from runs.wording import Facts, missing, plural, quantity


def section(findings: Findings) -> Section:
    """Show the front as a picture and as a table."""
    facts, front = findings.facts, findings.front

    seen, marks = views(findings.frame, findings.objectives), marks_of(facts)

    def draw(theme: Theme, *, narrow: bool) -> Picture:
        return front_figure(seen[0], marks, theme=theme, narrow=narrow)

    chart: dict[str, Any] | None = None
    switches: list[Switch] = []
    if not all(view.empty for view in seen):
        chart, switches = front_chart(findings, seen)

    blocks: list[Block] = [
        Figure(
            key="front",
            reading=_reading(seen[0], len(findings.objectives)),
            alt=_alt(findings),
            chart=chart,
            draw=draw,
            switches=switches,
        ),
        *(Text(text=line, soft=True) for line in _remarks(findings, seen)),
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


def _alt(findings: Findings) -> str:
    axes = " over ".join(objective.label for objective in findings.objectives[:2])
    return (
        f"Scatter plot of {axes} for {plural(len(findings.competing), 'trained network')}; "
        f"the {len(findings.front)} on the front are listed in the table below."
    )


def _reading(view: View, objectives: int) -> str:
    up, across = view.up, view.across
    better = f"{'Higher' if up.direction == 'max' else 'Lower'} is better ({up.label})"
    if across is not None:
        side = "left" if across.direction == "min" else "right"
        better += f", and further {side} is better ({across.label})"
    what = (
        f"is the best in {up.label}"
        if objectives == 1
        else "is on the front, where no other beats it in every objective,"
    )
    said = (
        f"a filled marker {what} with a probability of {_per_cent(LIKELY)} or more, a hollow "
        f"one of {_per_cent(POSSIBLE)} or more"
        if view.chances
        else f"a coloured marker {what.rstrip(',')}"
    )
    bars = ", bars are 95 % intervals" if _bars(view) else ""
    return f"{better}: {said}{bars}, and numbers are those of the table."


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _bars(view: View) -> bool:
    return bool(view.points[["x_low", "y_low"]].notna().any(axis=None))


def _remarks(findings: Findings, seen: Sequence[View]) -> list[str]:
    """Say what one must know of the picture beyond how to read it."""
    said, names = [], [objective.label for objective in findings.objectives]
    if seen[0].estimated:
        said.append(
            "Heights are estimates, not the scores of single trainings, of which the luckiest "
            "would make the front; the pointer shows both."
        )
    if not all(view.searched for view in seen):
        said.append(
            "Axes that were not searched for show the front of the two alone; the search looked "
            f"for {' and '.join(names)}."
        )
    if knee := _knee(seen[0]):
        said.append(knee)
    if len(names) > 2:
        said.append(
            f"Only two of the {len(names)} objectives are drawn, so points of the front may lie "
            "inside the cloud."
        )
    if anchors := findings.facts.get("anchors"):
        told = "; ".join(f"{one['id']}, {' and '.join(one['names'])}" for one in anchors)
        said.append(f"The search began with known networks: {told}.")
    if disturbed := disturbed_text(findings.frame):
        said.append(disturbed)
    return said


def _knee(view: View) -> str:
    """Say where the front bends, and how sure that is; empty where it cannot be asked."""
    parts = []
    for knee in knees(view):
        scale = "logarithmic" if knee.log else "linear"
        what = f"network {knee.network}" if knee.clear else "none that is clear"
        parts.append(f"over a {scale} axis {what} ({knee.share:.0%})")
    if not parts:
        return ""
    return (
        "The knee, the network of the front farthest above the line between its ends, depends on "
        f"the scale: {', '.join(parts)}. In brackets how often the likeliest one is the knee in "
        f"worlds drawn from the intervals; below {CLEAR:.0%} none is named."
    )


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
