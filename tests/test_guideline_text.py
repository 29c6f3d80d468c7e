"""The guidelines in words: rows, caveats and the console's table."""

from __future__ import annotations

import io
from dataclasses import asdict

import numpy as np
import pytest
from rich.console import Console

from evaluators.evidence import BlockResult, Protocol, block_levels, judge
from runs.guideline_figure import drawable
from runs.guideline_published import PUBLISHED
from runs.guideline_text import (
    caveats,
    chance,
    console_table,
    held_against,
    legend,
    rows,
    sanity_text,
)
from tests.made_evidence import FIDELITY, dense, flat, untested


def shown(facts: dict, width: int) -> str:
    table = console_table(facts, width)
    assert table is not None
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_a_run_without_evidence_says_nothing() -> None:
    for facts in ({}, {"guidelines": None}, {"guidelines": {"verdicts": []}}):
        assert rows(facts) == ()
        assert console_table(facts, 100) is None
        assert caveats(facts) == legend(facts) == []
        assert sanity_text(facts) == ""


def test_a_row_says_all_that_was_found_with_its_fidelity() -> None:
    row = rows({"guidelines": dense()})[0]
    assert row.name == "G1 SE"
    assert row.verdict == f"contradicted at {FIDELITY}, provisional until the 4x recheck"
    assert row.effect == "-1.36 [-2.05, -0.67]"
    assert row.loss == "+0.042 [+0.026, +0.058]"
    assert (row.up, row.new, row.holm) == ("0/6", "[-3.19, +0.47]", ".016")
    assert row.cost == "MACs +0.0%, latency +6.1%"
    assert (row.detectable, row.recheck) == ("1.21", "pending")
    assert row.published == "+1.40 (J 3a)"


def test_the_recheck_stands_beside_the_short_effect() -> None:
    longer = dense()["verdicts"][0] | {"effect": -0.9, "low": -2.0, "high": 0.2}
    row = rows({"guidelines": dense(rechecks={"factor": 4, "verdicts": [longer]})})[0]
    assert row.recheck == "-0.90 [-2.00, +0.20]"


def test_what_cannot_be_tested_has_a_reason_and_no_number() -> None:
    facts = {"guidelines": flat()}
    row = rows(facts)[2]
    assert row.verdict == "not testable here"
    assert not any((row.effect, row.up, row.new, row.holm, row.cost, row.detectable, row.recheck))
    assert "G3 kernels by stage, not testable here: needs a dense task." in caveats(facts)


def test_a_failed_replication_says_not_at_this_fidelity() -> None:
    said = " ".join(caveats({"guidelines": dense()}))
    assert f"G1: this says 'not at this fidelity' ({FIDELITY}), not that the guideline" in said


@pytest.mark.parametrize("word", ["rewarded", "punished", "not shown"])
def test_the_sanity_question_is_answered(word: str) -> None:
    sanity = {"effect": 3.1, "low": 2.2, "high": 4.0, "word": word}
    text = sanity_text({"guidelines": dense(sanity=sanity)})
    assert "+3.10 points of mIoU, 95 % interval [+2.20, +4.00]" in text


@pytest.mark.parametrize(("value", "text"), [(0.016, ".016"), (1.0, "1.000"), (1e-5, "< .001")])
def test_p_values_are_written_as_in_papers(value: float, text: str) -> None:
    assert chance(value) == text


def test_every_guideline_has_a_published_figure_for_both_metrics() -> None:
    assert {name for name, _ in PUBLISHED} == {"g1", "g2", "g3", "g4"}
    assert len(PUBLISHED) == 8


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_console_table_loses_nothing(width: int) -> None:
    text = shown({"guidelines": dense()}, width)
    assert max(map(len, text.splitlines())) <= width
    flowing = " ".join(text.split())
    for number in ("0/6", ".016", "1.21", "latency -9.4%", "+0.042", "pending"):
        assert number in flowing


def test_a_rechecked_contradiction_says_so() -> None:
    settled = dense()["verdicts"][0] | {"provisional": False}
    row = rows({"guidelines": dense(verdicts=[settled])})[0]
    assert row.verdict == f"contradicted at {FIDELITY}, and at 4 times the length"


def test_a_recheck_of_too_few_blocks_has_no_number() -> None:
    longer = [untested("g1", "1 finished blocks")]
    row = rows({"guidelines": dense(rechecks={"factor": 4, "verdicts": longer})})[0]
    assert row.recheck == "too few blocks"


def test_what_was_held_against_what_and_lost_blocks_are_told() -> None:
    facts = {"guidelines": dense(incomplete=2)}
    assert held_against(facts) == [
        "G1 SE: se in every block, against no extra structure in the blocks."
    ]
    assert "2 blocks did not count: trainings of theirs came to no result." in caveats(facts)


def test_an_early_decision_is_told_with_its_lean() -> None:
    early = dense()["verdicts"][1] | {"decided_at": 8}
    facts = {"guidelines": dense(verdicts=[early])}
    assert rows(facts)[0].verdict.endswith(", decided after 8 blocks")
    assert caveats(facts)[-1].startswith("Effects of guidelines that were decided early")


def test_the_verdicts_of_a_real_study_can_be_shown() -> None:
    rng = np.random.default_rng(0)
    protocol = Protocol(task="classification", metric="accuracy", blocks=6, contexts=6)
    results = []
    for block in range(6):
        levels = block_levels((True,) * 4, block, rng)
        results.append(
            BlockResult(
                block=block,
                levels=levels,
                varied=(True,) * 4,
                scores=80 + levels @ [-3.0, 0.0, 1.0, 0.1] + rng.normal(0, 0.3, len(levels)),
                losses=1 + levels @ [0.1, 0.0, 0.0, 0.0] + rng.normal(0, 0.01, len(levels)),
                latency_ms=1 - 0.1 * levels[:, 3] + rng.normal(0, 0.01, len(levels)),
                macs=np.full(len(levels), 1e6),
            )
        )
    verdicts = [asdict(verdict) for verdict in judge(protocol, results, ended=True)]
    facts = {
        "guidelines": {
            "protocol": protocol.document(),
            "verdicts": verdicts,
            "fidelity": FIDELITY,
            "sanity": None,
            "rechecks": None,
            "sha256": "0f",
        }
    }
    text = " ".join(shown(facts, 160).split())
    assert "contradicted at 2 epochs" in text
    assert "provisional" in text
    assert "G3 kernels by stage, not testable here: needs a dense task" in text
    assert "MACs +0.0%" in text
    assert drawable(facts)
