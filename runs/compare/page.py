"""A comparison as a document: answer, grounds, joint front, indicators, budget, repeats, tests."""

from __future__ import annotations

from runs.compare.charts import cost_switches, objectives_chart, progress_chart
from runs.compare.facts import facts, notes
from runs.compare.grounds import data_text, device_text, recipe_text
from runs.compare.measures import INDICATORS, Comparison
from runs.compare.pictures import draw_objectives, draw_progress
from runs.compare.repeated import group_line, repeats, tests
from runs.compare.series import progress_series, run_series
from runs.compare.words import INDICATOR_WORDS, answer, indicator_cell
from runs.page.document import (
    Block,
    Cell,
    Code,
    Column,
    Details,
    Document,
    Figure,
    Points,
    Row,
    Section,
    Table,
    Text,
)
from runs.wording import MISSING, plural, quantity


def document(comparison: Comparison) -> Document:
    """Make the document of a comparison."""
    names = " and ".join(objective.name for objective in comparison.objectives)
    sections = (_front, _indicators, _progress, repeats, tests, _grounds)
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
    advised = {own.run.name: own.recommended for own in comparison.runs}
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
            ],
            badge="recommended" if advised[str(row["run"])] == row["id"] else "",
        )
        for _, row in comparison.front.iterrows()
    ]
    table = Table(
        key="front",
        caption="Networks of the joint front, along it: no network of any run beats one of them in "
        "every objective. Scores are those of first trainings; the report of a run that knows its "
        "noise goes by estimates, so its front can differ.",
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
                "the front of one run by first trainings, which can differ from that of its report "
                "by estimates; runs of one plan have shades of one colour, and a star marks what "
                f"the report of a run recommends.{more}",
                alt=f"Fronts of {plural(len(comparison.runs), 'run')}: {up.label} over "
                f"{across.label}; the table below lists the joint front.",
                chart=chart,
                draw=draw_objectives(series, up, across),
                switches=cost_switches(series, across),
            )
        )
    return Section(key="front", title="One front", blocks=[*blocks, table])


def _indicators(comparison: Comparison) -> Section:
    level = comparison.level
    letters = {place: own.group.letter for own in comparison.groups for place in own.group.members}
    early = [] if level else [Column(heading=f"HV at {comparison.budget:g}", number=True)]
    rows = []
    for place, own in enumerate(comparison.runs):
        early_cells = [] if level else [indicator_cell(own.level.hypervolume)]
        spent = float(own.run.history.spent)
        rows.append(
            Row(
                cells=[
                    Cell(text=own.run.name),
                    Cell(text=letters[place]),
                    Cell(text=str(own.run.plan.settings.seed)),
                    Cell(text=f"{spent:g}", value=spent),
                    *(indicator_cell(getattr(own.indicators, name)) for name in INDICATORS),
                    *early_cells,
                    Cell(text=f"{own.own}", value=own.own),
                    Cell(text=f"{own.contribution.points}", value=own.contribution.points),
                    indicator_cell(own.contribution.alone),
                    Cell(text=own.recommended or MISSING),
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
            Column(heading="recommends"),
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
        "a little better than it is. What a run recommends is what its own report does, by "
        "estimates where it knows its noise, and may not be on a front of single trainings.",
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
                    f"{own.run.plan.recipe.epochs:g}",
                )
            ]
        )
        for own in comparison.runs
    ]
    headings = ("run", "space", "searched by", "sampler", "trainings", "device", "latency of")
    table = Table(
        key="grounds",
        caption="What each run did",
        columns=[Column(heading=heading) for heading in (*headings, "epochs")],
        rows=rows,
        wrap=True,
    )
    blocks: list[Block] = [Text(text=comparison.grounds.alike)]
    if said := notes(comparison):
        blocks.append(Points(items=said))
    blocks.append(table)
    if len(comparison.groups) > 1:
        lines = [group_line(own, comparison) for own in comparison.groups]
        blocks.append(Details(summary="What sets the plans apart", blocks=[Points(items=lines)]))
    commands = "\n".join(
        f"{own.run.name}: {own.run.plan.facts.get('command') or 'not known'}"
        for own in comparison.runs
    )
    recipes = dict.fromkeys(recipe_text(own.run) for own in comparison.runs)
    blocks.append(
        Details(
            summary="How the runs were made",
            blocks=[Code(text=commands), Points(items=[f"Recipe: {text}" for text in recipes])],
        )
    )
    return Section(key="grounds", title="What may be compared", blocks=blocks)
