"""Indicators of runs: from one reference point, one joint front and one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd

from evaluators.fronts import (
    LEAST_PAIRS,
    SURFACE_OBJECTIVES,
    Contribution,
    Floats,
    MeanFront,
    PairedTest,
    Scale,
    Spread,
    additive_epsilon,
    contributions,
    growth,
    holm_over,
    hypervolume,
    igd_plus,
    mean_front,
    nondominated,
    paired_test,
    spread,
    surfaces,
)
from runs.compare.grounds import Grounds, grounds
from runs.compare.groups import Group, group
from runs.compare.reading import Run, competing
from runs.ranking import Objective, losses_of, point_behind
from runs.ranking import corner as corner_of
from runs.standings import recommended
from search_space.errors import RunError

REPEATS = 2
"""Runs of a group from which it has surfaces."""
INDICATORS = ("hypervolume", "igd_plus", "epsilon")
"""Of the fields of `Indicators`; the first decides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Indicators:
    """How good one run's networks are beside the joint front of all runs."""

    hypervolume: float
    """Share of the box from the ideal to the reference point that they dominate; more is better."""
    igd_plus: float
    """Mean shortfall from the joint front, in shares of the joint range; less is better."""
    epsilon: float
    """Greatest shortfall from it in one objective, in shares of the range; less is better."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Measured:
    """One run with its numbers."""

    run: Run
    frame: pd.DataFrame
    """Its competing networks, best first; see `competing`."""
    losses: Floats
    """Of the same, (N, M)."""
    indicators: Indicators
    """Of all it trained."""
    level: Indicators
    """Of what it had trained when it had spent the budget that all runs spent."""
    own: int
    """Networks that none of its own dominates."""
    contribution: Contribution
    progress: tuple[tuple[float, float], ...]
    """Budget spent and hypervolume reached, at every trial that raised it and at the end."""
    recommended: str | None
    """The network that its own report says to take."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Repeated:
    """A group with what its runs have in common; the numbers are at the equal budget."""

    group: Group
    spreads: dict[str, Spread]
    """Of the indicators."""
    surfaces: dict[int, Floats] = field(default_factory=dict)
    """Losses by per cent of the runs that reach them; empty where there are none."""
    mean: MeanFront | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two groups, by the seeds that both have."""

    first: str
    second: str
    """Letters."""
    seeds: tuple[int, ...]
    tests: dict[str, PairedTest]
    """Of the indicators."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Comparison:
    """Runs side by side."""

    grounds: Grounds
    runs: list[Measured]
    groups: list[Repeated]
    pairs: list[Pair]
    reference: dict[str, float]
    """Reference point of the hypervolume by objective, in the units of the columns."""
    scale: Scale
    budget: float
    """Trainings that every run spent."""
    front: pd.DataFrame
    """Networks of the joint front along it, with the column `run`."""
    union: float
    """Hypervolume of the joint front."""
    left_out: tuple[str, ...]
    """Why runs that were named are not there."""

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is compared."""
        return self.grounds.objectives

    @property
    def level(self) -> bool:
        """Whether all runs spent the same."""
        return len({float(own.run.history.spent) for own in self.runs}) == 1


def compare(runs: Sequence[Run], wanted: Sequence[str] = ()) -> Comparison:
    """Measure runs by one reference point, one joint front and one scale.

    Args:
        runs: two or more.
        wanted: names of objectives; none: those that all of them were searched by.

    Raises:
        RunError: they cannot be compared, or fewer than two have a complete trial.
    """
    used = [run for run in runs if (run.frame["state"] == "complete").any()]
    left_out = tuple(
        f"{run.name} is left out: none of its {len(run.history.trials)} trials is complete."
        for run in runs
        if run not in used
    )
    if len(used) < 2:
        raise RunError(f"RUN: two runs or more must have complete trials; {' '.join(left_out)}")
    ground = grounds(used, wanted)
    objectives = ground.objectives
    frames = [competing(run, objectives) for run in used]
    losses = [losses_of(frame, objectives) for frame in frames]
    columns = [objective.column for objective in objectives]
    reference = point_behind(pd.concat([frame[columns] for frame in frames]), objectives)
    corner = corner_of(reference, objectives)
    budget = min(float(run.history.spent) for run in used)
    early = [
        _or_corner(own[(frame["spent"] <= budget).to_numpy()], corner)
        for frame, own in zip(frames, losses, strict=True)
    ]
    scale = Scale.of(losses)
    joint = np.vstack(losses)
    best = joint[nondominated(joint)]
    told = zip(used, frames, losses, early, contributions(losses, corner), strict=True)
    measured = [
        Measured(
            run=run,
            frame=frame,
            losses=own,
            indicators=_indicators(own, best, corner, scale),
            level=_indicators(soon, best, corner, scale),
            own=int(nondominated(own).sum()),
            contribution=contribution,
            progress=_progress(frame, own, corner, float(run.history.spent)),
            recommended=_recommended(run),
        )
        for run, frame, own, soon, contribution in told
    ]
    groups = [_repeated(own, measured, early, corner) for own in group(used)]
    return Comparison(
        grounds=ground,
        runs=measured,
        groups=groups,
        pairs=_pairs(groups, measured),
        reference=reference,
        scale=scale,
        budget=budget,
        front=_front(measured, objectives),
        union=hypervolume(best, corner),
        left_out=left_out,
    )


def band(curves: Sequence[Sequence[tuple[float, float]]]) -> Floats:
    """Give least, median and greatest of step curves wherever one of them steps.

    Args:
        curves: (place, value) of every step, by place; before its first a curve is at 0.

    Returns:
        Rows of place, least, median and greatest, up to where the shortest curve ends.
    """
    end = min(curve[-1][0] for curve in curves)
    places = np.array(sorted({place for curve in curves for place, _ in curve if place <= end}))
    values = np.array([_at(curve, places) for curve in curves])
    return np.column_stack(
        [places, values.min(axis=0), np.median(values, axis=0), values.max(axis=0)]
    )


def _at(curve: Sequence[tuple[float, float]], places: Floats) -> Floats:
    """Read a step curve at places."""
    steps = np.array([place for place, _ in curve])
    values = np.array([0.0, *(value for _, value in curve)])
    return values[np.searchsorted(steps, places, side="right")]


def _or_corner(points: Floats, corner: Floats) -> Floats:
    """Put a run that has nothing yet at the reference point: hypervolume 0."""
    return points if len(points) else corner[None]


def _recommended(run: Run) -> str | None:
    found = recommended(run.plan, run.history)
    return None if found is None else found.id


def _indicators(points: Floats, best: Floats, corner: Floats, scale: Scale) -> Indicators:
    return Indicators(
        hypervolume=hypervolume(points, corner),
        igd_plus=igd_plus(scale(points), scale(best)),
        epsilon=additive_epsilon(scale(points), scale(best)),
    )


def _progress(
    frame: pd.DataFrame, losses: Floats, corner: Floats, end: float
) -> tuple[tuple[float, float], ...]:
    """Follow the hypervolume from trial to trial, up to all that the run spent."""
    spent = frame["spent"].to_numpy(dtype=np.float64)
    order = np.argsort(spent, kind="stable")
    values = growth(losses[order], corner)
    rises = np.diff(values, prepend=0.0) > 0
    rises[0] = True
    curve = list(zip(spent[order][rises].tolist(), values[rises].tolist(), strict=True))
    if curve[-1][0] < end:
        curve.append((end, curve[-1][1]))
    return tuple(curve)


def _repeated(
    found: Group, measured: Sequence[Measured], early: Sequence[Floats], corner: Floats
) -> Repeated:
    spreads = {
        name: spread([getattr(measured[place].level, name) for place in found.members])
        for name in INDICATORS
    }
    if len(found.members) < REPEATS or len(corner) not in SURFACE_OBJECTIVES:
        return Repeated(group=found, spreads=spreads)
    fronts = [early[place] for place in found.members]
    return Repeated(
        group=found, spreads=spreads, surfaces=surfaces(fronts), mean=mean_front(fronts, corner)
    )


def _pairs(groups: Sequence[Repeated], measured: Sequence[Measured]) -> list[Pair]:
    """Test all pairs of groups that have enough seeds in common; Holm over the pairs."""
    found = []
    for first, second in combinations([repeated.group for repeated in groups], 2):
        seeds = sorted({*first.seeds} & {*second.seeds})
        if len(seeds) < LEAST_PAIRS:
            continue
        sides = [
            [measured[own.members[own.seeds.index(seed)]].level for seed in seeds]
            for own in (first, second)
        ]
        tests = {
            name: paired_test(*([getattr(one, name) for one in side] for side in sides))
            for name in INDICATORS
        }
        found.append(
            Pair(first=first.letter, second=second.letter, seeds=tuple(seeds), tests=tests)
        )
    for name in INDICATORS:
        corrected = holm_over([pair.tests[name].p for pair in found])
        for pair, p_holm in zip(found, corrected, strict=True):
            pair.tests[name] = replace(pair.tests[name], p_holm=p_holm)
    return found


def _front(measured: Sequence[Measured], objectives: Sequence[Objective]) -> pd.DataFrame:
    """Join what no run dominates, along the front; equal networks of two runs both stand there."""
    joint = np.vstack([own.losses for own in measured])
    frames = [own.frame.assign(run=own.run.name) for own in measured]
    # What some runs left empty has no say in the types of the columns.
    whole = pd.concat([frame.astype(object) for frame in frames], ignore_index=True)
    best = nondominated(joint)
    along = np.lexsort(joint[best].T[[0, *range(len(objectives) - 1, 0, -1)]])
    found = whole[best].iloc[along].reset_index(drop=True)
    return found[["run", *(name for name in found if name != "run")]].astype(
        {name: kind for name, kind in frames[0].dtypes.items() if name in found}
    )
