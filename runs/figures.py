"""Pictures of a run: its trials and its front, for a file, a light page and a dark page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox

from runs.front_view import UNTRAINED, Marks, View
from runs.ranking import Objective
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


def front_figure(
    view: View, marks: Marks, *, title: str = "", theme: Theme = LIGHT, narrow: bool = False
) -> Figure:
    """Draw the networks of a view, its front as a line in steps, coloured by largest kernel.

    Filled markers are on the front with a probability of one half or more, hollow ones from a
    tenth; where no probabilities are known, the front is filled. Networks of the front's table
    carry their number in it, and their kernels by stage where there is room.

    Args:
        view: what stands where, as `front_view.views` gives it.
        marks: networks that a reader looks for.
        title: line above the picture; empty for none.
        theme: colours.
        narrow: for a page on a phone.
    """
    figure = Figure(
        figsize=NARROW if narrow else WIDE, layout="constrained", facecolor=theme.ground
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.ground)
    axes.plot(*view.steps().T, color=theme.ink, linewidth=1, alpha=0.6, zorder=3)
    _error_bars(axes, view.points[view.points["worth"] != "faint"], theme=theme)
    _networks(axes, view, theme=theme)
    if not view.empty:
        _marks(axes, view, marks, theme=theme)
    _limits(axes, view)
    _labels(axes, view, title=title, theme=theme)
    if view.empty:
        unknown = view.up if view.points["y"].isna().all() else view.across
        said = "no finished trial"
        if len(view.points) and unknown is not None:
            said += f" has a {unknown.name}"
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", color=theme.ink)
    _legend(figure, axes, narrow=narrow, theme=theme)
    figure.draw_without_rendering()
    # The layout stands: later text must not move the axes from under its own place.
    figure.set_layout_engine("none")
    _number(axes, canvas, view, theme=theme)
    return figure


def _error_bars(axes: Axes, points: pd.DataFrame, *, theme: Theme) -> None:
    sides = {
        # A bar of length 0 where the interval is not known.
        name: np.nan_to_num(
            [points[name] - points[f"{name}_low"], points[f"{name}_high"] - points[name]]
        ).clip(min=0)
        for name in ("x", "y")
    }
    axes.errorbar(
        points["x"],
        points["y"],
        xerr=sides["x"],
        yerr=sides["y"],
        fmt="none",
        ecolor=theme.ink,
        elinewidth=0.8,
        alpha=0.7,
        zorder=3,
    )


def _networks(axes: Axes, view: View, *, theme: Theme) -> None:
    """Draw what may be on the front: filled or hollow by chance, coloured by largest kernel."""
    shades, names = view.colours, view.names
    for worth in ("likely", "possible"):
        chosen = view.points[view.points["worth"] == worth]
        if chosen.empty:
            continue
        colours = [shades[kernel] for kernel in chosen["kernel"]]
        axes.scatter(
            chosen["x"],
            chosen["y"],
            s=46,
            facecolors="none" if worth == "possible" else colours,
            edgecolors=colours,
            linewidths=1.5,
            zorder=4,
            label=names[worth],
        )
    faint = view.points[view.points["worth"] == "faint"]
    axes.scatter(
        faint["x"],
        faint["y"],
        s=16,
        color=theme.trial,
        linewidths=0,
        zorder=2,
        label=names["faint"],
    )
    coloured = set(view.points.loc[view.points["worth"] != "faint", "kernel"])
    for kernel, colour in shades.items():
        if kernel in coloured - {0}:
            axes.scatter([], [], s=46, marker="s", color=colour, label=f"largest kernel {kernel}")


_MARKED = {
    "published": ("stands for a published network", "D", 110),
    "corners": ("corner of the space", "s", 90),
    "reference": ("reference network", "x", 50),
    "recommended": ("recommended", "*", 330),
}
"""Legend, marker and size of each kind of mark, which is drawn around the network's own."""


