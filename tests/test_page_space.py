"""What a report says of the space: importance, parallel coordinates, sub-spaces."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from evaluators.edf import Comparison, compared
from evaluators.importance import Importance, Share
from runs.figures import DARK, LIGHT
from runs.page import importance, parallel, subspaces
from runs.page.data import report_data
from runs.page.document import Block, Details, Figure, Section, Table, Text
from runs.page.findings import Findings
from runs.space_views import GROUPS, MOST_LINES, lines, span, steps
from search_space.features import Feature
from search_space.predicates import parse_predicate
from tests.made_runs import frame_of, networks, rows
from tests.pages import EVIL, findings_of

SECTIONS = (importance.section, parallel.section, subspaces.section)


@pytest.fixture(scope="module")
def findings() -> Findings:
    """Give 40 networks; one diverged, one was trained again."""
    trials = rows(40, t5={"state": "diverged", "accuracy": None, "val_loss": None})
    again = trials[7] | {"trial": 40, "role": "confirm", "repeat": 1, "accuracy": 0.9}
    return findings_of(frame_of([*trials, again]))


@pytest.fixture(scope="module")
def made(findings: Findings) -> dict[str, Section]:
    """Make every section once."""
    found = [section(findings) for section in SECTIONS]
    return {section.key: section for section in found if section is not None}


def blocks_of(section: Section, kind: type) -> list[Any]:
    """Give the blocks of a kind, those that are folded away too."""

    def walk(blocks: Any) -> list[Block]:
        return [
            inner
            for block in blocks
            for inner in ([block, *walk(block.blocks)] if isinstance(block, Details) else [block])
        ]

    return [block for block in walk(section.blocks) if isinstance(block, kind)]


def test_each_network_counts_once_with_the_mean_of_its_trainings(findings: Findings) -> None:
    found = findings.networks
    assert sorted(found.ids) == sorted(a.id for a in networks(40))
    trials = {row["id"]: row for row in rows(40)}
    for network, score, macs in zip(found.ids, found.scores, found.macs, strict=True):
        row = trials[network]
        wanted = {5: 0.5, 7: (row["accuracy"] + 0.9) / 2}.get(row["trial"], row["accuracy"])
        assert score == pytest.approx(wanted)  # of two classes one is right by chance
        assert macs == row["macs"]
    assert [found.ids[i] for i in np.flatnonzero(found.diverged).tolist()] == [networks(6)[5].id]
    assert len(found.sound().ids) == len(found.sound().scores) == 39


def test_every_figure_is_plain_draws_and_says_how_to_read_it(made: dict[str, Section]) -> None:
    assert list(made) == ["importance", "parallel", "subspaces"]
    figures = [figure for section in made.values() for figure in blocks_of(section, Figure)]
    assert [figure.key for figure in figures] == [
        *("importance", "parallel", "subspace-1", "subspace-2", "subspace-3")
    ]
    for figure in figures:
        assert figure.reading.count(".") == 1
        assert figure.alt
        json.dumps(figure.chart, allow_nan=False)
        go.Figure(figure.chart)
    for figure, theme, narrow in zip(
        figures[:3], (LIGHT, DARK, DARK), (True, False, True), strict=True
    ):
        figure.draw(theme, narrow=narrow).savefig(io.BytesIO(), dpi=20)


def test_the_table_of_importance_is_its_chart(made: dict[str, Section]) -> None:
    (figure,), (table,) = (blocks_of(made["importance"], kind) for kind in (Figure, Table))
    for place, trace in enumerate(figure.chart["data"]):
        assert trace["text"] == [row.cells[0].text for row in table.rows]
        wanted = [row.cells[1 + place].value for row in table.rows]
        assert trace["x"] == pytest.approx(wanted, abs=1e-4)


def test_the_data_hold_what_is_shown(findings: Findings, made: dict[str, Section]) -> None:
    told = report_data(findings)
    json.dumps(told, allow_nan=False)
    assert [one["chosen_by_program"] for one in told["comparisons"]] == [True] * 3
    (table,) = blocks_of(made["importance"], Table)
    assert [one["axis"] for one in told["importance"]["axes"]] == [
        row.cells[0].text for row in table.rows
    ]
    assert told["importance"]["axes"][0]["permutation"]["value"] == table.rows[0].cells[1].value
    assert told["importance"]["readable"] == (told["importance"]["r2"] >= 0.2)
    asked = ["stages[0].kernel >= 9", "block == 'slak'"]
    first, second = subspaces.comparison_data(replace(findings, predicates=asked))
    assert first["predicate"] == asked[0]
    assert first["inside"]["shares"][-1] == first["outside"]["shares"][-1] == 1
    assert len(first["inside"]["errors"]) == len(first["inside"]["shares"])
    assert second == {
        "predicate": "block == 'slak'",
        "chosen_by_program": False,
        "reason": "one side has 0 networks; a comparison needs 5 on each",
    }


def test_importance_that_cannot_be_read_is_marked() -> None:
    share = Share(value=0.5, low=0.4, high=0.6)
    found = Importance(
        names=("shared.structure", "block"),
        permutation=(share, share),
        ped_anova=(share, share),
        r2=0.1,
        r2_low=-0.05,
        r2_high=0.19,
        networks=900,
        used=400,
    )
    text, figure, method, _ = importance.shown(found, diverged=3)
    assert isinstance(text, Text)
    assert isinstance(figure, Figure)
    assert isinstance(method, Text)
    assert text.text.startswith("DO NOT READ: from these axes a random forest hardly predicts")
    assert "held-out R2 0.10, -0.05 to 0.19 over repeated cross-validation" in text.text
    assert figure.chart is not None
    mark = "<b>do not read</b> (held-out R2 0.10)"
    assert figure.chart["layout"]["annotations"][0]["text"] == mark
    assert figure.alt.startswith("Not to be read")
    assert method.text.endswith(
        "A seeded choice of 400 of 900 networks was used. Diverged networks (3) are left out."
    )
    assert figure.draw is not None
    title = figure.draw(LIGHT, narrow=False).axes[0].get_title(loc="right")
    assert title == "do not read"


def test_importance_that_cannot_be_had_says_why() -> None:
    few = importance.section(findings_of(frame_of(rows(8))))
    assert few is not None
    assert [block.text for block in blocks_of(few, Text)] == [
        "Importance is not estimated: 8 networks are too few to tell axes apart; 20 are needed."
    ]


def test_parallel_lines_end_at_the_scores(findings: Findings, made: dict[str, Section]) -> None:
    (figure,) = blocks_of(made["parallel"], Figure)
    data, layout = figure.chart["data"], figure.chart["layout"]
    count = len(layout["yaxis"]["ticktext"])
    assert layout["yaxis"]["ticktext"][-3:] == [
        *("multiply-adds, millions", "latency, ms", "val. accuracy, %")
    ]
    assert [trace.get("name") for trace in data] == [*(name for name, *_ in GROUPS), None, None]
    assert sum(place is None for place in data[-2]["x"]) >= count
    assert "var(--ground)" in data[-1]["textfont"]["shadow"]
    found = findings.networks.sound()
    scores = dict(zip(found.ids, found.scores, strict=True))
    low, high = found.scores.min(), found.scores.max()
    ends: dict[str, float] = {}
    for trace in data[:-2]:
        last = slice(count - 1, None, count + 1)
        ends |= {
            network: x
            for (network,), x in zip(trace["customdata"][last], trace["x"][last], strict=True)
        }
    assert ends.keys() == scores.keys()
    for network, end in ends.items():
        assert end == pytest.approx((scores[network] - low) / (high - low), abs=6e-4)
    best = {one[0] for one in data[2]["customdata"] if one}
    assert best == set(sorted(scores, key=lambda n: scores[n])[-4:])


def test_lines_of_a_value_lie_side_by_side_in_the_order_of_scores() -> None:
    axis = Feature(name="stages[0].kernel", values=(3, 9, 3, 9, 3), ordered=True)
    score = np.array([0.5, 0.1, 0.4, 0.2, 0.3])
    drawn = lines([axis], [("score", score, ".1f")], "abcde")
    places = dict(zip(drawn.ids, drawn.rows[0].places, strict=True))
    assert places["e"] < places["c"] < places["a"] < 0.5 < places["b"] < places["d"]
    assert drawn.rows[0].ticks == ((0.25, "3"), (0.75, "9"))
    for (low, high), members in zip(drawn.rows[0].bars, ("eca", "bd"), strict=True):
        assert all(low < places[one] < high for one in members)
    assert drawn.rows[1].bars == ((0.0, 1.0),)
    assert drawn.rows[1].ticks == ((0.0, "0.1"), (1.0, "0.5"))
    assert list(drawn.ids) == ["b", "d", "e", "c", "a"]


def test_many_lines_are_thinned_out_but_the_best_stay() -> None:
    count = 2000
    rng = np.random.default_rng(0)
    axis = Feature(name="x", values=tuple(range(count)), ordered=True)
    score = rng.random(count)
    drawn = lines([axis], [("score", score, ".1f")], [str(i) for i in range(count)])
    assert len(drawn.ids) == MOST_LINES
    assert drawn.networks == count
    best = {str(i) for i in np.argsort(score)[-200:]}
    assert {drawn.ids[i] for i in drawn.of(2)[1]} == best
    assert drawn.rows[0].ticks == ((0.0, "0"), (1.0, "1999"))
    assert len(set(drawn.ids)) == MOST_LINES


def test_a_comparison_shows_the_numbers_of_its_table(
    findings: Findings, made: dict[str, Section]
) -> None:
    asked = replace(findings, predicates=["stages[0].kernel >= 9"])
    section = subspaces.section(asked)
    assert section is not None
    (figure,), (table,) = (blocks_of(section, kind) for kind in (Figure, Table))
    found = findings.networks
    predicate = parse_predicate("stages[0].kernel >= 9")
    inside = np.array([predicate(a) for a in found.architectures])
    wanted = compared(1 - found.scores, found.macs, inside)
    assert isinstance(wanted, Comparison)
    for row, side, trace in zip(
        table.rows, (wanted.inside, wanted.outside), figure.chart["data"][2::3], strict=True
    ):
        assert [cell.value for cell in row.cells[1:]] == [
            *(side.networks, side.matched, side.effective, side.mean, side.least)
        ]
        assert trace["x"][1:-1] == pytest.approx(100 * side.errors, rel=1e-5)
        assert trace["y"] == pytest.approx([0, *side.shares, 1], abs=1e-4)
    assert [row.cells[0].text for row in table.rows] == ["stages[0].kernel >= 9", "all others"]
    said = " ".join(block.text for block in blocks_of(section, Text))
    assert "not a test of a guideline" in said
    assert f"a difference of means of {100 * wanted.visible:.2f} points in four of five" in said
    assert "chosen by the program" not in said
    assert f"p = {wanted.p_value:.2g}" in said
    assert "chosen by the program" in blocks_of(made["subspaces"], Text)[0].text


def test_chosen_comparisons_divide_the_networks_and_differ() -> None:
    drawn = networks(60)
    asked = subspaces.chosen(drawn)
    assert len(asked) == 3
    flags = [tuple(predicate(a) for a in drawn) for predicate in asked]
    assert all(10 <= sum(row) <= 50 for row in flags)
    assert len({frozenset({row, tuple(not one for one in row)}) for row in flags}) == 3
    assert subspaces.chosen(drawn[:12]) == []


def test_a_side_without_networks_is_said_and_its_text_is_escaped(findings: Findings) -> None:
    evil = f"block == 'slak' and not shared.structure in ['se', 'none'] # {EVIL}"
    section = subspaces.section(replace(findings, predicates=[evil]))
    assert section is not None
    assert blocks_of(section, Text)[1].text == (
        f"{evil}: not compared, one side has 0 networks; a comparison needs 5 on each."
    )
    shown = subspaces.section(replace(findings, predicates=[f"stages[0].kernel >= 9 # {EVIL}"]))
    assert shown is not None
    (figure,) = blocks_of(shown, Figure)
    assert "<script>" not in json.dumps(figure.chart)


def test_a_long_predicate_is_cut_in_the_legend_only(findings: Findings) -> None:
    asked = "stages[0].kernel >= 9" + " and depth > 0" * 8
    section = subspaces.section(replace(findings, predicates=[asked]))
    assert section is not None
    (figure,), (table,) = (blocks_of(section, kind) for kind in (Figure, Table))
    assert figure.chart["data"][2]["name"].startswith(f"{asked[:57].replace('>', '&gt;')}... (")
    assert table.rows[0].cells[0].text == asked


@pytest.mark.parametrize("count", [0, 1, 25])
def test_runs_that_have_little_or_nothing_to_say(count: int) -> None:
    trials = rows(count)
    equal = [row | {"accuracy": 0.8, "latency_ms": None, "macs": 1000} for row in trials]
    lost = [row | {"state": "diverged", "accuracy": None} for row in trials]
    broken = [row | {"state": "failed", "accuracy": None} for row in trials]
    for some in (trials[: min(count, 2)], equal, lost, broken):
        told = findings_of(frame_of(some))
        for asked in (told, replace(told, predicates=["depth > 2"])):
            for section in SECTIONS:
                found = section(asked)
                for figure in [] if found is None else blocks_of(found, Figure):
                    json.dumps(figure.chart, allow_nan=False)


def test_two_networks_make_a_picture() -> None:
    section = parallel.section(findings_of(frame_of(rows(2))))
    assert section is not None
    (figure,) = blocks_of(section, Figure)
    figure.draw(LIGHT, narrow=False)
    assert [trace["name"] for trace in figure.chart["data"][:-2]] == ["lower half", "upper half"]


def test_a_picture_leaves_a_few_failures_to_the_right() -> None:
    error = np.append(np.linspace(0.2, 0.3, 60), 0.9)
    found = compared(error, np.ones(61), np.arange(61) % 2 == 0)
    assert isinstance(found, Comparison)
    sides = [found.inside, found.outside]
    assert span(sides)[1] > 0.9
    assert span(sides, 0.95)[1] < 0.35
    told = steps(found.inside, span(sides))
    assert (told.shares[0], told.shares[-1]) == (0, 1)
    assert told.low[-1] == pytest.approx(1 - found.inside.band)
    assert isinstance(told.errors, np.ndarray)
    assert pd.Series(told.errors).is_monotonic_increasing


def test_of_many_comparisons_the_first_are_drawn_and_all_are_told(findings: Findings) -> None:
    asked = [f"stages[0].kernel >= 9 # {number}" for number in range(subspaces.MOST_DRAWN + 2)]
    section = subspaces.section(replace(findings, predicates=asked))
    assert section is not None
    assert len(blocks_of(section, Figure)) == subspaces.MOST_DRAWN
    assert len(blocks_of(section, Table)) == len(asked)
    assert "Only the first 12 comparisons are drawn." in blocks_of(section, Text)[-1].text
