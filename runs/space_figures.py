"""Pictures of what a run says about its space: importance, parallel coordinates, sub-spaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from evaluators.edf import Comparison
from evaluators.importance import Importance
from runs.figures import NARROW, WIDE, Theme
from runs.page.charts import GREY, VERMILION
from runs.space_views import APART, BAND, ESTIMATORS, GROUPS, SHOWN, SIDES, Lines, span, steps

ROW = 0.34
"""Inches that one row takes."""


def importance_figure(found: Importance, *, theme: Theme, narrow: bool) -> Figure:
    """Draw both estimates of each axis with their spread, the most important at the top."""
    count = len(found.names)
    figure, axes = _figure(theme, narrow=narrow, height=1.4 + ROW * count)
    for sign, (field, name, colour, _, marker) in zip((-1, 1), ESTIMATORS, strict=True):
        shares = getattr(found, field)
        axes.errorbar(
            [share.value for share in shares],
            np.arange(count) + sign * APART,
            xerr=np.array([[s.value - s.low, s.high - s.value] for s in shares]).T,
            fmt=marker,
            color=colour,
            label=name,
            elinewidth=1.4,
        )
    axes.set(ylim=(count - 0.4, -0.6), xlim=(-0.02, None))
    axes.set_yticks(range(count), found.names, parse_math=False)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_xlabel("share of the importance, %", color=theme.ink)
    if not found.readable:
        axes.set_title("do not read", loc="right", color=VERMILION, fontweight="bold", fontsize=11)
    _legend(figure, axes, theme)
    return figure


def parallel_figure(drawn: Lines, *, theme: Theme, narrow: bool) -> Figure:
    """Draw networks as lines from row to row, the first row at the top, the best lines on top."""
    count = len(drawn.rows)
    figure, axes = _figure(theme, narrow=narrow, height=1.2 + 1.4 * ROW * count)
    axes.grid(visible=False)
    for place, row in enumerate(drawn.rows):
        axes.hlines(
            [place] * len(row.bars), *np.transpose(row.bars), color=GREY, linewidth=2.5, zorder=5
        )
    for group, (name, colour, opacity, width) in enumerate(GROUPS):
        places, _ = drawn.of(group)
        if len(places):
            rows = np.broadcast_to(np.arange(count), places.shape)
            paths = LineCollection(
                list(np.stack([places, rows], axis=2)),
                colors=colour,
                alpha=opacity,
                linewidths=0.8 * width,
                label=name,
                zorder=2 + group,
            )
            axes.add_collection(paths)
    for place, row in enumerate(drawn.rows):
        for number, (x, word) in enumerate(row.ticks):
            below = narrow and row.crowded and number % 2
            axes.annotate(
                word,
                (x, place),
                (0, -4 if below else 4),
                textcoords="offset points",
                ha="center",
                va="top" if below else "bottom",
                fontsize=7,
                color=theme.ink,
                zorder=6,
                parse_math=False,
                bbox={
                    "boxstyle": "square,pad=0.1",
                    "fc": theme.ground,
                    "ec": "none",
                    "alpha": 0.85,
                },
            )
    axes.set(xlim=(-0.04, 1.04), ylim=(count - 0.7, -0.6), xticks=[])
    axes.set_yticks(range(count), [row.name for row in drawn.rows], parse_math=False)
    axes.spines["bottom"].set_visible(False)
    _legend(figure, axes, theme)
    return figure


def subspace_figure(
    found: Comparison, names: Sequence[str], label: str, *, theme: Theme, narrow: bool
) -> Figure:
    """Draw the distribution functions of both sides with their bands.

    Args:
        found: the comparison.
        names: of the two sides, inside first.
        label: of the error, with its unit.
        theme: colours.
        narrow: for a phone.
    """
    size = NARROW if narrow else WIDE
    figure, axes = _figure(theme, narrow=narrow, height=size[1])
    ends = span([found.inside, found.outside])
    for (field, colour), name, dash in zip(SIDES, names, ("-", "--"), strict=True):
        told = steps(getattr(found, field), ends)
        axes.fill_between(
            told.errors, told.low, told.high, step="post", color=colour, alpha=BAND, linewidth=0
        )
        axes.step(
            told.errors, told.shares, dash, where="post", color=colour, linewidth=1.8, label=name
        )
    shown = span([found.inside, found.outside], SHOWN)
    axes.set(xlim=(100 * shown[0], 100 * shown[1]), ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_xlabel(label, color=theme.ink)
    axes.set_ylabel("share of networks with at most this error, %", color=theme.ink)
    _legend(figure, axes, theme)
    return figure


def _figure(theme: Theme, *, narrow: bool, height: float) -> tuple[Figure, Axes]:
    width = (NARROW if narrow else WIDE)[0]
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=theme.ground)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.ground)
    axes.grid(color=theme.faint, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, which="both", labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_visible(name in {"left", "bottom"})
        spine.set_color(theme.ink)
    return figure, axes


def _legend(figure: Figure, axes: Axes, theme: Theme) -> None:
    """Name the colours below the picture, where no line runs."""
    legend = figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower left",
        ncols=1 if figure.get_figwidth() < WIDE[0] else 3,
        fontsize=8,
        labelcolor=theme.ink,
        facecolor=theme.ground,
        edgecolor=theme.faint,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
