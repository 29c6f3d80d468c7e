"""The front as a chart that can be explored: traces, switches and what the pointer is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from runs.front_view import SHADES, UNTRAINED, Marks, View, marks_of
from runs.page.charts import GREEN, GREY, LEGEND, PURPLE, SCALES, UNDER, axis, chart, numbers, text
from runs.page.document import Option, Switch
from runs.page.findings import Findings
from runs.page.front_words import alt, beyond, reading
from runs.page.hover import hovers
from runs.ranking import Objective
from runs.wording import quantity

FAINT = {"symbol": "circle", "color": GREY, "opacity": 0.5, "size": 6}
MARKED = {
    "published": ("stands for a published network", "diamond-open", PURPLE, 15),
    "corners": ("corner of the space", "square-open", PURPLE, 13),
    "reference": ("reference network", "x-thin-open", PURPLE, 11),
    "recommended": ("recommended", "star-open", GREEN, 22),
}
"""Legend, symbol, colour and size of each kind of mark; it is drawn around the network's own."""
SHORT = {"accuracy": "accuracy", "miou": "mIoU", "val_loss": "loss"}
CHANGING = (
    *("name", "x", "y", "customdata", "hovertext", "text", "marker.color"),
    *(f"error_{axis}.{side}" for axis in ("x", "y") for side in ("array", "arrayminus")),
)
"""What other axes change in a trace."""


def front_chart(findings: Findings, seen: Sequence[View]) -> tuple[dict[str, Any], list[Switch]]:
    """Give the chart of the first view, and the switches to the others and between scales."""
    first, told, marks = seen[0], hovers(findings), marks_of(findings.facts)
    drawn = [traces(view, marks, told) for view in seen]
    layout: dict[str, Any] = {
        "xaxis": _across(first, log=_log(seen)),
        "yaxis": _up(first),
        "hovermode": "closest",
        "legend": LEGEND,
        "margin": {"l": 60, "r": 16, "t": 40, **UNDER},
    }
    if len(first.colours) > 1:
        layout["coloraxis"] = _colours(list(first.colours))
    return chart(drawn[0], height=560, **layout), _switches(seen, drawn, len(findings.objectives))


def _switches(
    seen: Sequence[View], drawn: Sequence[list[dict[str, Any]]], objectives: int
) -> list[Switch]:
    """Give the choice of what lies across, and of its scale."""
    found = []
    if len(seen) > 1:
        options = [_option(*pair, seen[0], objectives) for pair in zip(seen, drawn, strict=True)]
        found.append(Switch(label="Axes", options=options))
    if all(view.positive for view in seen):
        options = [
            Option(
                label=word,
                data={},
                layout={f"xaxis.{key}": value for key, value in SCALES[word].items()},
            )
            for word in SCALES
        ]
        found.append(Switch(label="Scale", options=options[:: 1 if _log(seen) else -1]))
    return found


def _log(seen: Sequence[View]) -> bool:
    return all(view.positive for view in seen) and seen[0].logarithmic


def traces(view: View, marks: Marks, told: Mapping[int, str]) -> list[dict[str, Any]]:
    """Give the traces of a view, always as many and in the same order.

    Args:
        view: what stands where.
        marks: networks that a reader looks for.
        told: what the pointer is told of each trial.
    """
    groups = {worth: view.points[view.points["worth"] == worth] for worth in view.names}
    steps = view.steps()
    joined = {
        "type": "scatter",
        "mode": "lines",
        "name": "reached by the front",
        "legendrank": 9,
        "x": numbers(steps[:, 0]),
        "y": numbers(steps[:, 1]),
        "line": {"color": GREY, "width": 1.5},
        "hoverinfo": "skip",
    }
    return [
        _points(view, groups["faint"], "faint", told) | {"marker": FAINT},
        joined,
        *(
            _points(view, groups[worth], worth, told)
            | _bars(groups[worth])
            | {"marker": _marker(view, groups[worth], symbol)}
            for worth, symbol in (("possible", "circle-open"), ("likely", "circle"))
        ),
        *(_mark(view, marks, kind, told) for kind in MARKED),
        _untrained(view, marks),
        # Nothing but the scale of the colours.
        {
            "type": "scatter",
            "mode": "markers",
            "x": [None],
            "y": [None],
            "showlegend": False,
            "hoverinfo": "skip",
            "marker": {"color": [0], "coloraxis": "coloraxis"} if len(view.colours) > 1 else {},
        },
    ]


