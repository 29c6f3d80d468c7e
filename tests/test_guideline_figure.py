"""The picture of the guidelines: intervals, published figures, what could not be tested."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from runs.guideline_figure import drawable, guideline_figure
from tests.made_evidence import dense, flat, untested


def lines(figure: Figure) -> list[tuple[list[float], list[float]]]:
    (axes,) = figure.axes
    drawn = [line.get_data() for line in axes.lines]
    return [(list(map(float, x)), list(map(float, y))) for x, y in drawn]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_each_effect_has_two_intervals_and_its_published_figure() -> None:
    drawn = lines(guideline_figure({"guidelines": dense()}))
    assert ([-2.05, -0.67], [0, 0]) in drawn
    assert ([-3.19, 0.47], [0, 0]) in drawn
    assert ([-1.36], [0]) in drawn
    assert [1.4] in [x for x, y in drawn if y == [-0.24]]
    assert [1.6] in [x for x, y in drawn if y == [1.76]]


def test_longer_training_stands_beside_the_short_one() -> None:
    longer = dense()["verdicts"][0] | {"effect": -0.3, "low": -1.5, "high": 0.9}
    facts = {"guidelines": dense(rechecks={"factor": 4, "verdicts": [longer]})}
    drawn = lines(guideline_figure(facts))
    assert ([-0.3], [0.24]) in drawn
    assert ([-1.5, 0.9], [0.24, 0.24]) in drawn


def test_what_was_not_tested_is_a_word_and_no_mark() -> None:
    figure = guideline_figure({"guidelines": flat()})
    assert texts(figure) == ["not testable here"]
    assert not [x for x, y in lines(figure) if x and y == [1.76]]


@pytest.mark.parametrize(
    ("facts", "drawn"),
    [
        ({}, False),
        ({"guidelines": None}, False),
        ({"guidelines": dense(verdicts=[untested("g1", "needs structure")])}, False),
        ({"guidelines": flat()}, True),
    ],
)
def test_a_picture_needs_an_effect(facts: dict[str, Any], *, drawn: bool) -> None:
    assert drawable(facts) is drawn
