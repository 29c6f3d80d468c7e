"""How the run came to its front: the hypervolume over trials and over time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from matplotlib.figure import Figure as Picture

from runs.figures import Theme
from runs.page.charts import BLUE, GREY, chart, numbers, text
from runs.page.document import Figure, Option, Section, Switch, Text
from runs.page.findings import Findings
from runs.page.hover import NEWLINE, NO_CARD
from runs.progress import Floats, Progress, progress
from runs.progress_figure import hours_axis, progress_figure, trials_axis
from runs.wording import plural

NEAR = 0.95
"""Share of the final hypervolume that the text dates."""


def section(findings: Findings) -> Section | None:
    """Show how the hypervolume grew; None where no trial gave any."""
    found = progress_of(findings)
    if found is None or not found.values[-1] > 0:
        return None

    def draw(theme: Theme, *, narrow: bool) -> Picture:
        return progress_figure(found, theme=theme, narrow=narrow)

    figure = Figure(
        key="progress",
        reading="The line is the share of the box between the ideal and the reference point that "
        "the trials finished so far dominate: it climbs by a dot where a network brought something "
        "that none before it had, and dashed lines say where each part of the run began.",
        alt=f"Hypervolume over {plural(len(found.trials), 'finished trial')}, "
        f"from {found.values[0]:.4f} to {found.values[-1]:.4f}.",
        chart=_chart(found, findings.carded),
        draw=draw,
        switches=_switches(found),
    )
    lines = [_when(found), _counted(findings, float(found.values[-1]))]
    return Section(
        key="progress",
        title="How the search went",
        blocks=[figure, *(Text(text=line, soft=True) for line in lines if line)],
    )


def progress_of(findings: Findings) -> Progress | None:
    """Follow the hypervolume of a run by its own reference point."""
    point = findings.facts.get("reference_point") or {}
    return progress(findings.frame, findings.objectives, point)


def _chart(found: Progress, carded: Collection[str]) -> dict[str, Any]:
    xs, gained = trials_axis(found), found.gained
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "hypervolume",
        "hoverinfo": "skip",
        "x": numbers(xs),
        "y": numbers(found.values),
        "line": {"shape": "hv", "color": BLUE, "width": 2},
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "gain",
        "hoverinfo": "text",
        "x": numbers(xs[gained]),
        "y": numbers(found.values[gained]),
        "customdata": [[found.ids[place]] for place in gained],
        "hovertext": [_hover(found, place, carded) for place in gained],
        "marker": {"color": BLUE, "size": 7},
    }
    return chart(
        [line, dots],
        xaxis={"title": {"text": "finished trials"}, "rangemode": "tozero"},
        yaxis={
            "title": {"text": "hypervolume, share of the box"},
            "range": [0, float(1.12 * found.values[-1])],
        },
        showlegend=False,
        hovermode="closest",
        margin={"l": 60, "r": 16, "t": 40, "b": 50},
        **_parts(found, xs),
    )


def _hover(found: Progress, place: int, carded: Collection[str]) -> str:
    before = found.values[place - 1] if place else 0.0
    gain = found.values[place] - before
    return (
        f"<b>{text(found.ids[place])}</b><br>trial {found.trials[place]}<br>"
        f"hypervolume {found.values[place]:.4f}, {gain:+.4f}"
        f"{'' if found.ids[place] in carded else NEWLINE + NO_CARD}"
    )


def _parts(found: Progress, xs: Floats) -> dict[str, Any]:
    """Mark where parts of the run begin: lines, and words beside them."""
    places = [(word, numbers([xs[place]])[0]) for word, place in found.begins]
    return {
        "shapes": [
            {
                "type": "line",
                "x0": x,
                "x1": x,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": GREY, "width": 1, "dash": "dash"},
            }
            for _, x in places
        ],
        "annotations": [
            {
                "x": x,
                "yref": "paper",
                "y": 0.02,
                "yanchor": "bottom",
                "xanchor": "left",
                "text": word,
                "showarrow": False,
                "textangle": -90,
                "font": {"size": 11},
            }
            for word, x in places
        ],
    }


def _switches(found: Progress) -> list[Switch]:
    if found.hours is None:
        return []
    times, label = hours_axis(found.hours)
    options = (("trials", trials_axis(found), "finished trials"), ("time", times, label))
    return [
        Switch(
            label="Over",
            options=[
                Option(
                    label=word,
                    data={"x": [numbers(xs), numbers(xs[found.gained])]},
                    layout={"xaxis.title.text": said, "xaxis.autorange": True} | _parts(found, xs),
                )
                for word, xs, said in options
            ],
        )
    ]


def _when(found: Progress) -> str:
    """Say when most of it was reached."""
    place = found.reached(NEAR)
    if place is None:
        return ""
    when = ""
    if found.hours is not None:
        times, label = hours_axis(found.hours)
        when = f", {times[place]:.3g} of {times[-1]:.3g} {label.rsplit(' ', 1)[-1]}"
    return (
        f"{NEAR:.0%} of the final hypervolume was reached after {place + 1:,} of "
        f"{plural(len(found.trials), 'finished trial')}{when}."
    )


def _counted(findings: Findings, end: float) -> str:
    """Say by which numbers it is counted."""
    said = (
        "Scores are as each training measured them, since estimates change with every further "
        "training: noise lifts the curve a little. A network counts once, by its first whole "
        f"training, and the end is the hypervolume of these scores, {end:.4f}."
    )
    if any(objective.column == "latency_ms" for objective in findings.objectives):
        said += (
            " Latencies are the last that were measured: networks of the front were measured "
            "again, longer, at the end of the run."
        )
    if len(findings.objectives) == 1:
        said += (
            " With one objective it is the share of the way from the reference point to the ideal."
        )
    return said
