"""What is said of noise, baselines and the champion."""

from __future__ import annotations

from typing import Any

import pytest

from runs.noise_text import champion_lines, fresh_score, noise_lines, standing_text
from tests.made_evidence import champion, noise

BEST = "a" * 12


@pytest.mark.parametrize("nothing", [{}, {"ranking_noise": None, "champion": None}])
def test_a_run_of_before_says_nothing(nothing: dict[str, Any]) -> None:
    assert noise_lines(nothing) == champion_lines(nothing) == []
    assert fresh_score(nothing) is None
    assert noise_lines({"ranking_noise": {}}) == []


def test_the_noise_floor_has_its_reliability_and_the_ceiling_of_tau() -> None:
    floor, tau, baselines = noise_lines({"ranking_noise": noise()})
    assert "by 0.81 points between seeds (standard deviation, 16 degrees of freedom)" in floor
    assert "77.4% is between networks" in floor
    assert "two trainings of all networks: 0.57" in tau
    assert "no short training exceeds: 0.69" in tau
    assert "seeds of 14 networks, mostly leaders trained again, whose range is narrower" in tau
    assert "than that of all: 0.52 [0.21, 0.77], 95 % interval over networks" in tau
    assert "by MACs 0.41 [0.30, 0.51]" in baselines
    assert "at random 0.00 [-0.11, 0.11]" in baselines


def test_what_is_not_known_of_the_noise_is_left_out() -> None:
    lines = noise_lines({"ranking_noise": noise() | {"seed_tau": None, "baselines": {}}})
    assert len(lines) == 2
    assert "Measured" not in lines[1]
    unknown = {"macs": {"value": float("nan"), "low": None, "high": None}, "params": None}
    assert len(noise_lines({"ranking_noise": noise() | {"baselines": unknown}})) == 2


@pytest.mark.parametrize(("value", "said"), [(0.41, False), (0.57, True), (-0.8, True)])
def test_a_ranking_for_nothing_that_does_as_well_is_named(value: float, *, said: bool) -> None:
    baselines = {"macs": {"value": value, "low": value, "high": value}}
    text = noise_lines({"ranking_noise": noise() | {"baselines": baselines}})[-1]
    assert ("Ranking by MACs orders these networks as well" in text) is said


def test_the_champion_has_its_drop_and_its_runner_up() -> None:
    first, second = champion_lines({"champion": champion(BEST) | {"of": 7}})
    assert first.startswith(f"Champion {BEST}: 87.1% in its training of the search; 86.2% on 3 ")
    assert "the best of 7 networks by these; 85.8% on 3 last seeds that took no part" in first
    assert "Fresh seeds take off 1.27 points" in first
    assert second == "Runner-up 0123456789ab: 85.9% on 3 fresh seeds, 85.7% on 1 last seed."


def test_a_champion_that_was_not_lucky_is_told_so() -> None:
    told = champion(BEST, "miou") | {"drop": -0.4, "final": [], "runner_up": None}
    (line,) = champion_lines({"champion": told})
    assert "mIoU 87.1%" in line
    assert line.endswith("Fresh seeds add 0.40 points: its first score was not lucky.")
    unknown = champion_lines({"champion": told | {"drop": None, "short": None}})
    assert unknown == [f"Champion {BEST}: 86.2% on 3 fresh seeds, the best by these."]


def test_the_number_of_the_champion_is_that_of_its_last_seeds() -> None:
    row = {"id": BEST, "accuracy": 0.871, "miou": None}
    facts = {"champion": champion(BEST)}
    told = standing_text(facts, row, right_after="after its training")
    assert told == (
        "85.8% of the validation images after its training, the mean over 3 seeds used for "
        "nothing else"
    )
    chosen = standing_text({"champion": champion(BEST) | {"final": []}}, row, right_after="then")
    assert chosen.endswith("the mean over 3 seeds by which it was chosen")


def test_another_network_than_the_champion_has_its_own_score() -> None:
    row = {"id": "b" * 12, "accuracy": 0.5, "miou": 0.25}
    told = standing_text({"champion": champion(BEST, "miou")}, row, right_after="then")
    assert told == "an mIoU of 25.0% on the validation images, with 50.0% of the pixels then"
