"""What a comparison says in sentences, on the page and on the console."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from runs.compare.facts import notes
from runs.compare.measures import Comparison, Pair
from runs.page.document import Cell
from runs.wording import MISSING, plural

INDICATOR_WORDS = {"hypervolume": "hypervolume", "igd_plus": "IGD+", "epsilon": "additive epsilon"}
LEVEL = 0.05
"""Of the corrected p, below which two groups are said to differ."""


def value(number: float | None) -> str:
    """Write an indicator."""
    return MISSING if number is None else f"{number:.4f}"


def indicator_cell(number: float | None) -> Cell:
    """Write an indicator into a table."""
    return Cell(text=value(number), value=number)


def interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Write an interval behind its middle; nothing where it is not known."""
    if low is None or high is None:
        return ""
    return f" [{low:+.4f}, {high:+.4f}]" if sign else f" [{low:.4f}, {high:.4f}]"


def chance(p: float | None) -> str:
    """Write a p-value."""
    if p is None:
        return MISSING
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def answer(comparison: Comparison) -> list[str]:
    """Say who covers most, who makes the joint front, how sure that is, and what stands in the way.

    Three sentences, and a fourth where the runs are not alike.
    """
    found = [_leader(comparison), _shares(comparison), _sure(comparison)]
    if differences := [own.what for own in comparison.grounds.differences]:
        found.append(
            f"Mind that the runs are not alike ({', '.join(differences)}): what may be compared "
            "stands at the end."
        )
    return found


def _leader(comparison: Comparison) -> str:
    groups = comparison.groups
    if len(groups) > 1 and any(len(own.group.members) > 1 for own in groups):
        told = _ordered(
            {
                f"{own.group.letter} ({own.group.label})": own.spreads["hypervolume"].mean
                for own in groups
            }
        )
        return f"Mean hypervolume after {comparison.budget:g} trainings, best first: {told}."
    told = _ordered({own.run.name: own.level.hypervolume for own in comparison.runs})
    if comparison.level:
        return f"Hypervolume after {comparison.budget:g} trainings, best first: {told}."
    end = _ordered({own.run.name: own.indicators.hypervolume for own in comparison.runs})
    return (
        f"Hypervolume after the {comparison.budget:g} trainings that all runs have, best first: "
        f"{told}; at their ends: {end}."
    )


def _ordered(values: Mapping[str, float]) -> str:
    ordered = sorted(values.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {number:.4f}" for name, number in ordered)


def _shares(comparison: Comparison) -> str:
    counted = Counter(comparison.front["run"])
    told = ", ".join(f"{count} by {name}" for name, count in counted.most_common())
    rest = [own.run.name for own in comparison.runs if own.run.name not in counted]
    none = f"; none by {', '.join(rest)}" if rest else ""
    networks = comparison.front["id"].nunique()
    return f"The joint front has {plural(networks, 'network')}, found {told}{none}."


def _sure(comparison: Comparison) -> str:
    if len(comparison.groups) == 1:
        found = comparison.groups[0].spreads["hypervolume"]
        return (
            "All runs repeat one plan: their hypervolumes lie between "
            f"{found.least:.4f} and {found.greatest:.4f}, which is what a seed alone changes."
        )
    if not comparison.pairs:
        return (
            "Whether one search is better than another is not known: that takes repeats of both "
            "with the same seeds."
        )
    differ = [pair for pair in comparison.pairs if _differ(pair)]
    if not differ:
        return (
            "No two groups can be told apart by their hypervolume at the 5 % level "
            f"({_tested(comparison)})."
        )
    told = "; ".join(_gap(pair) for pair in differ)
    return f"By hypervolume these differ at the 5 % level ({_tested(comparison)}): {told}."


def _differ(pair: Pair) -> bool:
    p = pair.tests["hypervolume"].p_holm
    return p is not None and p < LEVEL


def _gap(pair: Pair) -> str:
    test = pair.tests["hypervolume"]
    ahead = (pair.first, pair.second) if test.mean > 0 else (pair.second, pair.first)
    return f"{ahead[0]} above {ahead[1]} by {abs(test.mean):.4f} (p {chance(test.p_holm)})"


def _tested(comparison: Comparison) -> str:
    return f"{plural(len(comparison.pairs), 'pair')}, Holm's correction"


def remarks(comparison: Comparison) -> list[str]:
    """Give what stands below the table on the console."""
    return [*answer(comparison), *notes(comparison)]
