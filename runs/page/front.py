"""The front: what no other network beats in every objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure as Picture

from runs.figures import Theme, front_figure
from runs.front_view import View, marks_of, views
from runs.guideline_notes import compliance_lines
from runs.knee import CLEAR, Knee, knees
from runs.method_text import disturbed_text
from runs.page.document import Block, Details, Figure, Points, Section, Switch, Text
from runs.page.findings import Findings
from runs.page.front_chart import front_chart
from runs.page.front_words import alt, beyond, reading
from runs.page.networks import FRONT_COLUMNS, network_table
from runs.ranking import Objective
from runs.wording import Facts, missing, percent, quantity


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
            reading=reading(seen[0], len(findings.objectives)),
            alt=alt(seen[0]),
            note=beyond(seen[0]),
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
    if knee := knee_text(knees(seen[0])):
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


def knee_text(found: Sequence[Knee]) -> str:
    """Say where the front bends, and how sure that is; empty where it cannot be asked."""
    if not found:
        return ""
    axes = [
        (f"on a {'logarithmic' if knee.log else 'linear'} axis", percent(knee.share))
        for knee in found
    ]
    what = "The knee, the network of the front farthest above the line between its ends,"
    if not any(knee.clear for knee in found):
        where = " or ".join(f"{axis} ({share})" for axis, share in axes)
        said = f"{what} is not clear {where}"
    elif all(knee.clear for knee in found) and len({knee.network for knee in found}) == 1:
        where = " and ".join(f"{axis} ({share})" for axis, share in axes)
        said = f"{what} is network {found[0].network}, {where}"
    else:
        each = (
            f"{axis} {f'network {knee.network}' if knee.clear else 'none that is clear'} ({share})"
            for knee, (axis, share) in zip(found, axes, strict=True)
        )
        said = f"{what} depends on the scale: {', '.join(each)}"
    return (
        f"{said}. In brackets how often the likeliest one is the knee in worlds drawn from the "
        f"intervals; below {percent(CLEAR)} none is named."
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
    scores, estimates = facts["hypervolume"], facts.get("hypervolume_estimated")
    number = (
        f"{scores:.4f}, by one training of each network"
        if missing(estimates)
        else f"{estimates:.4f} by the estimates, from which the front above is drawn, and "
        f"{scores:.4f} by the scores of one training of each network, where the luckiest count"
    )
    return (
        f"Hypervolume {number}: the share of the box between the ideal and the reference point "
        f"that the networks dominate. Reference point: {named}. Compare it only with runs that use "
        "the same reference point."
    )
