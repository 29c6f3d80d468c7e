"""What the charts of a page share: colours, axes, and plain JSON without NaN.

A chart is a dict in the schema of plotly. It says nothing of ground, ink and grid: the page's
script sets these by the reader's light or dark setting.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from runs.ranking import CHEAPER, Objective
from runs.wording import SCORES

# Okabe and Ito, "Color Universal Design" (2008): told apart without red or green, on both grounds.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
SKY, VERMILION, GREY = "#56b4e9", "#d55e00", "#8a929b"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
"""Where colour alone would tell things apart, a shape does too."""
SCALE = "Cividis"
"""Of plotly: even in lightness, and the same to most colour-blind readers."""
HEIGHT = 460
"""Of a chart in pixels."""
SCALES: dict[str, dict[str, Any]] = {
    "logarithmic": {"type": "log", "tickmode": "linear", "dtick": "D2", "autorange": True},
    "linear": {"type": "linear", "tickmode": "auto", "dtick": None, "autorange": True},
}
"""How a scale is written: a logarithmic one at 1, 2 and 5 of each power of ten."""
LEGEND: dict[str, Any] = {
    "orientation": "h",
    "yref": "container",
    "y": 0,
    "yanchor": "bottom",
    "entrywidth": 0,
    "font": {"size": 11},
    "itemsizing": "constant",
}
"""Below a chart, at the edge of its room: `UNDER` is what it takes."""
UNDER = {"b": 110}
"""Margin in pixels."""


def text(value: Any) -> str:
    """Escape what comes from a run: plotly reads some HTML in its texts, and formulas in $...$."""
    return escape(str(value), quote=False).replace("$", "&#36;")


def plain(value: Any) -> Any:
    """Give JSON of numbers, texts, lists and dicts: no NaN, no numpy, no NA."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | pd.Series | pd.Index):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else None
    return str(value)


def numbers(values: Iterable[Any], digits: int = 6) -> list[float | None]:
    """Give numbers with so many significant digits; None where there is none."""
    found = pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce")
    return [
        float(f"{value:.{digits}g}") if math.isfinite(value) else None
        for value in found.astype(float)
    ]


def axis(objective: Objective, *, log: bool = False) -> dict[str, Any]:
    """Give the axis of an objective: label with unit, share as per cent."""
    unit = objective.unit if objective.unit and objective.unit not in objective.label else ""
    found: dict[str, Any] = {"title": {"text": f"{objective.label}{unit and f', {unit}'}"}}
    if objective.column in SCORES:
        # No more digits than neighbouring ticks need to differ.
        found["tickformat"] = ".2~%"
    elif objective.column in CHEAPER:
        # With a format, logarithmic axes write every number in full.
        found["tickformat"] = "~g" if objective.column == "latency_ms" else "~s"
    return found | (SCALES["logarithmic"] if log else {})


def chart(data: Sequence[dict[str, Any]], *, height: int = HEIGHT, **layout: Any) -> dict[str, Any]:
    """Join traces and layout to a chart of plain JSON."""
    return {"data": plain(list(data)), "layout": plain({"height": height, **layout})}
