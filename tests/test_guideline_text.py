"""The guidelines in words: a row of texts each."""

from __future__ import annotations

import pytest

from runs.guideline_published import PUBLISHED
from runs.guideline_text import chance, rows
from tests.made_evidence import FIDELITY, dense, flat, untested


def test_a_run_without_evidence_has_no_rows() -> None:
    for facts in ({}, {"guidelines": None}, {"guidelines": {"verdicts": []}}):
        assert rows(facts) == ()


def test_a_row_says_all_that_was_found_with_its_fidelity() -> None:
    row = rows({"guidelines": dense()})[0]
    assert row.name == "G1 structure"
    assert row.verdict == f"contradicted at {FIDELITY}, provisional until the 4x recheck"
    assert row.effect == "-1.36 [-2.05, -0.67]"
    assert row.loss == "+0.042 [+0.026, +0.058]"
    assert (row.up, row.new, row.adjusted) == ("0/6", "[-3.19, +0.47]", ".016")
    assert row.cost == "MACs +0.0%, latency +6.1% [+5.0, +7.3]"
    assert (row.detectable, row.recheck) == ("1.21", "pending")
    assert row.published == "+1.40 (J 3a)"


def test_the_recheck_stands_beside_the_short_effect() -> None:
    longer = dense()["verdicts"][0] | {"effect": -0.9, "low": -2.0, "high": 0.2}
    row = rows({"guidelines": dense(rechecks={"factor": 4, "blocks": 4, "verdicts": [longer]})})[0]
    assert row.recheck == "-0.90 [-2.00, +0.20]"


def test_what_cannot_be_tested_has_no_number() -> None:
    row = rows({"guidelines": flat()})[2]
    assert row.verdict == "not testable here"
    assert not any((row.effect, row.up, row.new, row.adjusted, row.cost, row.detectable))
    assert row.recheck == ""


@pytest.mark.parametrize(("value", "text"), [(0.016, ".016"), (1.0, "1.000"), (1e-5, "< .001")])
def test_p_values_are_written_as_in_papers(value: float, text: str) -> None:
    assert chance(value) == text


def test_every_guideline_has_a_published_figure_for_both_metrics() -> None:
    assert {name for name, _ in PUBLISHED} == {"g1", "g2", "g3", "g4"}
    assert len(PUBLISHED) == 8


@pytest.mark.parametrize(
    ("guideline", "agrees"), [("g1", "with the same sign"), ("g4", "beyond the margin too")]
)
def test_a_rechecked_contradiction_says_over_how_many_blocks(guideline: str, agrees: str) -> None:
    settled = dense()["verdicts"][0] | {"guideline": guideline, "provisional": False}
    rechecks = {"factor": 4.0, "blocks": 5, "verdicts": [settled]}
    row = rows({"guidelines": dense(verdicts=[settled], rechecks=rechecks)})[0]
    assert row.verdict == (
        f"contradicted at {FIDELITY}, {agrees} over 5 blocks at 4 times the length"
    )


def test_a_recheck_of_too_few_blocks_has_no_number() -> None:
    longer = [untested("g1", "1 finished blocks")]
    row = rows({"guidelines": dense(rechecks={"factor": 4, "blocks": 1, "verdicts": longer})})[0]
    assert row.recheck == "too few blocks"


@pytest.mark.parametrize(("at", "early"), [(8, True), (12, False), (None, False)])
def test_only_a_look_before_the_last_decides_early(at: int | None, *, early: bool) -> None:
    found = dense()["verdicts"][1] | {"decided_at": at}
    row = rows({"guidelines": dense(verdicts=[found])})[0]
    assert row.verdict.endswith(", decided after 8 blocks") is early


def test_a_latency_without_an_interval_stands_alone() -> None:
    found = dense()["verdicts"][3] | {"latency_low": None, "latency_high": None}
    assert rows({"guidelines": dense(verdicts=[found])})[0].cost == "MACs +0.0%, latency -9.4%"