def _marks(axes: Axes, view: View, marks: Marks, *, theme: Theme) -> None:
    for kind, (name, marker, size) in _MARKED.items():
        found = marks.of(view.points, kind)
        if len(found):
            axes.scatter(
                found["x"],
                found["y"],
                s=size,
                marker=marker,
                # A cross has no inside, and takes its one colour from the face.
                facecolors=theme.ink if marker == "x" else "none",
                edgecolors=None if marker == "x" else theme.ink,
                linewidths=1,
                zorder=5,
                label=name,
            )
    cost = marks.cost_of_reference(view)
    if cost is not None:
        axes.axvline(cost, color=theme.ink, linewidth=1, linestyle="--", zorder=2, label=UNTRAINED)


def _limits(axes: Axes, view: View) -> None:
    if view.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    if view.across is not None and view.across.column in SCORES:
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    if view.up.column in SCORES:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    if ends := view.limits():
        axes.set_ylim(*ends)
    if outside := view.outside():
        # A line of the legend, which finds a place of its own.
        where = "below" if view.up.direction == "max" else "above"
        axes.plot([], [], " ", label=f"{outside} more trial{'s' * (outside > 1)} {where}")


def _labels(axes: Axes, view: View, *, title: str, theme: Theme) -> None:
    axes.set_xlabel(with_unit(view.across) if view.across else "trial", color=theme.ink)
    up = with_unit(view.up) + (", estimated" if view.estimated else "")
    axes.set_ylabel(up, color=theme.ink)
    if title:
        axes.set_title(title, color=theme.ink, fontsize=11, loc="left", parse_math=False)
    axes.grid(color=theme.faint, linewidth=0.8, zorder=0)
    axes.tick_params(colors=theme.ink, which="both", labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_visible(name in {"left", "bottom"})
        spine.set_color(theme.ink)


def _legend(figure: Figure, axes: Axes, *, narrow: bool, theme: Theme) -> None:
    """Write what markers and colours mean below the picture, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=2 if narrow else 3,
            fontsize=6.5 if narrow else 8,
            labelcolor=theme.ink,
            facecolor=theme.ground,
            edgecolor=theme.faint,
        )


def _number(axes: Axes, canvas: FigureCanvasAgg, view: View, *, theme: Theme) -> None:
    """Write number and kernels beside each network of the table, at the place that hides least.

    Args:
        axes: where the front is drawn.
        canvas: its canvas; the layout must stand.
        view: what stands where.
        theme: colours.
    """
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    numbered = view.points[view.points["number"].notna()].sort_values("number")
    marked = view.points[(view.points["worth"] != "faint") | view.points["number"].notna()]
    point_px = canvas.figure.dpi / 72
    # Texts keep off each other, and off the marked points and their intervals.
    taken = [
        Bbox([centre - 4 * point_px, centre + 4 * point_px])
        for centre in axes.transData.transform(_places(marked))
    ]
    for bars in axes.containers:
        for path in (path for side in bars[2] for path in side.get_paths()):
            ends = axes.transData.transform(path.vertices)
            taken.append(Bbox([ends.min(axis=0) - point_px, ends.max(axis=0) + point_px]))
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    # They may lie over grey points and the line, but the place with the fewest wins.
    crossed = [axes.transData.transform(_places(view.points))]
    corners = axes.transData.transform(view.steps())
    # Ten places on each stretch of the line stand for it.
    share = np.linspace(0, 1, 10)[:, None, None]
    crossed.append((corners[:-1] + share * np.diff(corners, axis=0)).reshape(-1, 2))
    inside = axes.get_window_extent(renderer)
    for (x, y), number, kernels in zip(
        _places(numbered), numbered["number"], numbered["kernels"], strict=True
    ):
        texts = [str(number)]
        if len(numbered) <= _MOST_TEXTS and not pd.isna(kernels):
            texts.insert(0, f"{number}: {kernels}")
        for text in texts:
            point = np.array([x, y])
            if _place(axes, point, text, taken, np.concatenate(crossed), inside, renderer, theme):
                break


def _places(points: pd.DataFrame) -> Floats:
    return points[["x", "y"]].to_numpy(dtype=float)


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


def with_unit(objective: Objective) -> str:
    """Give the label of an axis, with the unit where the label does not hold it."""
    known = not objective.unit or objective.unit in objective.label
    return objective.label if known else f"{objective.label} ({objective.unit})"


def short_number(value: float, _position: int | None = None) -> str:
    """Write 1500000 as 1.5M and 0.25 as 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
