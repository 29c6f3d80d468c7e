"""Runs that repeat each other: the same plan, other seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from runs.compare.grounds import device_text
from runs.compare.reading import Run

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
IRRELEVANT = ("seed", "time_s", "budget", "keep_weights")
"""Settings that do not make another search; the budget is told by the last session."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Group:
    """Runs of one plan, each with a seed of its own."""

    letter: str
    label: str
    """What sets it apart from the other groups."""
    members: tuple[int, ...]
    """Places of its runs among all."""
    seeds: tuple[int, ...]
    """Of its runs."""


def group(runs: Sequence[Run]) -> list[Group]:
    """Put runs together whose plans differ in nothing but the seed.

    A seed that comes twice is no repeat: its second run begins a group of its own.
    """
    plans = [_facts(run) for run in runs]
    times: Counter[tuple[str, int]] = Counter()
    places: dict[tuple[str, int], list[int]] = {}
    for place, (run, facts) in enumerate(zip(runs, plans, strict=True)):
        key = yaml.safe_dump(facts, sort_keys=True)
        seed = run.plan.settings.seed
        places.setdefault((key, times[key, seed]), []).append(place)
        times[key, seed] += 1
    found = list(places.items())
    labels = _labels([plans[members[0]] for _, members in found], [n for (_, n), _ in found])
    return [
        Group(
            letter=_letter(number),
            label=label,
            members=tuple(members),
            seeds=tuple(runs[place].plan.settings.seed for place in members),
        )
        for number, ((_, members), label) in enumerate(zip(found, labels, strict=True))
    ]


def _facts(run: Run) -> dict[str, Any]:
    """Give what makes a search what it is, but for the seed: plain values by name."""
    settings = {k: v for k, v in asdict(run.plan.settings).items() if k not in IRRELEVANT}
    space = dict(run.plan.space.document)
    # The name goes by the file, not by what is in it.
    space.pop("name", None)
    return {
        "space": space,
        "budget": run.budget,
        "data": run.data["sha256"],
        "size": list(run.data["size"]),
        "device name": device_text(run),
        **{key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()},
        **{f"recipe {key}": value for key, value in asdict(run.plan.recipe).items()},
    }


def _labels(plans: Sequence[dict[str, Any]], times: Sequence[int]) -> list[str]:
    """Name each group by the values in which the groups differ."""
    differ = [key for key in plans[0] if len({repr(plan[key]) for plan in plans}) > 1]
    spaces: list[Any] = []
    labels = []
    for plan, again in zip(plans, times, strict=True):
        if plan["space"] not in spaces:
            spaces.append(plan["space"])
        words = [
            f"space {spaces.index(plan[key]) + 1}"
            if key == "space"
            else f"{key.removeprefix('recipe ').replace('_', ' ')} {_text(plan[key])}"
            for key in differ
        ]
        if again:
            words.append(f"the same seeds again ({again + 1})")
        labels.append(", ".join(words) or "all alike")
    return labels


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _letter(number: int) -> str:
    """Count A, B, ... Z, AA, AB."""
    found = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, len(LETTERS))
        found = LETTERS[rest] + found
    return found
