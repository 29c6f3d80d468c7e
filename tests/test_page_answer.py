"""The three sentences of the answer: how sure it is, what is as good and cheaper, what was lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runs.page.answer import sentences
from runs.page.casualties import section as casualties
from runs.page.document import Table
from runs.page.findings import Findings
from runs.page.scored import scored
from runs.wording import REASON_LETTERS, listed, percent, reason_text
from tests.made_evidence import dense, with_standing
from tests.made_runs import failed, frame_of, rows
from tests.pages import findings_of

PLACES: dict[str, dict[str, Any]] = {
    # The best, a cheaper one on the front that is tied, a still cheaper one that is not.
    "t0": {"accuracy": 0.9, "latency_ms": 3.0, "tied": True, "p_best": 0.23},
    "t1": {"accuracy": 0.89, "latency_ms": 1.0, "tied": True, "p_best": 0.2},
    "t2": {"accuracy": 0.88, "latency_ms": 2.0, "tied": True, "p_best": 0.1},
    "t3": {"accuracy": 0.5, "latency_ms": 0.5, "tied": False, "p_best": 0.0},
}


def run_of(**changes: Any) -> Findings:
    trials = with_standing(rows(4, **PLACES))
    made = [row | {"estimate": row["accuracy"]} | PLACES[f"t{row['trial']}"] for row in trials]
    return findings_of(frame_of(made), **changes)


def test_the_cheapest_network_that_is_level_is_named() -> None:
    found = run_of()
    ids = found.frame.set_index("trial")["id"]
    told = sentences(found)
    assert len(told) == 3
    assert told[0].startswith(f"Take network {ids[0]} ")
    assert told[1].startswith("The probability that it is the best of the 4 is 23 %, and 2 of the")
    level = f"; network {ids[1]} is level with the recommended one and takes 1.000 ms."
    assert told[1].endswith(level)


def test_a_recommended_network_that_is_not_the_first_is_no_measure() -> None:
    found = run_of(recommended=None)
    ids = found.frame.set_index("trial")["id"]
    beside = run_of(recommended=ids[2])
    assert f"network {ids[1]} is level with the first of the ranking" in sentences(beside)[1]


def test_the_cheapest_one_names_no_other() -> None:
    found = run_of(recommended=None)
    cheapest = run_of(recommended=found.frame.set_index("trial")["id"][1])
    assert "is level with" not in sentences(cheapest)[1]
    assert "is level with" not in sentences(findings_of(frame_of(rows(4))))[1]


def test_one_network_has_nothing_to_be_compared_with() -> None:
    told = sentences(findings_of(frame_of(rows(1))))[1]
    assert told.startswith("There is nothing to compare it with; trained on for 12 epochs it gets")


def test_guidelines_of_one_verdict_are_listed() -> None:
    verdicts = [one | {"word": "undecided"} for one in dense()["verdicts"]][:3]
    told = sentences(run_of(guidelines=dense() | {"verdicts": verdicts}))[2]
    assert "G1 structure, G2 dilated branches and G3 kernels by stage: undecided" in told


def test_a_reason_is_cut_alike_wherever_it_stands() -> None:
    long = "e" * 400
    found = findings_of(frame_of([failed(0, f"{long}\nmore"), failed(1, f"{long}\nless")]))
    cut = "e" * REASON_LETTERS + "…"
    assert f"the commonest reason: {cut}." in sentences(found)[1]
    tables = [block for block in casualties(found).blocks if isinstance(block, Table)]
    (table,) = (table for table in tables if table.key == "failed")
    assert [cell.text for cell in table.rows[0].cells] == [cut, "2"]
    assert reason_text(None) == reason_text(" ") == "no reason was recorded"


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0 %"), (0.004, "below 1 %"), (0.23, "23 %"), (0.996, "above 99 %"), (1.0, "100 %")],
)
def test_probabilities_are_neither_none_nor_all_by_rounding(value: float, said: str) -> None:
    assert percent(value) == said


def test_words_are_joined() -> None:
    assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("score", "data", "expected"),
    [
        ("accuracy", {"classes": ["a"] * 8, "majority_share": 0.4}, 1 / 8),
        ("miou", {"classes": ["a"] * 8, "majority_share": 0.4}, 0.05),
        ("accuracy", {}, np.nan),
    ],
)
def test_a_diverged_network_has_the_score_of_chance(
    score: str, data: dict[str, Any], expected: float
) -> None:
    lost = {"state": "diverged", "accuracy": None, "val_loss": None}
    trials = [row | {"miou": row["accuracy"]} for row in rows(4, t2=lost)]
    found = scored(frame_of(trials), score, {"data": data})
    assert found.diverged.sum() == (0 if np.isnan(expected) else 1)
    assert found.scores[found.diverged] == pytest.approx([expected] * int(found.diverged.sum()))
