"""The evidence on the guidelines as a picture: effects with their intervals, one row each."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from runs.figures import LIGHT, Theme
from runs.guideline_published import PUBLISHED
from runs.guideline_text import NAMES, UNITS
from runs.wording import Facts, missing

WIDE = (8.0, 3.6)
"""Width and height in inches for a file and a desktop page."""
NARROW = (4.4, 4.2)
"""The same for a page on a phone."""

COLOURS = {
    "supported": ("#0b6e4f", "#5fd0a5"),
    "contradicted": ("#a3341f", "#ff9a85"),
    "no practical effect": ("#57606a", "#a3acb5"),
    "undecided": ("#57606a", "#a3acb5"),
}
"""Colour of a verdict on a light and on a dark ground; the word stands beside it."""


def drawable(facts: Facts) -> bool:
    """Whether there is an effect to draw."""
    found = facts.get("guidelines") or {}
    return any(not missing(verdict["effect"]) for verdict in found.get("verdicts") or ())


def guideline_figure(
    facts: Facts, *, theme: Theme = LIGHT, size: tuple[float, float] = WIDE
) -> Figure:
    """Draw the effect of each guideline as a dot on two lines, one row each.

    The thick line is its 95 % interval, the thin one that of a new network; a diamond is the
    published figure, a hollow circle the effect at longer training. Within the band an effect is
    of no practical use, and guideline 4 costs no more than its margin.

    Args:
        facts: with `guidelines`, as `gathering.run_facts` gives them.
        theme: colours.
        size: width and height in inches.
    """
    found = facts["guidelines"]
    protocol = found["protocol"]
    rechecks = found.get("rechecks") or {}
    longer = {verdict["guideline"]: verdict for verdict in rechecks.get("verdicts") or ()}
    verdicts = {verdict["guideline"]: verdict for verdict in found["verdicts"]}

    figure = Figure(figsize=size, layout="constrained", facecolor=theme.ground)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.ground)
    practical = protocol.get("practical", 0.5)
    axes.axvspan(
        -practical,
        practical,
        color=theme.faint,
        linewidth=0,
        zorder=0,
        label=f"within {practical:g} points",
    )
    axes.axvline(0, color=theme.ink, linewidth=0.8, zorder=1)
    for place, name in enumerate(NAMES):
        if name in verdicts:
            published = PUBLISHED[name, protocol["metric"]].effect
            _row(axes, place, verdicts[name], published, theme=theme, longer=longer.get(name))
    _axes(axes, verdicts, UNITS[protocol["metric"]], narrow=size[0] < WIDE[0], theme=theme)
    _legend(axes, longer=bool(longer), columns=2 if size[0] < WIDE[0] else 5, theme=theme)
    return figure


def _row(
    axes: Axes,
    place: int,
    verdict: Facts,
    published: float,
    *,
    theme: Theme,
    longer: Facts | None,
) -> None:
    if missing(verdict["effect"]):
        axes.text(
            0,
            place,
            "not testable here" if verdict["word"] == "not testable" else "no effect yet",
            ha="center",
            va="center",
            fontsize=8.5,
            color=theme.ink,
            style="italic",
            zorder=4,
            bbox={"facecolor": theme.ground, "linewidth": 0, "pad": 1.5, "alpha": 0.85},
        )
        return
    colour = COLOURS[verdict["word"]][theme.dark]
    for low, high, width in (("new_low", "new_high", 1.2), ("low", "high", 5.0)):
        if not (missing(verdict[low]) or missing(verdict[high])):
            axes.plot(
                [verdict[low], verdict[high]],
                [place, place],
                color=colour,
                linewidth=width,
                solid_capstyle="butt",
                zorder=3,
            )
    axes.plot(
        verdict["effect"],
        place,
        "o",
        color=theme.ground,
        markeredgecolor=colour,
        markeredgewidth=0,
        markersize=4,
        zorder=5,
    )
    axes.plot(published, place - 0.24, "D", color=theme.ink, markersize=5, zorder=4)
    if longer is not None and not missing(longer["effect"]):
        y = place + 0.24
        if not (missing(longer["low"]) or missing(longer["high"])):
            axes.plot([longer["low"], longer["high"]], [y, y], color=colour, linewidth=1, zorder=3)
        axes.plot(
            longer["effect"],
            y,
            "o",
            color=theme.ground,
            markeredgecolor=colour,
            markersize=6,
            zorder=5,
        )


def _axes(axes: Axes, verdicts: Facts, unit: str, *, narrow: bool, theme: Theme) -> None:
    labels = []
    for name in NAMES:
        verdict: dict[str, Any] = verdicts.get(name) or {}
        word = str(verdict.get("word", ""))
        label = NAMES[name].split()[0] if narrow else NAMES[name]
        labels.append(f"{label}\n{word}{', provisional' if verdict.get('provisional') else ''}")
    axes.set_yticks(range(len(NAMES)), labels, fontsize=8.5)
    axes.set_ylim(len(NAMES) - 0.5, -0.5)
    axes.set_xlabel(f"effect of the guideline, {unit}", color=theme.ink, fontsize=9.5)
    axes.xaxis.set_major_locator(MaxNLocator(7 if narrow else 10, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g}" if x else "0"))
    axes.tick_params(colors=theme.ink, which="both", labelsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=theme.faint, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(theme.ink)


def _legend(axes: Axes, *, longer: bool, columns: int, theme: Theme) -> None:
    colour = COLOURS["undecided"][theme.dark]
    point: dict[str, Any] = {"linestyle": "", "markersize": 5}
    marks: dict[str, dict[str, Any]] = {
        "95 % interval": {"color": colour, "linewidth": 5.0},
        "a new network": {"color": colour, "linewidth": 1.2},
        "published": {"color": theme.ink, "marker": "D", **point},
        "trained longer": {
            "color": theme.ground,
            "markeredgecolor": colour,
            "marker": "o",
            **point,
        },
    }
    for label, style in marks.items():
        if longer or label != "trained longer":
            axes.plot([], [], label=label, **style)
    axes.figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper left",
        ncols=columns,
        fontsize=8,
        labelcolor=theme.ink,
        frameon=False,
    )
