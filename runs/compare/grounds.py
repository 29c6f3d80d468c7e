"""What runs may be compared on: which objectives they share, and what stands between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runs.compare.reading import Run
from runs.ranking import CHEAPER, OBJECTIVES, Objective, objectives_named
from runs.wording import milliseconds, plural
from search_space.errors import RunError

COSTS = tuple(name for name, own in OBJECTIVES.items() if own.column in CHEAPER)
INSTEAD = "macs"
"""The cost that takes the place of a latency that cannot be compared: it is counted, not measured,
and every run has it."""

SAME_SPEED = 1.05
"""How far the latencies of one network in two runs may be apart before it is worth a note."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A circumstance in which the runs are not alike."""

    what: str
    values: tuple[str, ...]
    """Of each run."""
    consequence: str
    """What cannot be compared for it, or only with care."""

    def text(self, names: Sequence[str]) -> str:
        """Say it as a sentence, runs of one value together."""
        groups: dict[str, list[str]] = {}
        for name, value in zip(names, self.values, strict=True):
            groups.setdefault(value, []).append(name)
        told = "; ".join(f"{value} in {', '.join(own)}" for value, own in groups.items())
        return f"{self.what} differs: {told}. {self.consequence}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Grounds:
    """What runs are compared on."""

    objectives: tuple[Objective, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    """What else a reader must know of the choice."""

    @property
    def alike(self) -> str:
        """What is the same in all runs, of what matters to the objectives."""
        told = ["Task", "data"]
        if not any(own.what == "recipe" for own in self.differences):
            told.append("recipe")
        if any(own.name == "latency" for own in self.objectives):
            told += ["device", "way of timing"]
        return f"{', '.join(told[:-1])} and {told[-1]} are the same in all runs."


def device_text(run: Run) -> str:
    """Name what a run measured latency on."""
    device = run.device
    kind, name = device.get("device", run.plan.settings.device), device.get("name")
    threads = device.get("threads")
    return " ".join(
        part
        for part in (
            str(name or kind),
            f"({kind})" if name else "",
            plural(int(threads), "thread") if threads else "",
        )
        if part
    )


def data_text(run: Run) -> str:
    """Name the images of a run."""
    data = run.data
    height, width = data["size"]
    return (
        f"{data['name']} ({data['train']:,} + {data['val']:,} images of {height}x{width} px, "
        f"{plural(len(data['classes']), 'class', 'classes')}, sha256 {data['sha256'][:12]})"
    )


def recipe_text(run: Run) -> str:
    """Name the training of a run by all that the recipe says."""
    epochs = run.plan.recipe.epochs
    rest = {key: value for key, value in asdict(run.plan.recipe).items() if key != "epochs"}
    named = ", ".join(f"{key} {value}" for key, value in rest.items())
    return f"{plural(epochs, 'epoch')} ({named})"


REFUSED: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("task", lambda run: run.plan.settings.task),
    ("data", data_text),
)
"""Where these differ, no score of one run says anything beside one of another."""

LATENCY: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("device", device_text),
    ("latency backend", lambda run: run.plan.settings.latency_backend),
    ("latency batch", lambda run: plural(run.plan.settings.latency_batch, "image")),
)
"""Where these differ, latencies do not compare."""


def grounds(runs: Sequence[Run], wanted: Sequence[str] = ()) -> Grounds:
    """Decide what to compare runs on.

    Args:
        runs: with at least one trial each.
        wanted: names of objectives; none: those that all runs were searched by.

    Raises:
        RunError: data or task differ, or nothing can be compared; says what differs.
    """
    names = [run.name for run in runs]
    for what, read in REFUSED:
        values = [read(run) for run in runs]
        if len({*values}) > 1:
            told = "; ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))
            raise RunError(
                f"RUN: {what} must be the same in all runs, got {told}; scores on different "
                f"{'images' if what == 'data' else 'tasks'} do not compare: leave runs out"
            )
    apart = _differences(runs, LATENCY, "Their latencies cannot be compared.")
    timed = "latency" in wanted or (
        not wanted and all("latency" in run.plan.settings.objectives for run in runs)
    )
    differences = apart if timed else []
    if timed and not apart:
        differences = _version_difference(runs)
    differences = differences + _recipe_difference(runs)
    if wanted:
        objectives = objectives_named(wanted)
        if apart and "latency" in wanted:
            raise RunError(
                f"--objectives: latency must be measured alike, but {apart[0].text(names)} "
                f"Name {INSTEAD} or params instead"
            )
        notes: list[str] = []
    else:
        objectives, notes = _shared(runs, bool(apart))
    _require_known(runs, objectives)
    if timed and not apart:
        notes += _speed_notes(runs)
    return Grounds(objectives=objectives, differences=tuple(differences), notes=tuple(notes))


