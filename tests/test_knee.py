"""Where a front bends, and that nobody is told so who cannot know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runs.front_view import View, views
from runs.knee import knee_of, knees
from runs.page.front import section
from runs.ranking import objectives_named
from tests.made_evidence import with_standing
from tests.made_runs import NAMES, frame_of, rows
from tests.pages import findings_of

COST = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 5.0])
WORTH = np.array([0.50, 0.70, 0.75, 0.78, 0.80, 0.1])


def view_of(trials: list[dict[str, Any]], names: tuple[str, ...] = NAMES) -> View:
    return views(frame_of(trials, names), objectives_named(names))[0]


def bent(half: float) -> list[dict[str, Any]]:
    """Give a front of five networks, whose scores are known within `half`, and one behind it."""
    made = []
    for row, cost, worth in zip(with_standing(rows(6)), COST, WORTH, strict=True):
        ends = {"estimate_low": worth - half, "estimate_high": worth + half}
        times = {"latency_ms": cost, "latency_low_ms": cost, "latency_high_ms": cost}
        made.append(row | {"accuracy": worth, "estimate": worth} | ends | times)
    return made


def test_the_knee_is_farthest_from_the_chord() -> None:
    # By hand, heights above the chord in shares of the range; the last network is on no front.
    log = (WORTH[:5] - 0.5) / 0.3 - np.log2(COST[:5]) / 4
    linear = (WORTH[:5] - 0.5) / 0.3 - (COST[:5] - 1) / 15
    assert knee_of(COST, WORTH, log=True) == log.argmax() == 1
    assert knee_of(COST, WORTH, log=False) == linear.argmax() == 2


@pytest.mark.parametrize(
    ("cost", "worth"),
    [([1, 2], [0.1, 0.2]), ([1, 2, 3], [0.0, 0.5, 1.0]), ([1, 2, 3], [0.1, 0.12, 0.3])],
    ids=["two", "straight", "bent inwards"],
)
def test_a_front_that_does_not_bend_outwards_has_none(cost: list[int], worth: list[float]) -> None:
    assert knee_of(np.array(cost, dtype=float), np.array(worth), log=False) is None


def test_a_cost_of_nothing_has_no_logarithm() -> None:
    assert knee_of(np.append(0.0, COST), np.append(0.4, WORTH), log=True) is None


def test_a_sure_front_has_a_sure_knee() -> None:
    view = view_of(bent(1e-6))
    ids = [row["id"] for row in bent(0)]
    assert [(knee.network, knee.share, knee.log) for knee in knees(view)] == [
        *((ids[1], 1.0, True), (ids[2], 1.0, False)),
    ]


def test_an_unsure_front_has_no_clear_knee_and_says_so() -> None:
    trials = bent(0.3)
    assert not any(knee.clear for knee in knees(view_of(trials)))
    said = str(section(findings_of(frame_of(trials))))
    assert "is not clear on a logarithmic axis (" in said
    assert " or on a linear axis (" in said


@pytest.mark.parametrize(
    "names", [("accuracy",), ("accuracy", "latency", "macs"), ("macs", "params")]
)
def test_other_searches_are_not_asked(names: tuple[str, ...]) -> None:
    assert knees(view_of(bent(0.01), names)) == []


def test_without_estimates_nobody_is_asked() -> None:
    assert knees(view_of(rows(9))) == []
    assert "knee" not in str(section(findings_of(frame_of(rows(9)))))
