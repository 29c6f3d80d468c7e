"""How a run came to its front as a picture: hypervolume over trials and over time."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runs.figures import LIGHT, Theme
from runs.progress import Floats, Progress

WIDE = (8.0, 3.6)
"""Width and height in inches for a file and a desktop page."""
NARROW = (4.4, 5.6)
"""The same for a page on a phone, one part below the other."""
LINE = ("#0072b2", "#56b4e9")
"""On a light and on a dark ground."""
UNITS = ((2.0, "hours", 1.0), (1 / 30, "minutes", 60.0), (0.0, "seconds", 3600.0))
"""From so many hours on, the unit of time, and how many of it an hour has."""


def progress_figure(found: Progress, *, theme: Theme = LIGHT, narrow: bool = False) -> Figure:
    """Draw the hypervolume as a line in steps, with dashed lines where parts of the run begin.

    Args:
        found: the run; with times, it is drawn over them too.
        theme: colours.
        narrow: for a page on a phone.
    """
    figure = Figure(
        figsize=NARROW if narrow else WIDE, layout="constrained", facecolor=theme.ground
    )
    FigureCanvasAgg(figure)
    over = [(trials_axis(found), "finished trials")]
    if found.hours is not None:
        over.append(hours_axis(found.hours))
    rows, columns = (len(over), 1) if narrow else (1, len(over))
    parts = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (xs, label) in zip(parts, over, strict=True):
        _part(axes, found, xs, theme=theme)
        axes.set_xlabel(label, color=theme.ink)
        if narrow or axes is parts[0]:
            axes.set_ylabel("hypervolume, share of the box", color=theme.ink)
    parts[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def trials_axis(found: Progress) -> Floats:
    """Give where each trial stands among the finished ones, from 1."""
    return np.arange(1.0, len(found.trials) + 1)


def hours_axis(hours: Floats) -> tuple[Floats, str]:
    """Give times in a unit that suits them, and what the axis says."""
    unit, each = next((unit, each) for least, unit, each in UNITS if hours[-1] >= least)
    return hours * each, f"time since the run began, {unit}"


def _part(axes: Axes, found: Progress, xs: Floats, *, theme: Theme) -> None:
    axes.set_facecolor(theme.ground)
    colour = LINE[theme.dark]
    axes.step(xs, found.values, where="post", color=colour, linewidth=1.6, zorder=3)
    gained = found.gained
    axes.scatter(xs[gained], found.values[gained], s=14, color=colour, zorder=4)
    axes.set_ylim(0, max(1e-6, 1.12 * float(found.values[-1])))
    for word, place in found.begins:
        axes.axvline(xs[place], color=theme.ink, linewidth=0.8, linestyle="--", alpha=0.6)
        axes.annotate(
            word,
            (xs[place], 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            rotation=90,
            va="bottom",
            fontsize=8,
            color=theme.ink,
        )
    axes.grid(color=theme.faint, linewidth=0.8, zorder=0)
    axes.tick_params(colors=theme.ink, labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_visible(name in {"left", "bottom"})
        spine.set_color(theme.ink)
