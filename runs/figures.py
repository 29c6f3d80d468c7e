"""Pictures of a run: its trials and its front, for a file, a light page and a dark page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox

from runs.ranking import Objective
from runs.ranking import front as front_of
from runs.wording import SCORES

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Theme:
    """Colours of one picture."""

    ground: str
    ink: str
    """Text and axes."""
    faint: str
    """Grid lines."""
    trial: str
    """Trials behind the front."""
    shades: tuple[float, float]
    """Part of the viridis map that stands out from the ground, small to large kernel."""
    dark: bool = False
    """Whether the ground is dark."""


LIGHT = Theme(ground="#ffffff", ink="#1f2328", faint="#e4e7eb", trial="#a9b0b8", shades=(0.0, 0.78))
DARK = Theme(
    ground="#15181c",
    ink="#e6e8eb",
    faint="#2b3037",
    trial="#6b737d",
    shades=(0.4, 1.0),
    dark=True,
)

WIDE = (8.0, 5.0)
"""Width and height in inches for a file and a desktop page."""
NARROW = (4.4, 4.6)
"""The same for a page on a phone."""

_LOG_FROM = 5.0
"""Ratio of the largest to the smallest cost from which the axis is logarithmic."""


def front(
    frame: pd.DataFrame,
    objectives: Sequence[Objective],
    path: Path,
    *,
    title: str = "",
    theme: Theme = LIGHT,
) -> None:
    """Write the front as a PNG of 1600 by 1000 pixels; a half-written file never shows."""
    data = io.BytesIO()
    front_figure(frame, objectives, title=title, theme=theme).savefig(data, format="png", dpi=200)
    half = path.with_name(f".{path.name}.half")
    half.write_bytes(data.getvalue())
    half.replace(path)


def front_svg(
    frame: pd.DataFrame,
    objectives: Sequence[Objective],
    *,
    title: str = "",
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> str:
    """Give the picture of the front as an SVG text; the same frame gives the same text."""
    data = io.StringIO()
    with rc_context({"svg.hashsalt": "front", "svg.fonttype": "path"}):
        figure = front_figure(frame, objectives, title=title, theme=theme, size=size)
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return data.getvalue()


def front_figure(
    frame: pd.DataFrame,
    objectives: Sequence[Objective],
    *,
    title: str = "",
    theme: Theme = LIGHT,
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw complete trials in grey and the front as a line of points, coloured by largest kernel.

    The first objective goes up, the second to the right; with one objective alone the trials
    stand in their order. Front points carry their number along the front, as in the table
    of the front, and their kernels a stage where there is room.

    Args:
        frame: as `ranking.rank` gives it.
        objectives: the objectives that it was ranked by.
        title: line above the picture; empty for none.
        theme: colours.
        size: width and height in inches.
    """
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.ground)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.ground)
    complete = frame[(frame["state"] == "complete") & frame["rank"].notna()]
    best = front_of(frame, objectives)
    across, up = (objectives[1] if len(objectives) > 1 else None), objectives[0]
    xs, ys = _column(complete, across), _column(complete, up)
    front_xs, front_ys = _column(best, across), _column(best, up)

    axes.scatter(xs, ys, s=16, color=theme.trial, linewidths=0, zorder=2, label="trial")
    if across and len(objectives) == 2:
        # Between two points of the front nothing is known, so the line goes in steps.
        where: Literal["pre", "post"] = "post" if across.direction == "min" else "pre"
        axes.step(
            front_xs, front_ys, where=where, color=theme.ink, linewidth=1, alpha=0.6, zorder=3
        )
    if across and across.column == "latency_ms":
        _error_bars(axes, best, front_xs, front_ys, theme=theme)
    _front_points(axes, best, front_xs, front_ys, theme=theme)
    _limits(axes, xs, ys, front_ys, up=up, log=across is not None)
    _labels(axes, across, up, title=title, theme=theme)
    if up.column in SCORES and _estimated(frame):
        axes.set_ylabel(f"{up.label}, estimated", color=theme.ink)
    if not len(complete):
        axes.set(xticks=[], yticks=[])
        axes.text(
            0.5, 0.5, "no finished trial", transform=axes.transAxes, ha="center", color=theme.ink
        )
    figure.draw_without_rendering()
    # The layout stands: later text must not move the axes from under its own place.
    figure.set_layout_engine("none")
    points = np.column_stack([front_xs, front_ys])
    _number(axes, canvas, best, points, np.column_stack([xs, ys]), theme=theme)
    return figure


