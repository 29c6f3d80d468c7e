"""Errors of sub-spaces at equal complexity: networks that meet a predicate against the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Picture

from evaluators.edf import Comparison, compared
from runs.figures import Theme
from runs.page.charts import LEGEND, chart, numbers, text
from runs.page.document import Block, Cell, Column, Figure, Row, Section, Table, Text
from runs.page.findings import Findings
from runs.space_figures import subspace_figure
from runs.space_views import BAND, SHOWN, SIDES, span, steps
from runs.wording import plural
from search_space.architecture import Architecture
from search_space.predicates import Predicate, parse_predicate

TITLE = "Sub-spaces compared at equal complexity"
LABELS = {"accuracy": "validation error, %", "miou": "100 - validation mIoU, points"}
LONGEST_NAME = 60
"""Letters of a predicate in a legend."""
MOST_DRAWN = 12
"""Comparisons with a figure, each some 50 kB of a page; the others are told in a table alone."""
MOST_CHOSEN = 3
"""Comparisons that the report chooses where none is asked for."""
LEAST_CHOSEN = 10
"""Networks on each side of a comparison that the report chooses."""


def section(findings: Findings) -> Section | None:
    """Draw one figure for each predicate; None where there is nothing to compare."""
    found = comparisons(findings)
    if not found:
        return None
    diverged = int(findings.networks.diverged.sum())
    blocks: list[Block] = [Text(text=_caution(given=bool(findings.predicates), diverged=diverged))]
    for number, (asked, told) in enumerate(found, start=1):
        if isinstance(told, str):
            blocks.append(Text(text=f"{asked}: not compared, {told}."))
        else:
            shown = _shown(asked, told, LABELS[findings.score], number)
            blocks += shown if number <= MOST_DRAWN else shown[1:]
    if len(found) > MOST_DRAWN:
        blocks.append(Text(text=f"Only the first {MOST_DRAWN} comparisons are drawn.", soft=True))
    return Section(key="subspaces", title=TITLE, blocks=blocks)


def comparisons(findings: Findings) -> list[tuple[str, Comparison | str]]:
    """Compare what was asked for, or else what the program chooses; a text says why not."""
    networks = findings.networks
    asked = [parse_predicate(text) for text in findings.predicates]
    known = np.isfinite(networks.macs)
    errors, macs = 1 - networks.scores[known], networks.macs[known]
    found: list[tuple[str, Comparison | str]] = []
    for predicate in asked or chosen(networks.architectures):
        inside = np.array([predicate(a) for a in networks.architectures], dtype=bool)
        found.append((predicate.text, compared(errors, macs, inside[known])))
    return found


def comparison_data(findings: Findings) -> list[dict[str, Any]]:
    """Give every comparison as JSON-able data; where there is none, its `reason`."""
    found: list[dict[str, Any]] = []
    for asked, told in comparisons(findings):
        start = {"predicate": asked, "chosen_by_program": not findings.predicates}
        if isinstance(told, str):
            found.append(start | {"reason": told})
        else:
            found.append(start | asdict(told))
    return found


def chosen(architectures: Sequence[Architecture]) -> list[Predicate]:
    """Choose comparisons that divide the networks well: kernels, structure, branches, depth."""
    found: dict[tuple[bool, ...], Predicate] = {}
    for asked in _candidates(architectures):
        predicate = parse_predicate(asked)
        flags = tuple(predicate(architecture) for architecture in architectures)
        smaller = min(sum(flags), len(flags) - sum(flags))
        if smaller >= LEAST_CHOSEN and tuple(not flag for flag in flags) not in found:
            found.setdefault(flags, predicate)
    return list(found.values())[:MOST_CHOSEN]


def _candidates(architectures: Sequence[Architecture]) -> Iterator[str]:
    """Give predicates that might divide the networks, in the order of the guidelines' axes."""
    if not architectures:
        return
    largest = [max(stage.kernel for stage in a.stages) for a in architectures]
    yield f"max(stages.kernel) >= {_halving(largest)}"
    yield "any(stages.structure == 'se')"
    yield "any(stages.dilations != 'none')"
    yield "any(stages.structure != 'none')"
    yield "stages[0].kernel > 3"
    yield f"depth >= {_halving([a.depth for a in architectures])}"
    yield "block == 'unireplknet'"


def _halving(values: Sequence[int]) -> int:
    """Give the value from which on most nearly half of them are."""
    half = len(values) / 2
    return min(sorted(set(values)), key=lambda v: abs(sum(w >= v for w in values) - half))


def _caution(*, given: bool, diverged: int) -> str:
    lines = (
        [] if given else ["These comparisons were chosen by the program; --compare names others."]
    )
    lines.append(
        "They are a picture of the networks that this run trained, not a test of a guideline: "
        "the sides differ in more than what divides them, the search did not draw them at random, "
        "and several comparisons are not corrected for each other. Within bins of multiply-adds "
        "both sides weigh the same, so that the larger networks of one side do not decide; "
        "networks without a partner of their size are left out. Each network counts once, with "
        "the mean of its full-length trainings."
    )
    if diverged:
        lines.append(f"Networks that diverged ({diverged}) stand at chance level.")
    return " ".join(lines)


