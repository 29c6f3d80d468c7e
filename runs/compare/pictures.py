"""The pictures of a comparison as files; see `series` for what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from runs.compare.series import Series, logarithmic
from runs.figures import NARROW, WIDE, Theme, short_number, with_unit
from runs.page.document import Draw
from runs.ranking import Objective
from runs.wording import SCORES

MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "star": "*",
}
"""Those of plotly in matplotlib's letters."""
LINES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
LONGEST = 48
"""Letters of a name in a legend; of a longer one the middle is left out."""
LAST_LETTER = 0x4FF
"""Of the alphabets that the font of the pictures has."""


def draw_objectives(series: Sequence[Series], up: Objective, across: Objective) -> Draw:
    """Draw lines over two objectives."""

    def finish(axes: Axes) -> None:
        if logarithmic(series, across):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(short_number))
        for axis, objective in ((axes.xaxis, across), (axes.yaxis, up)):
            axis.set_label_text(with_unit(objective))
            if objective.column in SCORES:
                axis.set_major_formatter(PercentFormatter(xmax=1))

    return _draw(series, finish)


def draw_progress(series: Sequence[Series]) -> Draw:
    """Draw the hypervolume over the budget spent."""

    def finish(axes: Axes) -> None:
        axes.set_xlabel("budget spent (full-length trainings)")
        axes.set_ylabel("hypervolume (share of the box)")

    return _draw(series, finish)


def _draw(series: Sequence[Series], finish: Callable[[Axes], None]) -> Draw:
    def draw(theme: Theme, *, narrow: bool) -> Figure:
        size = NARROW if narrow else WIDE
        figure = Figure(figsize=size, layout="constrained", facecolor=theme.ground)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(facecolor=theme.ground)
        for own in series:
            _add(axes, own, theme)
        finish(axes)
        axes.grid(color=theme.faint, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(colors=theme.ink)
        axes.xaxis.label.set_color(theme.ink)
        axes.yaxis.label.set_color(theme.ink)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(theme.ink)
        figure.legend(
            loc="outside lower center",
            ncols=_columns(series, narrow=narrow),
            frameon=False,
            labelcolor=theme.ink,
            fontsize=8,
        )
        return figure

    return draw


def _columns(series: Sequence[Series], *, narrow: bool) -> int:
    """Give as many columns of the legend as its longest name leaves room for."""
    longest = max(len(drawn_name(own.name)) for own in series if own.listed)
    letters = 50 if narrow else 100
    return max(1, min(6, letters // (longest + 8)))


def _add(axes: Axes, own: Series, theme: Theme) -> None:
    label = drawn_name(own.name) if own.listed else None
    colour = own.colour or theme.trial
    if own.fill:
        axes.fill(own.xs, own.ys, color=colour, alpha=0.18, linewidth=0)
        return
    axes.plot(
        own.xs,
        own.ys,
        drawstyle="steps-post" if own.steps else "default",
        color=colour,
        linestyle=LINES[own.dash] if own.line else "none",
        linewidth=own.line,
        marker=MARKERS.get(own.marker, ""),
        markersize=17 if own.ring else 5.5,
        markerfacecolor="none" if own.ring else colour,
        markeredgecolor=colour if own.ring else theme.ground,
        markeredgewidth=1.4 if own.ring else 0.6,
        label=label,
    )


def drawn_name(name: str) -> str:
    """Write a name as matplotlib shows it: no formula, only letters of its font, not too long."""
    known = "".join(
        letter if ord(letter) <= LAST_LETTER else letter.encode("unicode_escape").decode()
        for letter in name
    )
    end = LONGEST // 2 - 2
    short = known if len(known) <= LONGEST else f"{known[:end]}...{known[-end:]}"
    # What begins with _ is left out of a legend.
    return f"{' ' * short.startswith('_')}{short}".replace("$", r"\$")
