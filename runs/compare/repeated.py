"""What a comparison says of runs that repeat each other, and of groups of them."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.fronts import LEAST_PAIRS, PairedTest
from runs.compare.charts import cost_switches, objectives_chart
from runs.compare.measures import INDICATORS, Comparison, Pair, Repeated
from runs.compare.pictures import draw_objectives
from runs.compare.series import surface_series
from runs.compare.words import INDICATOR_WORDS, chance, indicator_cell, interval, value
from runs.page.document import Block, Cell, Column, Figure, Points, Row, Section, Table, Text
from runs.wording import MISSING, plural

RANGE = ("median", "least", "greatest")
"""Of the values of repeated runs."""


def repeats(comparison: Comparison) -> Section | None:
    """Show groups of runs that repeat one plan; None where there are none."""
    groups = [own for own in comparison.groups if len(own.group.members) > 1]
    if not groups:
        return None
    rows = [
        Row(
            cells=[
                Cell(text=own.group.letter),
                Cell(text=INDICATOR_WORDS[name]),
                indicator_cell(own.spreads[name].mean),
                Cell(text=interval(own.spreads[name].low, own.spreads[name].high) or MISSING),
                *(indicator_cell(getattr(own.spreads[name], what)) for what in RANGE),
            ]
        )
        for own in groups
        for name in INDICATORS
    ]
    table = Table(
        key="groups",
        caption=f"Indicators of repeated runs, all after {comparison.budget:g} trainings",
        columns=[
            Column(heading="group"),
            Column(heading="indicator"),
            Column(heading="mean", number=True),
            Column(heading="95 % t-interval"),
            *(Column(heading=what, number=True) for what in RANGE),
        ],
        rows=rows,
    )
    blocks: list[Block] = [Points(items=[group_line(own, comparison) for own in groups]), table]
    series = surface_series(comparison)
    if series:
        up, across = comparison.objectives
        blocks += [
            Figure(
                key="surfaces",
                reading="The line is reached or passed by half of the runs of a group, the better "
                "edge of its area by a quarter and the worse by three quarters: where areas do not "
                "overlap, most runs of one group beat most of the other.",
                alt=f"Attainment surfaces of {plural(len(groups), 'group')} of repeated runs: "
                f"{up.label} over {across.label}; compare.json has their corners.",
                chart=objectives_chart(series, up, across),
                draw=draw_objectives(series, up, across),
                switches=cost_switches(series, across),
            ),
            Text(
                text="The fronts of a group scatter by the Vorob'ev deviation: the mean share of "
                "the box between a run's front and the mean front; 0 if all found the same. "
                "Intervals need three runs; they trust in normal values and can reach below 0.",
                soft=True,
            ),
        ]
    else:
        blocks.append(
            Text(text="Surfaces are drawn of two objectives only.", soft=True),
        )
    return Section(key="repeats", title="Repeated runs", blocks=blocks)


def group_line(own: Repeated, comparison: Comparison) -> str:
    """Say what a group is."""
    runs = ", ".join(comparison.runs[place].run.name for place in own.group.members)
    seeds = ", ".join(map(str, sorted(own.group.seeds)))
    scatter = "" if own.mean is None else f"; fronts scatter by {value(own.mean.deviation)}"
    return f"{own.group.letter} ({runs}): {own.group.label}; seeds {seeds}{scatter}."


def tests(comparison: Comparison) -> Section:
    """Show the tests between groups, or why there are none."""
    if not comparison.pairs:
        return Section(
            key="tests",
            title="Tests",
            blocks=[
                Text(
                    text=f"No test was made: no two groups of runs share {LEAST_PAIRS} seeds. One "
                    "run of each kind cannot tell a better search from a lucky one; repeat both "
                    "with the same seeds, for example --seed 0 to 5."
                )
            ],
        )
    rows = [
        Row(cells=[Cell(text=text) for text in _test_cells(pair, name, pair.tests[name])])
        for name in INDICATORS
        for pair in comparison.pairs
    ]
    table = Table(
        key="tests",
        caption=f"Differences between groups over the seeds that both have, after "
        f"{comparison.budget:g} trainings: first minus second, with its 95 % t-interval",
        columns=[
            Column(heading="indicator"),
            Column(heading="groups"),
            Column(heading="seeds", number=True),
            Column(heading="difference", number=True),
            Column(heading="first greater", number=True),
            Column(heading="test"),
            Column(heading="p", number=True),
            Column(heading="p (Holm)", number=True),
        ],
        rows=rows,
    )
    explained = (
        "Wilcoxon's signed-rank test, exact, from six common seeds on; with fewer it cannot fall "
        "below 0.05 and the paired t-test stands in, which trusts in normal differences. Holm's "
        "correction goes over the pairs of groups, each indicator for itself. The hypervolume is "
        "the one to decide by; the others show whether it hides something."
    )
    return Section(key="tests", title="Tests", blocks=[table, Text(text=explained, soft=True)])


def _test_cells(pair: Pair, name: str, test: PairedTest) -> Sequence[str]:
    return (
        INDICATOR_WORDS[name],
        f"{pair.first} minus {pair.second}",
        str(test.pairs),
        f"{test.mean:+.4f}{interval(test.low, test.high, sign=True)}",
        f"{test.up} of {test.pairs}",
        {"wilcoxon": "Wilcoxon", "t": "paired t", "none": MISSING}[test.test],
        chance(test.p),
        chance(test.p_holm),
    )
