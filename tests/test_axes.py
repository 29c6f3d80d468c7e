"""The three kinds of axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from search_space.axes import Axis, Choice, FloatRange, IntRange, fixed, text_key


class First:
    """Stands in for a trial: takes the first option."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ARG002
        return choices[0]

    def suggest_int(
        self,
        name: str,  # noqa: ARG002
        low: int,
        high: int,  # noqa: ARG002
        *,
        step: int = 1,  # noqa: ARG002
        log: bool = False,  # noqa: ARG002
    ) -> int:
        return low

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:  # noqa: ARG002
        return low


@pytest.mark.parametrize(
    ("axis", "size"),
    [
        (Choice((3, 7, 13)), 3),
        (fixed("none"), 1),
        (IntRange(64, 128, 16), 5),
        (IntRange(8, 64, log=True), 57),
        (FloatRange(0.5, 2.0), math.inf),
    ],
)
def test_a_size_is_the_number_of_values(axis: Axis, size: float) -> None:
    assert axis.size == size


@pytest.mark.parametrize(
    ("axis", "inside", "outside"),
    [
        (Choice((3, 7)), [3, 7], [5, "3"]),
        (IntRange(64, 128, 16), [64, 80, 128], [63, 72, 144, "64", 64.0]),
        (FloatRange(0.5, 2.0), [0.5, 1, 2.0], [0.4, 2.1, "none"]),
    ],
)
def test_membership_includes_the_ends(axis: Axis, inside: list[Any], outside: list[Any]) -> None:
    assert all(axis.contains(value) for value in inside)
    assert not any(axis.contains(value) for value in outside)


def test_sets_of_branches_are_text_to_a_sampler_and_tuples_to_us() -> None:
    axis = Choice((((3, 2), (5, 1)), "none"))
    assert text_key(axis.values[0]) == "[[3,2],[5,1]]"
    assert axis.suggest(First(), "stages[0].dilations") == ((3, 2), (5, 1))


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        (IntRange(8, 32, 8), 8),
        (IntRange(8, 32, log=True), 8),
        (FloatRange(0.5, 2.0, log=True), 0.5),
    ],
)
def test_a_range_suggests_from_its_interval(axis: Axis, value: float) -> None:
    assert axis.suggest(First(), "a") == value


@pytest.mark.parametrize(
    ("options", "narrowed"),
    [
        ((7, 9, 11), IntRange(7, 11, 2)),
        ((7, 11), Choice((7, 11))),
        ((7,), Choice((7,))),
    ],
)
def test_a_narrowed_range_stays_a_range_where_it_is_even(
    options: tuple[int, ...], narrowed: Axis
) -> None:
    assert IntRange(3, 13, 2).narrowed(options) == narrowed


@pytest.mark.parametrize(
    ("axis", "label"),
    [
        (fixed(7), "7"),
        (Choice(("none", ((5, 1),))), "{choice: [none, [[5,1]]]}"),
        (IntRange(8, 32, 8), "{int: [8, 32], step: 8}"),
        (IntRange(1, 4), "{int: [1, 4]}"),
        (IntRange(8, 32, log=True), "{int: [8, 32], log: true}"),
        (FloatRange(0.5, 2.0, log=True), "{float: [0.5, 2.0], log: true}"),
        (FloatRange(0.5, 2.0), "{float: [0.5, 2.0]}"),
    ],
)
def test_a_label_is_what_the_yaml_says(axis: Axis, label: str) -> None:
    assert axis.label() == label
