"""Parallel coordinates: every network as a line through its axes, its costs and its score.

The axes lie one below the other, so that their names can be read and a phone has room for all;
lines are plain traces (plotly's `parcoords` draws upright axes only, and by WebGL).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as Picture

from runs.figures import Theme
from runs.page.charts import GREY, LEGEND, chart, plain, text
from runs.page.document import Block, Figure, Section, Text
from runs.page.findings import Findings
from runs.page.scored import Floats, Scored
from runs.space_figures import parallel_figure
from runs.space_views import GROUPS, Lines, lines
from runs.wording import plural
from search_space.features import features

LEAST_NETWORKS = 2
SCORE_NAMES = {"accuracy": "val. accuracy, %", "miou": "val. mIoU, %"}
BETWEEN_ROWS = 46
"""Pixels."""
HALO = ", ".join(["0 0 2px var(--ground)"] * 8)
"""Around words that lie on lines, in the ground of the page; CSS text-shadow."""


def section(findings: Findings) -> Section | None:
    """Draw the networks of a run; None where they are fewer than two or do not differ."""
    networks = findings.networks.sound()
    axes = features(networks.architectures)
    if len(networks.scores) < LEAST_NETWORKS or not axes:
        return None
    drawn = lines(axes, _scales(networks, findings.score), networks.ids)

    def draw(theme: Theme, *, narrow: bool) -> Picture:
        return parallel_figure(drawn, theme=theme, narrow=narrow)

    blocks: list[Block] = [
        Figure(
            key="parallel",
            reading="Each line is one network, from its first axis at the top down to what it "
            "cost and reached; the lines of a value lie side by side along its bar, the best on "
            "the right, so the larger the share of its lines that are of the best tenth, the "
            "better that value did.",
            alt=f"Parallel coordinates of {plural(drawn.networks, 'network')} over "
            f"{plural(len(drawn.rows), 'axis', 'axes')}: "
            f"{', '.join(row.name for row in drawn.rows)}.",
            chart=_chart(drawn),
            draw=draw,
        )
    ]
    if len(drawn.ids) < drawn.networks:
        blocks.append(
            Text(
                soft=True,
                text=f"{len(drawn.ids):,} of {drawn.networks:,} networks are drawn: the best, and "
                "of the others as many as can be told apart, evenly over the ranks.",
            )
        )
    return Section(key="parallel", title="Axes, costs and scores side by side", blocks=blocks)


def _scales(networks: Scored, score: str) -> list[tuple[str, Floats, str]]:
    """Give the costs that are known, and the score last."""
    costs = [
        ("multiply-adds, millions", networks.macs / 1e6, ".3g"),
        ("latency, ms", networks.latency_ms, ".3g"),
    ]
    known = [scale for scale in costs if np.isfinite(scale[1]).any()]
    return [*known, (SCORE_NAMES[score], 100 * networks.scores, ".1f")]


def _chart(drawn: Lines) -> dict[str, Any]:
    rows = len(drawn.rows)
    traces: list[dict[str, Any]] = []
    for group, (name, colour, opacity, width) in enumerate(GROUPS):
        places, chosen = drawn.of(group)
        if not len(places):
            continue
        # One trace for all lines of a group, with a gap behind each.
        gap = np.full((len(places), 1), np.nan)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": plain(np.hstack([places, gap]).round(3).ravel()),
                "y": [*range(rows), None] * len(places),
                # The last row opens the card: a reader by keyboard meets each network once.
                "customdata": [
                    one for i in chosen for one in (*[None] * (rows - 1), [drawn.ids[i]], None)
                ],
                "text": [
                    word
                    for i in chosen
                    for word in (*(f"{drawn.ids[i]}: {text(r.texts[i])}" for r in drawn.rows), "")
                ],
                "hovertemplate": "%{text}",
                "line": {"color": colour, "width": width},
                "opacity": opacity,
            }
        )
    traces += [_bars(drawn), _words(drawn)]
    return chart(
        traces,
        height=110 + BETWEEN_ROWS * rows,
        xaxis={"visible": False, "range": [-0.05, 1.05], "fixedrange": True},
        yaxis={
            "tickvals": list(range(rows)),
            "ticktext": [text(row.name) for row in drawn.rows],
            "range": [rows - 0.8, -0.7],
            "zeroline": False,
            "showgrid": False,
            "fixedrange": True,
        },
        hovermode="closest",
        legend=LEGEND,
        margin={"b": 60, "t": 10},
    )


def _bars(drawn: Lines) -> dict[str, Any]:
    """Draw how far the lines of each value reach."""
    ends = [
        (x, place) for place, row in enumerate(drawn.rows) for bar in row.bars for x in (*bar, None)
    ]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": plain([x if x is None else round(x, 3) for x, _ in ends]),
        "y": [place for _, place in ends],
        "line": {"color": GREY, "width": 3},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _words(drawn: Lines) -> dict[str, Any]:
    """Name the values of every axis above it; in turns below it where they are many or long."""
    ticks = [
        (x, place, word, _position(x, below=row.crowded and number % 2 == 1))
        for place, row in enumerate(drawn.rows)
        for number, (x, word) in enumerate(row.ticks)
    ]
    xs, ys, words, positions = (list(column) for column in zip(*ticks, strict=True))
    return {
        "type": "scatter",
        "mode": "text",
        "x": xs,
        "y": ys,
        "text": [text(word) for word in words],
        "textposition": positions,
        "textfont": {"size": 11, "shadow": HALO},
        "hoverinfo": "skip",
        "showlegend": False,
        "cliponaxis": False,
    }


def _position(x: float, *, below: bool) -> str:
    """Keep the words at the ends of an axis off the names of the axes and the side."""
    side = "right" if x == 0 else "left" if x == 1 else "center"
    return f"{'bottom' if below else 'top'} {side}"