def largest_kernels(frame: pd.DataFrame) -> list[int]:
    """Give the largest kernel of each network in pixels, read from `kernels`; 0 if unknown."""
    texts = frame["kernels"].fillna("")
    return [
        max((int(side) for side in re.findall(r"\d+", re.sub(r"x\d+", "", text))), default=0)
        for text in texts
    ]


def _column(frame: pd.DataFrame, objective: Objective | None) -> Floats:
    column = objective.column if objective else "trial"
    values = frame[column].astype("float64")
    if column in SCORES and _estimated(frame):
        # The front is one of estimates, so the scores behind them would not lie on its line.
        values = frame["estimate"].astype("float64").fillna(values)
    return np.asarray(values.to_numpy(na_value=np.nan), dtype=float)


def _estimated(frame: pd.DataFrame) -> bool:
    return "estimate" in frame and bool(frame["estimate"].notna().any())


def _error_bars(axes: Axes, best: pd.DataFrame, xs: Floats, ys: Floats, *, theme: Theme) -> None:
    ends = [
        best[name].to_numpy(dtype=float, na_value=np.nan)
        for name in ("latency_low_ms", "latency_high_ms")
    ]
    # A bar of length 0 where the interval is not known.
    low, high = (
        np.nan_to_num(side * (end - xs)).clip(min=0)
        for side, end in zip((-1, 1), ends, strict=True)
    )
    axes.errorbar(
        xs, ys, xerr=np.stack([low, high]), fmt="none", ecolor=theme.ink, elinewidth=1.2, zorder=3
    )


def _front_points(axes: Axes, best: pd.DataFrame, xs: Floats, ys: Floats, *, theme: Theme) -> None:
    sides = largest_kernels(best)
    known = sorted(set(sides))
    shades = dict(zip(known, np.linspace(*theme.shades, max(len(known), 2)), strict=False))
    for side in known:
        chosen = np.array(sides) == side
        axes.scatter(
            xs[chosen],
            ys[chosen],
            s=52,
            color=[colormaps["viridis"](shades[side])],
            edgecolors=theme.ground,
            linewidths=1,
            zorder=4,
            label=f"front, largest kernel {side}" if side else "front",
        )