def _shared(runs: Sequence[Run], apart: bool) -> tuple[tuple[Objective, ...], list[str]]:  # noqa: FBT001
    """Choose the objectives that all runs have, in the order of the first."""
    own = [run.plan.settings.objectives for run in runs]
    shared = [name for name in own[0] if all(name in names for names in own)]
    notes = []
    if apart and "latency" in shared:
        shared.remove("latency")
        notes.append("Latency is left out of the comparison: it was not measured alike.")
        if shared and not any(name in COSTS for name in shared):
            shared.append(INSTEAD)
            notes.append(
                f"{OBJECTIVES[INSTEAD].label.capitalize()} stand in its place: they are counted "
                "from the network, whatever it runs on. No run was searched by them."
            )
    differ = len({*map(frozenset, own)}) > 1
    if not shared or (differ and all(name in COSTS for name in shared)):
        told = "; ".join(
            f"{run.name}: {','.join(names)}" for run, names in zip(runs, own, strict=True)
        )
        raise RunError(
            f"RUN: must share a score that they were searched by, got {told}; compare them on what "
            f"all of them measured, for example with --objectives {_example(runs[0])}"
        )
    if differ:
        left = [
            f"{run.name} by {', '.join(n for n in names if n not in shared)}"
            for run, names in zip(runs, own, strict=True)
            if {*names} - {*shared} - {"latency" if apart else ""}
        ]
        if left:
            notes.append(
                f"Not all were searched by the same objectives: {'; '.join(left)} too, which is "
                "not compared. A search does well in what it is asked for."
            )
    if len(shared) == 1 and shared[0] not in COSTS:
        notes.append(
            f"Only {shared[0]} is compared, so a front is one network; every run counted "
            f"multiply-adds too: --objectives {shared[0]},{INSTEAD}."
        )
    return objectives_named(shared), notes


def _example(run: Run) -> str:
    score = "miou" if run.plan.settings.task == "segmentation" else "accuracy"
    return f"{score},{INSTEAD}"


def _require_known(runs: Sequence[Run], objectives: Sequence[Objective]) -> None:
    for objective in objectives:
        for run in runs:
            complete = run.frame[run.frame["state"] == "complete"]
            if len(complete) and complete[objective.column].isna().all():
                raise RunError(
                    f"--objectives: {objective.name} must be known in all runs, {run.path} "
                    f"measured none; for example --objectives {_example(run)}"
                )


def _differences(
    runs: Sequence[Run], circumstances: Sequence[tuple[str, Callable[[Run], str]]], consequence: str
) -> list[Difference]:
    found = []
    for what, read in circumstances:
        values = tuple(read(run) for run in runs)
        if len({*values}) > 1:
            found.append(Difference(what=what, values=values, consequence=consequence))
    return found


def _recipe_difference(runs: Sequence[Run]) -> list[Difference]:
    """Say where trainings differ, by what differs alone."""
    recipes: list[dict[str, Any]] = [asdict(run.plan.recipe) for run in runs]
    keys = [key for key in recipes[0] if len({repr(recipe[key]) for recipe in recipes}) > 1]
    if not keys:
        return []
    return [
        Difference(
            what="recipe",
            values=tuple(
                ", ".join(
                    f"{key.replace('_', ' ')} {recipe[key]:g}"
                    if isinstance(recipe[key], float)
                    else f"{key.replace('_', ' ')} {recipe[key]}"
                    for key in keys
                )
                for recipe in recipes
            ),
            consequence="Scores are compared, but a gap may come from the training and not from "
            "the networks: it says nothing of which search is better.",
        )
    ]


def _version_difference(runs: Sequence[Run]) -> list[Difference]:
    """Say where the program that timed networks differs."""
    backend = runs[0].plan.settings.latency_backend

    def version(run: Run) -> str:
        return f"{backend} {(run.plan.facts.get('versions') or {}).get(backend) or 'unknown'}"

    return _differences(
        runs, [("version of the latency backend", version)], "Compare latencies with care."
    )


def _speed_notes(runs: Sequence[Run]) -> list[str]:
    """Say where one network took its time in one run and another in the next, on one device.

    Every latency of a run is a multiple of that of its reference network, so all of them are off
    by as much.
    """
    told: dict[str, list[tuple[float, str]]] = {}
    for run in runs:
        found = run.history.final.get("reference") or {}
        if found.get("latency_ms"):
            told.setdefault(str(found.get("id")), []).append((found["latency_ms"], run.name))
    notes = []
    for network, times in told.items():
        (least, quick), (most, slow) = min(times), max(times)
        if most > SAME_SPEED * least:
            notes.append(
                f"The machine was not equally fast: the reference network {network} took "
                f"{milliseconds(least)} ms in {quick} and {milliseconds(most)} ms in {slow}, and "
                f"all latencies of a run scale with it. Gaps in latency of up to "
                f"{most / least - 1:.0%} may come from that alone; {INSTEAD} do not suffer from "
                f"it: --objectives {_example(runs[0])}."
            )
    return notes
