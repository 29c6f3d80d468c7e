"""The pictures of a comparison to explore, in plotly's schema; see `series` for what they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runs.compare.series import Series, logarithmic
from runs.page.charts import GREY, axis, chart, numbers, text
from runs.page.document import Option, Switch
from runs.ranking import CHEAPER, Objective

LEGEND = {"orientation": "h", "yanchor": "top", "y": -0.2}


def objectives_chart(series: Sequence[Series], up: Objective, across: Objective) -> dict[str, Any]:
    """Draw lines over two objectives."""
    return chart(
        [_trace(own) for own in series],
        xaxis=axis(across, log=logarithmic(series, across)),
        yaxis=axis(up),
        hovermode="closest",
        legend=LEGEND,
    )


def progress_chart(series: Sequence[Series]) -> dict[str, Any]:
    """Draw the hypervolume over the budget spent."""
    return chart(
        [_trace(own) for own in series],
        xaxis={"title": {"text": "budget spent, full-length trainings"}},
        yaxis={"title": {"text": "hypervolume, share of the box"}},
        hovermode="closest",
        legend=LEGEND,
    )


def cost_switches(series: Sequence[Series], across: Objective) -> list[Switch]:
    """Let a cost be read on either axis, first as it is drawn; nothing else has need of it."""
    if across.column not in CHEAPER:
        return []
    kinds = [("linear", "linear"), ("logarithmic", "log")]
    if logarithmic(series, across):
        kinds.reverse()
    options = [Option(label=kind, data={}, layout={"xaxis.type": word}) for kind, word in kinds]
    return [Switch(label="Cost axis", options=options)]


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
    if own.texts:
        found["text"] = [text(label) for label in own.texts]
        found["hoverinfo"] = "text"
    if not own.colour:
        found["opacity"] = 0.4
    return found
