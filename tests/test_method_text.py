"""What is said of a run's latencies."""

from __future__ import annotations

import pandas as pd
import pytest

from runs.method_text import disturbed_text, method


def frame(*, raw: list[float], disturbed: list[bool]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "latency_ms": [1.0, 2.0, 4.0],
            "latency_raw_ms": raw,
            "latency_disturbed": disturbed,
        }
    )


def test_nothing_is_said_of_latencies_that_agree_with_the_clock() -> None:
    assert disturbed_text(frame(raw=[0.95, 2.1, 4.2], disturbed=[False] * 3)) == ""


@pytest.mark.parametrize("factor", [0.5, 1.75])
def test_a_reference_that_was_measured_at_another_speed_is_told(factor: float) -> None:
    text = disturbed_text(frame(raw=[1 / factor, 2 / factor, 4 / factor], disturbed=[False] * 3))

    assert text.startswith(f"latency_ms is {factor:.2f} times what the clock showed")
    assert "The order of the networks does not depend on it" in text


def test_disturbed_latencies_are_counted() -> None:
    text = disturbed_text(frame(raw=[1.0, 2.0, 4.0], disturbed=[True, False, True]))

    assert text.startswith("2 latencies were measured while something else kept the machine busy")


def test_a_run_without_latencies_says_nothing() -> None:
    empty = frame(raw=[1.0, 2.0, 4.0], disturbed=[False] * 3).iloc[:0]

    assert disturbed_text(empty) == ""


@pytest.mark.parametrize(("alone", "rest"), [(False, "the others"), (True, "none")])
def test_the_shares_of_the_budget_are_told(*, alone: bool, rest: str) -> None:
    settings = {"noise": 10, "evidence": 96, "confirm": 20, "study_alone": alone}
    told = dict(method({"budget": 200, "settings": settings}))["search"]
    assert told == (
        "budget 200; of it 10 for the noise floor, 96 for blocks that test the guidelines, "
        f"20 for fresh seeds at the end, {rest} for the search"
    )


def test_a_budget_without_shares_is_the_number_alone() -> None:
    settings = {"noise": 0, "evidence": 0, "confirm": 0}
    assert dict(method({"budget": 20, "settings": settings}))["search"] == "budget 20"


@pytest.mark.parametrize(("count", "said"), [("828360", "828,360"), ("inf", "infinitely many")])
def test_the_networks_of_a_space_are_counted_in_words(count: str, said: str) -> None:
    told = dict(method({"networks": count}))["space"]
    assert told == f"{said} distinct networks"
