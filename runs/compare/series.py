"""What the pictures of a comparison show, as plain numbers: charts and files draw the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evaluators.fronts import Floats, nondominated
from runs.compare.measures import Comparison, Repeated, band
from runs.page.charts import COLOURS, MARKERS
from runs.ranking import CHEAPER, Objective
from runs.wording import plural, quantity

SHADES = (-0.1, 0.4)
"""How far the darkest and the lightest run of a group go towards black and white."""
LOG_FROM = 5.0
"""Ratio of the greatest to the least cost from which its axis is logarithmic at first."""
ROOM = 0.06
"""Of the range of the fronts, left free beside them."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Series:
    """One line or set of points."""

    name: str
    colour: str
    xs: Floats
    ys: Floats
    marker: str = ""
    """Of plotly; empty for a line alone."""
    texts: tuple[str, ...] = ()
    """Of each point, when one looks closer."""
    steps: bool = False
    """Whether the line goes across first, then up or down."""
    line: float = 1.5
    """Width of the line in points; 0 for none."""
    dash: str = "solid"
    """Of plotly."""
    fill: bool = False
    """Whether it is the border of an area, which has no line."""
    listed: bool = True
    """Whether the legend names it."""
    ring: bool = False
    """Whether its marker is drawn large and open, around that of another."""


def run_series(comparison: Comparison) -> list[Series]:
    """Give the front of each run, and before them the joint front; of two objectives or more.

    The first objective goes up, the second to the right.
    """
    up, across = comparison.objectives[:2]
    found = []
    if len(comparison.objectives) == 2:
        joint = np.column_stack(
            [objective.loss(comparison.front[objective.column]) for objective in (across, up)]
        )
        corners = staircase(joint.astype(np.float64), _worst(comparison)[[1, 0]])
        xs, ys = _values(corners, across, up)
        found.append(Series(name="joint front", colour="", xs=xs, ys=ys, line=5))
    looks = styles(comparison)
    for place, own in enumerate(comparison.runs):
        colour, marker = looks[place]
        best = nondominated(own.losses)
        frame = own.frame[best].sort_values([across.column, up.column])
        if across.direction == "max":
            frame = frame.iloc[::-1]
        texts = tuple(f"{own.run.name}, {_told(row, up, across)}" for _, row in frame.iterrows())
        found.append(
            Series(
                name=own.run.name,
                colour=colour,
                marker=marker,
                xs=frame[across.column].to_numpy(dtype=np.float64),
                ys=frame[up.column].to_numpy(dtype=np.float64),
                texts=texts,
                steps=True,
                line=1.2 if len(comparison.objectives) == 2 else 0,
            )
        )
    return [*found, *_recommended(comparison)]


def _told(row: pd.Series[Any], up: Objective, across: Objective) -> str:
    return (
        f"{row['id']}: {quantity(row[up.column], up)}, "
        f"{quantity(row[across.column], across)}, kernels {row['kernels']}"
    )


def _recommended(comparison: Comparison) -> list[Series]:
    """Mark the network that each run's own report recommends, where it stands here."""
    up, across = comparison.objectives[:2]
    found: list[Series] = []
    for (colour, _), own in zip(styles(comparison), comparison.runs, strict=True):
        chosen = own.frame[own.frame["id"] == own.recommended]
        if chosen.empty:
            continue
        found.append(
            Series(
                name="recommended by the report of its run",
                colour=colour,
                marker="star",
                xs=chosen[across.column].to_numpy(dtype=np.float64),
                ys=chosen[up.column].to_numpy(dtype=np.float64),
                texts=tuple(
                    f"{own.run.name} recommends {_told(row, up, across)}"
                    for _, row in chosen.iterrows()
                ),
                line=0,
                listed=not found,
                ring=True,
            )
        )
    return found


def surface_series(comparison: Comparison) -> list[Series]:
    """Give the surfaces of the groups that repeat: 25 to 75 % of the runs as an area, 50 % a line.

    Only where two objectives are compared; else there is nothing to draw.
    """
    if len(comparison.objectives) != 2:
        return []
    up, across = comparison.objectives
    wall = _worst(comparison)[[1, 0]]
    found = []
    for number, own in enumerate(comparison.groups):
        if not own.surfaces:
            continue
        colour, dash = group_style(number)
        lines = {
            percent: _values(staircase(points[:, [1, 0]], wall), across, up)
            for percent, points in own.surfaces.items()
        }
        best, half, most = lines[25], lines[50], lines[75]
        area = [np.concatenate([one, other[::-1]]) for one, other in zip(best, most, strict=True)]
        name = group_name(own)
        found += [
            Series(
                name=f"{name}: 25 to 75 %",
                colour=colour,
                xs=area[0],
                ys=area[1],
                fill=True,
                listed=False,
            ),
            Series(
                name=name,
                colour=colour,
                xs=half[0],
                ys=half[1],
                line=2.2,
                dash=dash,
            ),
        ]
    return found


