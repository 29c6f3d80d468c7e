"""The pictures of a comparison to explore, in plotly's schema; see `series` for what they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runs.compare.series import Series, logarithmic
from runs.page.charts import GREY, LEGEND, SCALES, UNDER, axis, chart, numbers, text
from runs.page.document import Option, Switch
from runs.ranking import CHEAPER, Objective


def objectives_chart(series: Sequence[Series], up: Objective, across: Objective) -> dict[str, Any]:
    """Draw lines over two objectives."""
    return chart(
        [_trace(own) for own in series],
        xaxis=axis(across, log=logarithmic(series, across)),
        yaxis=axis(up),
        hovermode="closest",
        legend=LEGEND,
        margin=UNDER,
    )


def progress_chart(series: Sequence[Series]) -> dict[str, Any]:
    """Draw the hypervolume over the budget spent."""
    return chart(
        [_trace(own) for own in series],
        xaxis={"title": {"text": "budget spent, full-length trainings"}},
        yaxis={"title": {"text": "hypervolume, share of the box"}},
        hovermode="closest",
        legend=LEGEND,
        margin=UNDER,
    )


def cost_switches(series: Sequence[Series], across: Objective) -> list[Switch]:
    """Let a cost be read on either axis, first as it is drawn; nothing else has need of it."""
    if across.column not in CHEAPER:
        return []
    options = [
        Option(
            label=word,
            data={},
            layout={f"xaxis.{key}": value for key, value in SCALES[word].items()},
        )
        for word in SCALES
    ]
    if not logarithmic(series, across):
        options.reverse()
    return [Switch(label="Scale", options=options)]


def _trace(own: Series) -> dict[str, Any]:
    colour = own.colour or GREY
    found: dict[str, Any] = {
        "type": "scatter",
        "name": text(own.name),
        "x": numbers(own.xs),
        "y": numbers(own.ys),
        "showlegend": own.listed,
        "mode": "lines",
        "line": {"color": colour, "width": own.line, "dash": own.dash},
        "hoverinfo": "skip",
    }
    if own.fill:
        found |= {"fill": "toself", "opacity": 0.25, "fillcolor": colour}
        found["line"] = {"color": colour, "width": 0}
        return found
    if own.steps:
        found["line"]["shape"] = "hv"
    if own.marker:
        found["mode"] = "lines+markers" if own.line else "markers"
        found["marker"] = {"symbol": own.marker, "size": 9, "color": colour}
    if own.ring:
        found["marker"] |= {"symbol": f"{own.marker}-open", "size": 22, "line": {"width": 2}}
    if own.texts:
        found["text"] = [text(label) for label in own.texts]
        found["hoverinfo"] = "text"
    if not own.colour:
        found["opacity"] = 0.4
    return found
