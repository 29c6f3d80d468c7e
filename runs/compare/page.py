"""A comparison as a document: answer, grounds, joint front, indicators, budget, repeats, tests."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.fronts import LEAST_PAIRS, PairedTest, Spread
from runs.compare.charts import objectives_chart, progress_chart
from runs.compare.facts import facts, notes
from runs.compare.grounds import data_text, device_text, recipe_text
from runs.compare.measures import INDICATORS, Comparison, Pair
from runs.compare.pictures import draw_objectives, draw_progress
from runs.compare.series import progress_series, run_series, surface_series
from runs.compare.words import INDICATOR_WORDS, answer, chance, interval, value
from runs.page.document import (
    Block,
    Cell,
    Column,
    Document,
    Figure,
    Option,
    Points,
    Row,
    Section,
    Switch,
    Table,
    Text,
)
from runs.wording import MISSING, plural, quantity


def document(comparison: Comparison) -> Document:
    """Make the document of a comparison."""
    names = " and ".join(objective.name for objective in comparison.objectives)
    sections = (_front, _indicators, _progress, _repeats, _tests, _grounds)
    made = (section(comparison) for section in sections)
    return Document(
        title=f"Comparison of {plural(len(comparison.runs), 'run')}",
        subtitle=f"By {names}, on {data_text(comparison.runs[0].run)}",
        answer=answer(comparison),
        sections=[section for section in made if section is not None],
        data=facts(comparison),
    )


def _front(comparison: Comparison) -> Section:
    objectives = comparison.objectives
    rows = [
        Row(
            cells=[
                Cell(text=str(row["run"])),
                Cell(text=str(row["id"])),
                *(
                    Cell(text=quantity(row[own.column], own), value=float(row[own.column]))
                    for own in objectives
                ),
                Cell(text=str(row["kernels"])),
                Cell(text=str(row["widths"])),
                Cell(text=str(row["trial"]), value=float(row["trial"])),
            ]
        )
        for _, row in comparison.front.iterrows()
    ]
    table = Table(
        key="front",
        caption="Networks of the joint front, along it: no network of any run beats one of them in "
        "every objective.",
        columns=[
            Column(heading="run"),
            Column(heading="network"),
            *(Column(heading=own.name, number=True) for own in objectives),
            Column(heading="kernels"),
            Column(heading="widths"),
            Column(heading="trial", number=True),
        ],
        rows=rows,
        most=40,
    )
    blocks: list[Block] = []
    if len(objectives) > 1:
        up, across = objectives[:2]
        series = run_series(comparison)
        better = "Higher" if up.direction == "max" else "Lower"
        side = "left" if across.direction == "min" else "right"
        more = (
            " The broad grey line is the front of all runs together."
            if len(objectives) == 2
            else f" Only the first two of {len(objectives)} objectives are drawn, so points may "
            "lie inside the cloud."
        )
        chart = objectives_chart(series, up, across)
        blocks.append(
            Figure(
                key="front",
                reading=f"{better} and further {side} is better; each colour with its marker is "
                f"the front of one run, runs of one plan in shades of one colour.{more}",
                alt=f"Fronts of {plural(len(comparison.runs), 'run')}: {up.label} over "
                f"{across.label}; the table below lists the joint front.",
                chart=chart,
                draw=draw_objectives(series, up, across),
                switches=[_scale_switch()],
            )
        )
    return Section(key="front", title="One front", blocks=[*blocks, table])


def _scale_switch() -> Switch:
    return Switch(
        label="Cost axis",
        options=[
            Option(label=kind, data={}, layout={"xaxis.type": word})
            for kind, word in (("linear", "linear"), ("logarithmic", "log"))
        ],
    )


def _indicators(comparison: Comparison) -> Section:
    level = comparison.level
    letters = {place: own.group.letter for own in comparison.groups for place in own.group.members}
    early = [] if level else [Column(heading=f"HV at {comparison.budget:g}", number=True)]
    rows = []
    for place, own in enumerate(comparison.runs):
        early_cells = [] if level else [_cell(own.level.hypervolume)]
        spent = float(own.run.history.spent)
        rows.append(
            Row(
                cells=[
                    Cell(text=own.run.name),
                    Cell(text=letters[place]),
                    Cell(text=str(own.run.plan.settings.seed)),
                    Cell(text=f"{spent:g}", value=spent),
                    *(_cell(getattr(own.indicators, name)) for name in INDICATORS),
                    *early_cells,
                    Cell(text=f"{own.own}", value=own.own),
                    Cell(text=f"{own.contribution.points}", value=own.contribution.points),
                    _cell(own.contribution.alone),
                ]
            )
        )
    table = Table(
        key="runs",
        caption="Each run beside the joint front; hypervolume: more is better, the other two: less",
        columns=[
            Column(heading="run"),
            Column(heading="group"),
            *(Column(heading=word, number=True) for word in ("seed", "spent")),
            *(Column(heading=INDICATOR_WORDS[name], number=True) for name in INDICATORS),
            *early,
            Column(heading="own front", number=True),
            Column(heading="on joint front", number=True),
            Column(heading="HV only it brings", number=True),
        ],
        rows=rows,
    )
    return Section(
        key="indicators", title="Indicators", blocks=[table, Points(items=_meaning(comparison))]
    )


def _meaning(comparison: Comparison) -> list[str]:
    """Say how each indicator is counted."""
    point = ", ".join(
        f"{own.label} {quantity(comparison.reference[own.name], own)}"
        for own in comparison.objectives
        if own.name in comparison.reference
    )
    scale = comparison.scale
    ranges = ", ".join(
        f"{own.label} {quantity(own.value(float(scale.low[place])), own)} to "
        f"{quantity(own.value(float(scale.low[place] + scale.span[place])), own)}"
        for place, own in enumerate(comparison.objectives)
    )
    return [
        "Hypervolume (HV): share of the box from the ideal to one reference point that the "
        f"networks of a run dominate. The point is the same for all runs, 1.1 times as far from "
        f"the ideal as the worst network of any: {point}. The joint front has "
        f"{comparison.union:.4f}.",
        "IGD+: how far, on average over the networks of the joint front, a run falls short of "
        "them. Additive epsilon: the least amount by which all of its networks would have to be "
        "better in every objective to leave none of the joint front unmatched. Both count in "
        "shares of the range that the fronts of all runs have together, so 0.1 is a tenth of it: "
        f"{ranges}.",
        "HV only it brings: what the joint front would lose without the run. Where two runs found "
        "the same, neither brings it alone.",
        "Scores are those of each network's first complete training: training one again makes no "
        "run look better. All scores hold the noise of a single seed, which makes every front look "
        "a little better than it is.",
    ]


def _progress(comparison: Comparison) -> Section:
    series = progress_series(comparison)
    repeated = any(len(own.group.members) > 1 for own in comparison.groups)
    more = (
        "; thick lines are medians of repeated runs, areas their range, thin lines the runs"
        if repeated
        else ""
    )
    figure = Figure(
        key="progress",
        reading="Further up is better, and a line that rises early finds good networks soon: "
        f"compare lines at the same budget{more}.",
        alt="Hypervolume of each run over the budget it spent, from one reference point; "
        "compare.json has the numbers.",
        chart=progress_chart(series),
        draw=draw_progress(series),
    )
    return Section(
        key="progress",
        title="At equal budget",
        blocks=[
            figure,
            Text(
                text="Counted in full-length trainings in the order in which they ended, all runs "
                f"from the one reference point. Every run has spent {comparison.budget:g}.",
                soft=True,
            ),
        ],
    )


def _repeats(comparison: Comparison) -> Section | None:
    groups = [own for own in comparison.groups if len(own.group.members) > 1]
    if not groups:
        return None
    rows = []
    for own in groups:
        cells = [Cell(text=own.group.letter), Cell(text=own.group.label)]
        cells.append(Cell(text=", ".join(map(str, sorted(own.group.seeds)))))
        cells += [_spread_cell(own.spreads[name]) for name in INDICATORS]
        deviation = None if own.mean is None else own.mean.deviation
        cells.append(_cell(deviation))
        rows.append(Row(cells=cells))
    table = Table(
        key="groups",
        caption="Runs of one plan: mean with its 95 % t-interval (from three runs on), then least "
        f"to greatest; all after {comparison.budget:g} trainings",
        columns=[
            Column(heading="group"),
            Column(heading="what sets it apart"),
            Column(heading="seeds"),
            *(Column(heading=INDICATOR_WORDS[name], number=True) for name in INDICATORS),
            Column(heading="spread of fronts", number=True),
        ],
        rows=rows,
        wrap=True,
    )
    blocks: list[Block] = [table]
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
                switches=[_scale_switch()],
            ),
            Text(
                text="Spread of fronts: Vorob'ev deviation, the mean share of the box between a "
                "run's front and the mean front of its group; 0 if all found the same.",
                soft=True,
            ),
        ]
    else:
        blocks.append(
            Text(text="Surfaces are drawn of two objectives only.", soft=True),
        )
    return Section(key="repeats", title="Repeated runs", blocks=blocks)


def _tests(comparison: Comparison) -> Section:
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


def _grounds(comparison: Comparison) -> Section:
    rows = [
        Row(
            cells=[
                Cell(text=text)
                for text in (
                    own.run.name,
                    own.run.plan.space.name,
                    ", ".join(own.run.plan.settings.objectives),
                    own.run.plan.settings.sampler,
                    f"{own.run.spent:g} of {own.run.budget}",
                    device_text(own.run),
                    f"{own.run.plan.settings.latency_backend}, "
                    f"{plural(own.run.plan.settings.latency_batch, 'image')}",
                    recipe_text(own.run),
                )
            ]
        )
        for own in comparison.runs
    ]
    headings = ("run", "space", "searched by", "sampler", "trainings", "device", "latency of")
    table = Table(
        key="grounds",
        caption="What each run did",
        columns=[Column(heading=heading) for heading in (*headings, "recipe")],
        rows=rows,
        wrap=True,
    )
    said = notes(comparison)
    lead: list[Block] = [
        Points(items=said)
        if said
        else Text(
            text="Task, data, device, the way of timing and the recipe are the same in all runs."
        )
    ]
    return Section(key="grounds", title="What may be compared", blocks=[*lead, table])


def _cell(number: float | None) -> Cell:
    return Cell(text=value(number), value=number)


def _spread_cell(found: Spread) -> Cell:
    text = f"{found.mean:.4f}{interval(found.low, found.high)}"
    return Cell(text=f"{text}, {found.least:.4f} to {found.greatest:.4f}", value=found.mean)
