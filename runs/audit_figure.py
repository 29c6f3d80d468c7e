"""The picture of an audit: scores at both lengths, and where each network's rank went."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from runs.figures import LIGHT

SIZE = (9.6, 5.0)
"""Inches."""
PLACES = np.array([[10, 5], [-10, 5], [10, -6], [-10, -6], [0, 10], [0, -10], [17, 0], [-17, 0]])
"""Of a number from its point, in points of 1/72 inch, the best first."""
NEAR = 11
"""Distance in pixels at which two things cover each other."""
MAP = colormaps["viridis"]
Colour = tuple[float, float, float, float]
NAMES = {"accuracy": "validation accuracy", "miou": "validation mIoU"}


def audit_figure(frame: pd.DataFrame, *, metric: str, factor: float, title: str) -> Figure:
    """Draw short scores against long ones, and a line from each short rank to its long one.

    Args:
        frame: `short` and `long` as shares, `rank_short` and `rank_long`, a network a row.
        metric: accuracy or miou.
        factor: of the length.
        title: above both.
    """
    figure = Figure(figsize=SIZE, layout="constrained", facecolor=LIGHT.ground)
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=LIGHT.ink, fontsize=11, x=0.01, ha="left")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    last = max(len(frame) - 1, 1)
    colours = [MAP(0.85 * (rank - 1) / last) for rank in frame["rank_long"]]
    _scores(left, frame, colours, metric=metric, factor=factor)
    _ranks(right, frame, colours, factor=factor)
    figure.draw_without_rendering()  # the layout is known from here on
    _numbers(left, frame, dpi=figure.dpi)
    for axes in (left, right):
        axes.set_facecolor(LIGHT.ground)
        axes.tick_params(colors=LIGHT.ink, labelsize=8, length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    return figure


def _scores(
    axes: Axes, frame: pd.DataFrame, colours: list[Colour], *, metric: str, factor: float
) -> None:
    axes.grid(color=LIGHT.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.scatter(frame["short"], frame["long"], c=colours, s=42, linewidths=0)
    axes.set_xlabel(f"{NAMES[metric]}, short training", color=LIGHT.ink, fontsize=9)
    axes.set_ylabel(f"after {factor:g} times the length", color=LIGHT.ink, fontsize=9)
    axes.set_title(
        "scores; the number is the rank in the run", fontsize=9, color=LIGHT.ink, loc="left"
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
    axes.margins(0.08)


def _numbers(axes: Axes, frame: pd.DataFrame, *, dpi: float) -> None:
    """Write each rank beside its point, where it covers the fewest points and numbers."""
    points = axes.transData.transform(frame[["short", "long"]].to_numpy(dtype=float))
    taken = points
    for point, rank in zip(points, frame["rank"], strict=True):
        places = point + PLACES * dpi / 72
        near = [np.sum(np.hypot(*(taken - place).T) < NEAR) for place in places]
        place = places[int(np.argmin(near))]
        taken = np.vstack([taken, place])
        axes.annotate(
            str(rank),
            tuple(axes.transData.inverted().transform(place)),
            ha="center",
            va="center",
            fontsize=7,
            color=LIGHT.ink,
        )


def _ranks(axes: Axes, frame: pd.DataFrame, colours: list[Colour], *, factor: float) -> None:
    for short, long, colour in zip(frame["rank_short"], frame["rank_long"], colours, strict=True):
        axes.plot((0, 1), (short, long), color=colour, linewidth=1.6, marker="o", markersize=4)
    axes.set_xlim(-0.08, 1.08)
    axes.set_xticks((0, 1), ("short", f"{factor:g} times"))
    ranks = range(1, len(frame) + 1, 1 if len(frame) <= 24 else 5)
    axes.set_yticks(list(ranks))
    axes.set_ylim(len(frame) + 0.6, 0.4)
    axes.set_title(
        "ranks among these networks; 1 is the best", fontsize=9, color=LIGHT.ink, loc="left"
    )