def _limits(
    axes: Axes, xs: Floats, ys: Floats, front_ys: Floats, *, up: Objective, log: bool
) -> None:
    if log and len(xs) and np.nanmin(xs) > 0 and np.nanmax(xs) > _LOG_FROM * np.nanmin(xs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    if up.column in SCORES:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    if not len(ys):
        return
    # A few bad trials must not press the front against the edge; they are counted instead.
    sign = 1 if up.direction == "max" else -1
    low = min(np.nanquantile(sign * ys, 0.05), np.nanmin(sign * np.append(front_ys, ys[:1])))
    high = np.nanmax(sign * ys)
    # At least a hundredth, so that one trial alone does not get an axis of rounding errors.
    pad = max(0.06 * (high - low), 0.005 * max(abs(high), 1e-9))
    below = int((sign * ys < low - pad).sum())
    ends = sorted((sign * (low - pad), sign * (high + 2 * pad)))
    axes.set_ylim(ends[0], ends[1])
    if below:
        # A line of the legend, which finds a place of its own.
        where = "below" if sign > 0 else "above"
        axes.plot([], [], " ", label=f"{below} more trial{'s' * (below > 1)} {where}")


def _labels(
    axes: Axes, across: Objective | None, up: Objective, *, title: str, theme: Theme
) -> None:
    axes.set_xlabel(_with_unit(across) if across else "trial", color=theme.ink)
    axes.set_ylabel(_with_unit(up), color=theme.ink)
    if title:
        axes.set_title(title, color=theme.ink, fontsize=11, loc="left", parse_math=False)
    axes.grid(color=theme.faint, linewidth=0.8, zorder=0)
    axes.tick_params(colors=theme.ink, which="both", labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_visible(name in {"left", "bottom"})
        spine.set_color(theme.ink)
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        axes.legend(
            handles,
            labels,
            loc="best",
            fontsize=8,
            labelcolor=theme.ink,
            facecolor=theme.ground,
            edgecolor=theme.faint,
        )


def _number(
    axes: Axes,
    canvas: FigureCanvasAgg,
    best: pd.DataFrame,
    points: Floats,
    cloud: Floats,
    *,
    theme: Theme,
) -> None:
    """Write number and kernels beside each front point, at the place that hides least.

    Args:
        axes: where the front is drawn.
        canvas: its canvas; the layout must stand.
        best: the front.
        points: (front, 2) its coordinates.
        cloud: (trials, 2) coordinates of the grey points.
        theme: colours.
    """
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    centres = axes.transData.transform(points)
    point_px = canvas.figure.dpi / 72
    # Texts keep off each other, the front's points and intervals, and the legend.
    taken = [Bbox([centre - 4 * point_px, centre + 4 * point_px]) for centre in centres]
    for bars in axes.containers:
        for path in bars[2][0].get_paths():
            ends = axes.transData.transform(path.vertices)
            taken.append(Bbox([ends.min(axis=0) - point_px, ends.max(axis=0) + point_px]))
    for artist in (axes.get_legend(), *axes.texts):
        if artist:
            taken.append(artist.get_window_extent(renderer))
    # They may lie over grey points and the line, but the place with the fewest wins.
    crossed = [axes.transData.transform(cloud)]
    for line in axes.lines:
        # Ten places on each stretch of the line stand for it.
        corners = axes.transData.transform(line.get_path().vertices)
        share = np.linspace(0, 1, 10)[:, None, None]
        crossed.append((corners[:-1] + share * np.diff(corners, axis=0)).reshape(-1, 2))
    inside = axes.get_window_extent(renderer)
    for number, (point, kernels) in enumerate(zip(points, best["kernels"], strict=True), start=1):
        texts = [str(number)]
        if len(points) <= _MOST_TEXTS and not pd.isna(kernels):
            texts.insert(0, f"{number}: {kernels}")
        for text in texts:
            if _place(axes, point, text, taken, np.concatenate(crossed), inside, renderer, theme):
                break


_MOST_TEXTS = 20
"""Points of a front up to which each carries its kernels; a longer one has numbers alone."""

# Places for a label around its point: offset in points, horizontal and vertical alignment.
_PLACES = [
    (-6.0, 6.0, "right", "bottom"),
    (-8.0, 0.0, "right", "center"),
    (0.0, 8.0, "center", "bottom"),
    (6.0, 6.0, "left", "bottom"),
    (6.0, -6.0, "left", "top"),
    (0.0, -8.0, "center", "top"),
    (-6.0, -6.0, "right", "top"),
]


def _place(
    axes: Axes,
    point: Floats,
    text: str,
    taken: list[Bbox],
    crossed: Floats,
    inside: Bbox,
    renderer: Any,
    theme: Theme,
) -> bool:
    """Write a text beside its point and note its box in `taken`; False where there is no room."""
    choices: list[tuple[int, int, Annotation, Bbox]] = []
    for dx, dy, ha, va in _PLACES:
        label = axes.annotate(
            text,
            (point[0], point[1]),
            xytext=(dx, dy),
            textcoords="offset points",
            ha=ha,
            va=va,
            fontsize=8,
            color=theme.ink,
            zorder=5,
            parse_math=False,
            bbox={"facecolor": theme.ground, "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        )
        box = label.get_window_extent(renderer)
        label.remove()
        held = inside.containsx(box.x0) and inside.containsx(box.x1)
        held = held and inside.containsy(box.y0) and inside.containsy(box.y1)
        if held and not any(box.overlaps(other) for other in taken):
            under = int(((crossed >= box.min) & (crossed <= box.max)).all(axis=1).sum())
            choices.append((under, len(choices), label, box))
    if not choices:
        return False
    _, _, label, box = min(choices, key=lambda choice: choice[:2])
    axes.add_artist(label)
    taken.append(box.padded(2))
    return True


def _with_unit(objective: Objective) -> str:
    known = not objective.unit or objective.unit in objective.label
    return objective.label if known else f"{objective.label} ({objective.unit})"


def _short(value: float, _position: int | None = None) -> str:
    """Write 1500000 as 1.5M and 0.25 as 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
