"""Numbers and scores in words, as the page and the console write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import pandas as pd

from runs.ranking import Objective

MISSING = "\u2013"
"""Shown where there is no value."""

Facts = Mapping[str, Any]


def missing(value: Any) -> bool:
    """Tell whether there is nothing to show: None, NA, or a number that is not finite."""
    if value is None or value is pd.NA:
        return True
    return isinstance(value, float) and not math.isfinite(value)


def plain(value: Any) -> str:
    """Write a value as it is."""
    return MISSING if missing(value) else str(value)


def share(value: Any) -> str:
    """Write a share as a percentage."""
    return MISSING if missing(value) else f"{value:.1%}"


def fixed(value: Any, digits: int) -> str:
    """Write a number with so many digits after the point."""
    return MISSING if missing(value) else f"{value:,.{digits}f}"


def milliseconds(value: Any) -> str:
    """Write milliseconds, to the microsecond where they are few."""
    digits = 3 if missing(value) or value < 10 else 2 if value < 100 else 1
    return fixed(value, digits)


def flag(value: Any) -> str:
    """Write yes or no."""
    return MISSING if missing(value) else "yes" if value else "no"


WRITERS: dict[str, Callable[[Any], str]] = {
    "text": plain,
    "share": share,
    "loss": lambda value: fixed(value, 3),
    "latency": milliseconds,
    "mega": lambda value: MISSING if missing(value) else fixed(value / 1e6, 2),
    "kilo": lambda value: MISSING if missing(value) else fixed(value / 1e3, 1),
    "score": lambda value: fixed(value, 2),
    "flag": flag,
}
"""How a kind of column is written."""


def quantity(value: float, objective: Objective) -> str:
    """Write a value of an objective with its unit."""
    if objective.column in SCORES:
        return share(value)
    if objective.column == "latency_ms":
        return f"{milliseconds(value)} ms"
    if not objective.unit:
        return fixed(value, 3)
    # Its label may end in the unit already, as in "parameters of the merged network".
    unit = "" if objective.unit in objective.label else f" {objective.unit}"
    return f"{fixed(value, 0)}{unit}"


def amount(number: float) -> str:
    """Write a number of trainings, with a digit after the point where it is not whole."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def spent_text(facts: Facts) -> str:
    """Write what a run spent: 20 trainings; where rungs leave a part, 37.3 of 200 trainings."""
    spent = facts.get("spent") or 0
    if spent != int(spent) and facts.get("budget"):
        return f"{amount(spent)} of {plural(facts['budget'], 'training')}"
    return f"{amount(spent)} {'training' if spent == 1 else 'trainings'}"


def length_text(length: float) -> str:
    """Write a share of the full length as a fraction, 1/9; all of it as 1."""
    return str(Fraction(length).limit_denominator(1000))


def percent(probability: float) -> str:
    """Write a probability in whole per cent; one that rounds to none or all by its bound."""
    if 0 < probability < 0.005:
        return "below 1 %"
    if 0.995 <= probability < 1:
        return "above 99 %"
    return f"{100 * probability:.0f} %"


def listed(words: Sequence[str]) -> str:
    """Join words: `a`, `a and b`, `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


REASON_LETTERS = 300
"""Length at which the reason of a failure is cut."""


def reason_text(error: Any) -> str:
    """Give the first line of what a failure said, cut where it is long."""
    lines = [] if missing(error) else str(error).strip().splitlines()
    if not lines:
        return "no reason was recorded"
    return lines[0] if len(lines[0]) <= REASON_LETTERS else f"{lines[0][:REASON_LETTERS]}…"


def plural(number: float, noun: str, nouns: str | None = None) -> str:
    """Write a number with its noun."""
    amount = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{amount} {noun if number == 1 else nouns or noun + 's'}"


# Scores, by the task of the run.

DENSE = "segmentation"
"""The task whose classes are named pixel by pixel."""
SCORES = ("accuracy", "miou")
"""Columns that are shares."""


def is_dense(facts: Facts) -> bool:
    """Whether a run's images are segmented; runs of before there was a choice classify."""
    return (facts.get("data") or {}).get("task") == DENSE


def score_text(scores: Facts, images: str = "") -> str:
    """Write what a network reached: `81.2% of the test images`.

    A dense one reached `an mIoU of 31.2% on the test images, with 80.1% of the pixels`.

    Args:
        scores: `accuracy` and, where pixels were named, `miou`.
        images: which, as in "the test images"; empty where they were named before.
    """
    accuracy = share(scores.get("accuracy"))
    if missing(scores.get("miou")):
        return f"{accuracy} of {images}" if images else accuracy
    where = f" on {images}" if images else ""
    pixels = "" if missing(scores.get("accuracy")) else f", with {accuracy} of the pixels"
    return f"an mIoU of {share(scores['miou'])}{where}{pixels}"


def scores_of(values: Facts, prefix: str) -> dict[str, Any]:
    """Give the scores whose keys begin so: of `test_accuracy` the accuracy."""
    return {name: values.get(f"{prefix}{name}") for name in SCORES}


def main_score(row: Facts) -> tuple[str, Any]:
    """Give the score that a network is judged by, and its name where it is not the accuracy."""
    miou = row.get("miou")
    return ("", row.get("accuracy")) if missing(miou) else ("mIoU", miou)