def progress_series(comparison: Comparison) -> list[Series]:
    """Give the hypervolume over the budget spent: every run, and for repeats median and range."""
    found: list[Series] = []
    for number, own in enumerate(comparison.groups):
        colour, dash = group_style(number)
        curves = [comparison.runs[place].progress for place in own.group.members]
        names = [comparison.runs[place].run.name for place in own.group.members]
        repeated = len(curves) > 1
        if repeated:
            xs, least, median, most = band(curves).T
            area = [_stepped(xs, edge) for edge in (least, most)]
            found.append(
                Series(
                    name=f"{group_name(own)}: range",
                    colour=colour,
                    xs=np.concatenate([area[0][0], area[1][0][::-1]]),
                    ys=np.concatenate([area[0][1], area[1][1][::-1]]),
                    fill=True,
                    listed=False,
                )
            )
        for curve, name in zip(curves, names, strict=True):
            steps, values = np.array(curve).T
            found.append(
                Series(
                    name=name,
                    colour=colour,
                    xs=steps,
                    ys=values,
                    texts=tuple(f"{name}: {value:.4f} after {x:g}" for x, value in curve),
                    steps=True,
                    line=0.7 if repeated else 2.2,
                    dash="solid" if repeated else dash,
                    listed=not repeated,
                )
            )
            # The last step has no length: its point shows where the run ended.
            found.append(
                Series(
                    name=f"{name}: end",
                    colour=colour,
                    marker=MARKERS[number % len(MARKERS)],
                    xs=steps[-1:],
                    ys=values[-1:],
                    texts=(f"{name}: {values[-1]:.4f} at its end",),
                    line=0,
                    listed=False,
                )
            )
        if repeated:
            found.append(
                Series(
                    name=group_name(own),
                    colour=colour,
                    xs=xs,
                    ys=median,
                    texts=tuple(
                        f"group {own.group.letter}, median: {value:.4f} after {x:g}"
                        for x, value in zip(xs, median, strict=True)
                    ),
                    steps=True,
                    line=2.6,
                    dash=dash,
                )
            )
    return found


def logarithmic(series: Sequence[Series], across: Objective) -> bool:
    """Say whether the costs that are drawn lie so far apart that their axis is logarithmic."""
    xs = np.concatenate([own.xs for own in series])
    return across.column in CHEAPER and xs.min() > 0 and xs.max() > LOG_FROM * xs.min()


def group_name(own: Repeated) -> str:
    """Name a group in a legend."""
    return f"{own.group.letter}: {own.group.label} ({plural(len(own.group.members), 'run')})"


def styles(comparison: Comparison) -> list[tuple[str, str]]:
    """Give each run its colour and marker: the runs of a group have shades of one colour."""
    found = [("", "")] * len(comparison.runs)
    for number, own in enumerate(comparison.groups):
        members = own.group.members
        shades = np.linspace(*SHADES, len(members)) if len(members) > 1 else [0.0]
        for place, (member, shade) in enumerate(zip(members, shades, strict=True)):
            marker = MARKERS[(number + number // len(MARKERS) + place) % len(MARKERS)]
            found[member] = (_shaded(group_style(number)[0], float(shade)), marker)
    return found


def group_style(number: int) -> tuple[str, str]:
    """Give a group its colour, and a dash where the colours come round again."""
    dashes = ("solid", "dash", "dot", "dashdot")
    return COLOURS[number % len(COLOURS)], dashes[number // len(COLOURS) % len(dashes)]


def staircase(points: Floats, wall: Floats) -> Floats:
    """Give the border of what points (N, 2) dominate, as corners (C, 2), out to the wall (2,)."""
    found: list[tuple[float, float]] = []
    height = float(wall[1])
    for x, y in points[np.lexsort(points.T[::-1])]:
        if y < height:
            found += [(x, height), (x, y)]
            height = float(y)
    return np.array([*found, (float(wall[0]), height)])


def _stepped(xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Give the corners of a curve that goes across first."""
    return np.repeat(xs, 2)[1:], np.repeat(ys, 2)[:-1]


def _worst(comparison: Comparison) -> Floats:
    """Give the losses at the edge of the pictures."""
    scale = comparison.scale
    found: Floats = scale.low + (1 + ROOM) * scale.span
    return found


def _values(losses: Floats, across: Objective, up: Objective) -> tuple[Floats, Floats]:
    """Take losses (N, 2), across first, to the units of the columns."""
    return (
        np.array([across.value(value) for value in losses[:, 0]]),
        np.array([up.value(value) for value in losses[:, 1]]),
    )


def _shaded(colour: str, towards: float) -> str:
    """Move a colour towards white (above 0) or black."""
    end = 255 if towards > 0 else 0
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(part + abs(towards) * (end - part)):02x}" for part in parts)
