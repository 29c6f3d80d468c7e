"""Which axes of the space matter for the score, by two estimators, and whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.figure import Figure as Picture

from evaluators.importance import LEAST_R2, Importance, Share
from runs.figures import Theme
from runs.page.charts import LEGEND, VERMILION, chart, numbers, text
from runs.page.document import Block, Cell, Column, Details, Figure, Row, Section, Table, Text
from runs.page.findings import Findings
from runs.space_figures import importance_figure
from runs.space_views import APART, ESTIMATORS


def section(findings: Findings) -> Section | None:
    """Show the importance of every axis; None where no network has a score."""
    diverged = findings.networks.diverged
    if diverged.all():
        return None
    found = findings.importance
    if isinstance(found, str):
        said: list[Block] = [Text(text=f"Importance is not estimated: {found}.")]
    else:
        said = shown(found, diverged=int(diverged.sum()))
    return Section(key="importance", title="Which axes matter", blocks=said)


def importance_data(findings: Findings) -> dict[str, Any]:
    """Give the importances as JSON-able data; where there are none, `reason` alone."""
    found = findings.importance
    if isinstance(found, str):
        return {"reason": found}
    told = {"r2": found.r2, "r2_low": found.r2_low, "r2_high": found.r2_high}
    axes = zip(found.names, found.permutation, found.ped_anova, strict=True)
    return {
        **told,
        "readable": found.readable,
        "networks": found.used,
        "axes": [
            {"axis": name, "permutation": asdict(one), "ped_anova": asdict(other)}
            for name, one, other in axes
        ],
    }


def shown(found: Importance, *, diverged: int) -> list[Block]:
    """Show importances: first whether they may be read, then the figure and the numbers."""

    def draw(theme: Theme, *, narrow: bool) -> Picture:
        return importance_figure(found, theme=theme, narrow=narrow)

    return [
        Text(text=_trust(found)),
        Figure(
            key="importance",
            reading="The further right an axis of the space stands, the more of the differences in "
            "score go with it; a bar says how far that share moves when it is estimated from other "
            "parts of the same networks, and bars that overlap do not say that two axes matter "
            "alike.",
            alt=_alt(found),
            chart=_chart(found),
            draw=draw,
        ),
        Text(soft=True, text=_method(found, diverged)),
        Details(summary="The importances as numbers", blocks=[_table(found)]),
    ]


def _trust(found: Importance) -> str:
    """Say first whether the figure may be read."""
    told = (
        f"held-out R2 {found.r2:.2f}, {found.r2_low:.2f} to {found.r2_high:.2f} over repeated "
        "cross-validation"
    )
    if found.readable:
        return (
            f"A random forest predicts the scores of networks it has not seen from these axes "
            f"({told}), so the importances can be read."
        )
    return (
        f"DO NOT READ: from these axes a random forest hardly predicts the scores of networks it "
        f"has not seen ({told}; at least {LEAST_R2:g} is needed), so the order below may be chance."
    )


def _method(found: Importance, diverged: int) -> str:
    lines = [
        "Permutation: how much worse the forest predicts held-out networks once an axis is "
        "shuffled among them. PED-ANOVA: how far the values of an axis in the best quarter of the "
        "networks are from those in all of them. Bars reach 1.645 standard deviations to each "
        "side, between folds and between bootstrap resamples: they hold neither another run nor "
        "another seed, and are no test of one axis against another. Where the two estimators "
        "disagree on an order, trust neither. Importance has no direction, an "
        "axis that this run hardly varied has none, and axes that go together share theirs."
    ]
    if found.used < found.networks:
        lines.append(f"A seeded choice of {found.used:,} of {found.networks:,} networks was used.")
    if diverged:
        lines.append(f"Diverged networks ({diverged}) are left out.")
    return " ".join(lines)


def _alt(found: Importance) -> str:
    mark = "" if found.readable else "Not to be read, the held-out R2 is too low. "
    first = ", ".join(
        f"{name} {share.value:.0%}"
        for name, share in list(zip(found.names, found.permutation, strict=True))[:3]
    )
    return f"{mark}Dot plot of the importance of {len(found.names)} axes; by permutation: {first}."


def _chart(found: Importance) -> dict[str, Any]:
    count = len(found.names)
    most = max(share.high for share in (*found.permutation, *found.ped_anova))
    traces = []
    for sign, (field, name, colour, symbol, _) in zip((-1, 1), ESTIMATORS, strict=True):
        shares: Sequence[Share] = getattr(found, field)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": numbers([share.value for share in shares], 4),
                "y": [place + sign * APART for place in range(count)],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": numbers([share.high - share.value for share in shares], 4),
                    "arrayminus": numbers([share.value - share.low for share in shares], 4),
                    "thickness": 1.4,
                    "width": 0,
                },
                "marker": {"color": colour, "symbol": symbol, "size": 9},
                "text": [text(axis) for axis in found.names],
                "hovertemplate": "%{text}<br>%{x:.1%}",
            }
        )
    mark = {
        "text": f"<b>do not read</b> (held-out R2 {found.r2:.2f})",
        "font": {"color": VERMILION, "size": 15},
        "showarrow": False,
        "xref": "paper",
        "yref": "paper",
        "x": 1,
        "y": 1,
        "xanchor": "right",
        "yanchor": "bottom",
    }
    return chart(
        traces,
        height=150 + 30 * count,
        xaxis={
            "title": {"text": "share of the importance"},
            "tickformat": ".0%",
            "range": [-0.02 * most, 1.04 * most],
            "zeroline": False,
        },
        yaxis={
            "tickvals": list(range(count)),
            "ticktext": [text(name) for name in found.names],
            "range": [count - 0.4, -0.6],
            "zeroline": False,
        },
        legend=LEGEND,
        margin={"b": 90},
        **({} if found.readable else {"annotations": [mark]}),
    )


def _table(found: Importance) -> Table:
    def cell(share: Share) -> Cell:
        return Cell(
            text=f"{share.value:.1%} ({share.low:.1%}\u2013{share.high:.1%})", value=share.value
        )

    return Table(
        key="importance",
        caption="Share of the importance of all axes, with its spread",
        columns=[
            Column(heading="axis"),
            *(Column(heading=name, number=True) for _, name, *_ in ESTIMATORS),
        ],
        rows=[
            Row(cells=[Cell(text=name), cell(one), cell(other)])
            for name, one, other in zip(
                found.names, found.permutation, found.ped_anova, strict=True
            )
        ],
    )
