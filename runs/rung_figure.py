"""The learning curves of a run with halving: score over the share of the length, rung by rung."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from runs.figures import LIGHT, Theme
from runs.front_view import largest_kernels
from runs.wording import length_text

WIDE = (8.0, 4.2)
"""Width and height in inches for a file and a desktop page."""
NARROW = (4.4, 4.2)
"""The same for a page on a phone."""


def rung_figure(
    frame: pd.DataFrame, *, theme: Theme = LIGHT, size: tuple[float, float] = WIDE
) -> Figure:
    """Draw a line a network, from rung to rung; those that reached the top in colour.

    Args:
        frame: as `ranking.rank` gives it, of a run with halving.
        theme: colours.
        size: width and height in inches.
    """
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.ground)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.ground)
    column = "miou" if frame["miou"].notna().any() else "accuracy"
    ended = frame[frame["rung"].notna() & frame[column].notna()].sort_values(["trial", "rung"])
    ended = ended[ended["state"].isin(["stopped", "complete"])]
    curves = [found.sort_values("rung") for _, found in ended.groupby("id", sort=False)]
    _stopped(axes, [c for c in curves if c["state"].iloc[-1] != "complete"], column, theme=theme)
    _whole(axes, [c for c in curves if c["state"].iloc[-1] == "complete"], column, theme=theme)
    _axes(axes, sorted(set(ended["length"])), column, theme=theme)
    figure.legend(
        loc="outside lower center",
        ncols=2 if size[0] < WIDE[0] else 5,
        fontsize=8,
        labelcolor=theme.ink,
        facecolor=theme.ground,
        edgecolor=theme.faint,
    )
    return figure


def _points(curve: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    return list(zip(curve["length"].astype(float), curve[column].astype(float), strict=True))


def _stopped(axes: Axes, curves: list[pd.DataFrame], column: str, *, theme: Theme) -> None:
    lines = [_points(curve, column) for curve in curves]
    axes.add_collection(
        LineCollection(lines, colors=theme.trial, linewidths=0.8, alpha=0.7, zorder=2)
    )
    dots = np.array([point for line in lines for point in line], dtype=float).reshape(-1, 2)
    xs, ys = dots.T
    axes.scatter(xs, ys, s=9, color=theme.trial, linewidths=0, zorder=2, label="stopped")


def _whole(axes: Axes, curves: list[pd.DataFrame], column: str, *, theme: Theme) -> None:
    """Draw the networks of full length, coloured by their largest kernel as on the front."""
    sides = [largest_kernels(curve)[0] for curve in curves]
    known = sorted(set(sides))
    shades = dict(zip(known, np.linspace(*theme.shades, max(len(known), 2)), strict=False))
    named = set[int]()
    for side, curve in sorted(zip(sides, curves, strict=True), key=lambda pair: pair[0]):
        label = f"largest kernel {side}" if side else "full length"
        axes.plot(
            *np.array(_points(curve, column)).T,
            color=colormaps["viridis"](shades[side]),
            linewidth=1.6,
            marker="o",
            markersize=4.5,
            markeredgecolor=theme.ground,
            markeredgewidth=0.7,
            zorder=3,
            label="" if side in named else label,
        )
        named.add(side)


def _axes(axes: Axes, lengths: list[float], column: str, *, theme: Theme) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(lengths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(lengths, [length_text(length) for length in lengths])
    if lengths:
        axes.set_xlim(lengths[0] / 1.15, lengths[-1] * 1.15)
    axes.autoscale(axis="y")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    word = "validation mIoU" if column == "miou" else "validation accuracy"
    axes.set_xlabel("share of the full length of a training", color=theme.ink)
    axes.set_ylabel(word, color=theme.ink)
    axes.grid(color=theme.faint, linewidth=0.8, zorder=0)
    axes.tick_params(colors=theme.ink, which="both", labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_visible(name in {"left", "bottom"})
        spine.set_color(theme.ink)
