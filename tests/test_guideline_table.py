"""The table of the guidelines on a terminal and for the page."""

from __future__ import annotations

import io
from dataclasses import asdict

import numpy as np
import pytest
from rich.console import Console

from evaluators.evidence import BlockResult, Protocol, block_levels, judge
from runs.guideline_figure import drawable
from runs.guideline_table import WIDE, console_table, section
from tests.made_evidence import FIDELITY, dense


def shown(facts: dict, width: int) -> str:
    table = console_table(facts, width)
    assert table is not None
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_a_run_without_evidence_has_no_table() -> None:
    for facts in ({}, {"guidelines": None}, {"guidelines": {"verdicts": []}}):
        assert console_table(facts, 100) is None
        assert section(facts) is None


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_console_table_loses_nothing(width: int) -> None:
    text = shown({"guidelines": dense()}, width)
    assert max(map(len, text.splitlines())) <= width
    flowing = " ".join(text.split())
    assert "…" not in text
    for number in ("0/6", ".016", "1.21", "latency -9.4%", "[-12.0, -7.0]", "+0.042", "pending"):
        assert number in flowing


@pytest.mark.parametrize("width", [80, WIDE - 1, WIDE])
def test_the_longest_rows_fit(width: int) -> None:
    settled = dense()["verdicts"][0] | {"provisional": False}
    rechecks = {"factor": 4.0, "blocks": 4, "verdicts": [settled | {"effect": -1.11}]}
    text = shown({"guidelines": dense(verdicts=[settled], rechecks=rechecks)}, width)
    for words in ("contradicted", "-1.36 [-2.05, -0.67]", "-1.11 [-2.05", "+1.40 (J 3a)", "[+5.0"):
        assert words in text
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_the_table_then_what_a_reader_needs_then_the_legend(width: int) -> None:
    text = " ".join(shown({"guidelines": dense()}, width).split())
    order = (
        "effect [95 % CI]",
        "This task rewards large kernels",
        "this says 'not at",
        "Effects are",
    )
    places = [text.index(words) for words in order]
    assert places == sorted(places)


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
            "diverged": None,
            "incomplete": 0,
            "sha256": "0f",
        }
    }
    text = " ".join(shown(facts, 160).split())
    assert "contradicted at 2 epochs" in text
    assert "provisional" in text
    assert "G3 kernels by stage, not testable here: needs a dense task" in text
    assert "MACs +0.0%" in text
    assert drawable(facts)
