"""A comparison as plain JSON: compare.json, and what the page embeds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evaluators.fronts import Floats
from runs.compare.grounds import data_text, device_text, recipe_text
from runs.compare.measures import Comparison, Measured, Repeated
from runs.page.charts import plain
from runs.ranking import Objective
from runs.wording import plural

FORMAT = 1
"""Version of the keys; readers refuse a higher one."""


def facts(comparison: Comparison) -> dict[str, Any]:
    """Give everything that a comparison says as JSON-able data.

    Returns:
        `format`; `objectives` (name, column, direction, unit, label, ideal); `reference_point` of
        the hypervolume by objective; `scale`, best and worst value of the joint range by objective,
        in which igd_plus and epsilon are counted; `equal_budget`, trainings that every run spent;
        `hypervolume` of the joint front; `runs` with their indicators at the end and at the equal
        budget and the network that the report of each recommends; `groups` of runs that repeat
        each other; `pairs` of groups with the tests; `differences` and `notes` on what may be
        compared; `front`, the networks of the joint
        front with the columns of trials.csv.
    """
    objectives = comparison.objectives
    front = comparison.front
    letters = {place: own.group.letter for own in comparison.groups for place in own.group.members}
    found: dict[str, Any] = plain(
        {
            "format": FORMAT,
            "objectives": [asdict(objective) for objective in objectives],
            "reference_point": comparison.reference,
            "scale": {
                objective.name: [
                    objective.value(float(comparison.scale.low[place])),
                    objective.value(float((comparison.scale.low + comparison.scale.span)[place])),
                ]
                for place, objective in enumerate(objectives)
            },
            "equal_budget": comparison.budget,
            "hypervolume": comparison.union,
            "runs": [_run(own, letters[place]) for place, own in enumerate(comparison.runs)],
            "groups": [_group(own, comparison) for own in comparison.groups],
            "pairs": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "seeds": list(pair.seeds),
                    **{name: asdict(test) for name, test in pair.tests.items()},
                }
                for pair in comparison.pairs
            ],
            "differences": [
                {
                    "what": difference.what,
                    "values": dict(
                        zip(
                            (own.run.name for own in comparison.runs),
                            difference.values,
                            strict=True,
                        )
                    ),
                    "consequence": difference.consequence,
                }
                for difference in comparison.grounds.differences
            ],
            "notes": notes(comparison),
            "front": front.astype(object).where(front.notna(), None).to_dict("records"),
        }
    )
    return found


def notes(comparison: Comparison) -> list[str]:
    """Say in sentences what a reader must know of how the runs were compared."""
    found = [*comparison.left_out, *comparison.grounds.notes]
    names = [own.run.name for own in comparison.runs]
    found += [difference.text(names) for difference in comparison.grounds.differences]
    if not comparison.level:
        spent = "; ".join(f"{own.run.name} {own.run.spent:g}" for own in comparison.runs)
        found.append(
            f"The runs did not spend the same ({spent} trainings). Repeats and tests count what "
            f"each had when it had spent {comparison.budget:g}."
        )
    found += [
        f"{own.run.name} has lost {plural(own.run.lost, 'event')} to damage; what is left is "
        "compared."
        for own in comparison.runs
        if own.run.lost
    ]
    found += [
        f"{own.run.name} has {own.run.budget - own.run.spent:g} of its {own.run.budget} trainings "
        "still to do."
        for own in comparison.runs
        if own.run.spent < own.run.budget and "exhausted" not in own.run.history.final
    ]
    return found


def _run(own: Measured, letter: str) -> dict[str, Any]:
    run = own.run
    return {
        "name": run.name,
        "directory": str(run.path),
        "group": letter,
        "seed": run.plan.settings.seed,
        "sampler": run.plan.settings.sampler,
        "space": run.plan.space.name,
        "data": data_text(run),
        "task": run.plan.settings.task,
        "device": device_text(run),
        "latency_backend": run.plan.settings.latency_backend,
        "latency_batch": run.plan.settings.latency_batch,
        "recipe": recipe_text(run),
        "searched_by": list(run.plan.settings.objectives),
        "budget": run.budget,
        "spent": run.spent,
        "networks": len(own.frame),
        "events_lost": run.lost,
        **asdict(own.indicators),
        "at_equal_budget": asdict(own.level),
        "own_front": own.own,
        "on_joint_front": own.contribution.points,
        "hypervolume_alone": own.contribution.alone,
        "recommended": own.recommended,
        "progress": [list(step) for step in own.progress],
    }


def _group(own: Repeated, comparison: Comparison) -> dict[str, Any]:
    objectives = comparison.objectives
    return {
        "letter": own.group.letter,
        "label": own.group.label,
        "runs": [comparison.runs[place].run.name for place in own.group.members],
        "seeds": list(own.group.seeds),
        **{name: asdict(found) for name, found in own.spreads.items()},
        "surfaces": {
            percent: _points(points, objectives) for percent, points in own.surfaces.items()
        },
        "mean_front": None
        if own.mean is None
        else {
            "points": _points(own.mean.points, objectives),
            "threshold": own.mean.threshold,
            "deviation": own.mean.deviation,
        },
    }


def _points(losses: Floats, objectives: tuple[Objective, ...]) -> list[dict[str, float]]:
    """Give corner points in the units of the columns."""
    return [
        {
            objective.name: objective.value(float(loss))
            for objective, loss in zip(objectives, row, strict=True)
        }
        for row in losses
    ]