def _points(
    view: View, points: pd.DataFrame, worth: str, told: Mapping[int, str]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": view.names[worth],
        "legendrank": list(view.names).index(worth),
        "x": numbers(points["x"]),
        "y": numbers(points["y"]),
        "customdata": [[network] for network in points["id"]],
        "hovertext": [
            _hover(view, chance, told[trial])
            for trial, chance in zip(points["trial"], points["chance"], strict=True)
        ],
        "hoverinfo": "text",
        # The number of the front's table.
        "text": ["" if pd.isna(number) else str(number) for number in points["number"]],
        "textposition": "top left",
        "textfont": {"size": 11},
    }


def _hover(view: View, chance: float, told: str) -> str:
    if view.searched or pd.isna(chance):
        return told
    return f"{told}<br>on the front of these axes {chance:.0%}"


def _bars(points: pd.DataFrame) -> dict[str, Any]:
    """Give the intervals as plotly wants them: lengths to both sides."""
    found = {}
    for name in ("x", "y"):
        found[f"error_{name}"] = {
            "type": "data",
            "symmetric": False,
            "array": numbers((points[f"{name}_high"] - points[name]).clip(lower=0)),
            "arrayminus": numbers((points[name] - points[f"{name}_low"]).clip(lower=0)),
            "thickness": 1,
            "width": 0,
            "color": GREY,
        }
    return found


def _marker(view: View, points: pd.DataFrame, symbol: str) -> dict[str, Any]:
    colours = [view.colours[kernel] for kernel in points["kernel"]]
    width = 2 if symbol.endswith("open") else 0
    return {"symbol": symbol, "size": 11, "color": colours, "line": {"width": width}}


def _mark(view: View, marks: Marks, kind: str, told: Mapping[int, str]) -> dict[str, Any]:
    name, symbol, colour, size = MARKED[kind]
    found = _points(view, marks.of(view.points, kind), "faint", told)
    return found | {
        "mode": "markers",
        "name": name,
        "legendrank": 10,
        "marker": {"symbol": symbol, "color": colour, "size": size, "line": {"width": 2}},
    }


def _untrained(view: View, marks: Marks) -> dict[str, Any]:
    """Give the reference network as a line across where it has a cost but no score."""
    cost, ends = marks.cost_of_reference(view), view.limits()
    shown = cost is not None and ends is not None
    told = ""
    if cost is not None and view.across is not None and marks.reference is not None:
        told = f"{UNTRAINED}: {marks.reference.get('id')}, {quantity(cost, view.across)}"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": UNTRAINED,
        "x": numbers([cost, cost]) if shown else [],
        "y": numbers(ends) if shown and ends else [],
        "line": {"color": PURPLE, "width": 1.5, "dash": "dash"},
        "hovertext": [text(told)] * 2 if shown else [],
        "hoverinfo": "text",
    }


def _option(view: View, drawn: Sequence[dict[str, Any]], first: View, objectives: int) -> Option:
    across, up = _across(view, log=False), _up(view)
    layout = {
        "xaxis.title.text": across["title"]["text"],
        "xaxis.tickformat": across.get("tickformat", ""),
        "xaxis.autorange": True,
        "yaxis.title.text": up["title"]["text"],
        "yaxis.tickformat": up.get("tickformat", ""),
    }
    if "range" in up:
        layout["yaxis.range"] = up["range"]
    label = "trial" if view.across is None else _short(view.across)
    return Option(
        label=label if view.up == first.up else f"{_short(view.up)} over {label}",
        data={key: [_at(trace, key) for trace in drawn] for key in CHANGING},
        layout=layout,
        reading=reading(view, objectives),
        alt=alt(view),
        note=beyond(view),
    )


def _short(objective: Objective) -> str:
    """Name an objective on a switch."""
    return SHORT.get(objective.name) or objective.label.split(" of ")[0]


def _at(trace: Mapping[str, Any], path: str) -> Any:
    found: Any = trace
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _across(view: View, *, log: bool) -> dict[str, Any]:
    if view.across is None:
        return {"title": {"text": "trial"}}
    return axis(view.across, log=log)


def _up(view: View) -> dict[str, Any]:
    found = axis(view.up)
    if view.estimated:
        found["title"]["text"] += ", estimated"
    if ends := view.limits():
        found["range"] = numbers(ends)
    return found


def _colours(kernels: Sequence[int]) -> dict[str, Any]:
    last = len(kernels) - 1
    return {
        "colorscale": [[place / 2, colour] for place, colour in enumerate(SHADES)],
        "cmin": 0,
        "cmax": last,
        "colorbar": {
            "orientation": "h",
            "thickness": 10,
            "len": 0.7,
            "y": 1.02,
            "yanchor": "bottom",
            "title": {"text": "largest kernel, pixels", "side": "top"},
            "tickvals": list(range(last + 1)),
            "ticktext": [str(kernel) if kernel else "?" for kernel in kernels],
        },
    }