def _shown(asked: str, found: Comparison, label: str, number: int) -> list[Block]:
    sides = (found.inside, found.outside)
    words = (asked, "all others")
    names = [f"{_short(word)} ({side.matched})" for word, side in zip(words, sides, strict=True)]

    def draw(theme: Theme, *, narrow: bool) -> Picture:
        return subspace_figure(found, names, label, theme=theme, narrow=narrow)

    return [
        Figure(
            key=f"subspace-{number}",
            reading="A curve says which share of its side has at most the error below it, so the "
            "side whose curve lies further left errs less; where the bands (95 %) do not overlap "
            "the sides differ at that error, and where they do nothing follows: see p.",
            alt=f"Distribution functions of error: {' and '.join(names)}. {_result(found)}",
            chart=_chart(found, names, label),
            draw=draw,
        ),
        Text(text=f"{asked}: {_result(found)} {_visible(found)}"),
        _table(found, words, number),
    ]


def _short(asked: str) -> str:
    """Cut a predicate that would take the room of the chart from its legend."""
    return asked if len(asked) <= LONGEST_NAME else f"{asked[: LONGEST_NAME - 3]}..."


def _result(found: Comparison) -> str:
    points = 100 * (found.inside.mean - found.outside.mean)
    left_out = sum(side.networks - side.matched for side in (found.inside, found.outside))
    lines = [
        f"Networks that meet it err {abs(points):.2f} points {'more' if points > 0 else 'less'} "
        f"than the others on average, at equal multiply-adds ({plural(found.bins, 'bin')}).",
        f"Kolmogorov-Smirnov distance {found.distance:.2f}, p = {found.p_value:.2g} by drawing "
        "the sides anew within bins.",
    ]
    if left_out:
        lines.append(f"{plural(left_out, 'network')} could not be matched.")
    return " ".join(lines)


def _visible(found: Comparison) -> str:
    """Say which effect these numbers of networks could have shown."""
    return (
        f"So many networks, scattered as these are, show a difference of means of "
        f"{100 * found.visible:.2f} points in four of five cases (two-sided test at 5 %); a lesser "
        "one would mostly stay unseen."
    )


def _chart(found: Comparison, names: Sequence[str], label: str) -> dict[str, Any]:
    ends = span([found.inside, found.outside])
    shown = span([found.inside, found.outside], SHOWN)
    traces: list[dict[str, Any]] = []
    for (field, colour), name, dash in zip(SIDES, names, ("solid", "dash"), strict=True):
        told = steps(getattr(found, field), ends)
        shared = {"type": "scatter", "x": numbers(told.errors), "mode": "lines"}
        shared |= {"legendgroup": field}
        edge = shared | {"showlegend": False, "hoverinfo": "skip"}
        traces += [
            edge | {"y": numbers(told.low, 4), "line": {"width": 0, "shape": "hv"}},
            edge
            | {
                "y": numbers(told.high, 4),
                "line": {"width": 0, "shape": "hv"},
                "fill": "tonexty",
                "fillcolor": _clear(colour),
            },
            shared
            | {
                "y": numbers(told.shares, 4),
                "name": text(name),
                "line": {"color": colour, "width": 2, "shape": "hv", "dash": dash},
                "hovertemplate": "%{y:.0%} have an error of at most %{x:.2f}",
            },
        ]
    return chart(
        traces,
        xaxis={"title": {"text": label}, "range": [100 * end for end in shown]},
        yaxis={
            "title": {"text": "share of networks with at most this error"},
            "range": [0, 1.01],
            "tickformat": ".0%",
        },
        legend=LEGEND,
        margin={"b": 100},
    )


def _clear(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{BAND})"


def _table(found: Comparison, names: tuple[str, str], number: int) -> Table:
    headings = ("networks", "matched", "effective", "mean error", "least error")
    rows = []
    for name, side in zip(names, (found.inside, found.outside), strict=True):
        cells = [
            Cell(text=f"{side.networks:,}", value=side.networks),
            Cell(text=f"{side.matched:,}", value=side.matched),
            Cell(text=f"{side.effective:.1f}", value=side.effective),
            Cell(text=f"{side.mean:.2%}", value=side.mean),
            Cell(text=f"{side.least:.2%}", value=side.least),
        ]
        rows.append(Row(cells=[Cell(text=name), *cells]))
    return Table(
        key=f"subspace-{number}",
        caption=f"{names[0]} against all others; effective is how many evenly weighted networks "
        "would tell as much",
        columns=[Column(heading="side"), *(Column(heading=h, number=True) for h in headings)],
        rows=rows,
    )
