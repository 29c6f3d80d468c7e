"""What is said and drawn of the rungs, and that nothing of a lower rung is ranked."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from rich.console import Console as Terminal

from evaluators.cost import cost
from runs.console import closing_lines
from runs.figures import LIGHT
from runs.history import History, Trial
from runs.method_text import halving_text
from runs.plan import Plan
from runs.ranking import measured, trials_frame
from runs.rung_facts import rung_facts
from runs.rung_figure import NARROW, rung_figure
from runs.rung_table import agreement_lines, console_table, section
from runs.standings import leaders_of, ranked, recommended
from runs.wording import MISSING, amount, length_text
from tests.made_runs import facts_of, frame_of, rows
from tests.pages import read
from tests.played import planned, played

DIVERGING = 5
"""Number of a trial that goes on from the lowest rung and diverges."""


def score(trial: Trial, _: np.random.Generator) -> dict[str, Any]:
    """Larger networks are better, and scores of lower rungs higher: they must not be ranked."""
    size = float(np.log(cost(trial.architecture, 10).params_inference))
    # All trainings of a network have its seed, but not the same luck.
    luck = np.random.default_rng((trial.seed, trial.rung or 0)).normal(scale=2)
    found = {"accuracy": (3 * size + luck - 10 * float(trial.length)) / 100}
    found |= {"val_loss": 1.0 + float(trial.length), "seconds": 9.0}
    if trial.number == DIVERGING:
        return {**found, "state": "diverged", "accuracy": None, "val_loss": None}
    return found


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned(budget=16, fidelity="halving", objectives=("accuracy", "macs"), confirm=4)


@pytest.fixture(scope="module")
def history(plan: Plan) -> History:
    return played(plan, score)


@pytest.fixture(scope="module")
def facts(plan: Plan, history: History) -> dict[str, Any]:
    frame = ranked(plan, history)
    found = facts_of(frame, ("accuracy", "macs"), rungs=rung_facts(plan, history))
    return found | {"settings": found["settings"] | {"halving_factor": 3}}


def test_the_rungs_add_up_to_the_budget(plan: Plan, history: History) -> None:
    found = rung_facts(plan, history)
    first, second, last = found["rows"]
    assert first["spent"] == pytest.approx(first["trained"] / 9)
    assert second["spent"] == pytest.approx(2 * second["trained"] / 9)
    assert last["spent"] == pytest.approx(2 * last["trained"] / 3)
    assert found["beside"] == {"trained": 4, "spent": 4.0}
    assert sum(row["spent"] for row in (*found["rows"], found["beside"])) == pytest.approx(16)
    assert first["went_on"] == second["trained"]
    assert second["went_on"] == last["trained"] > 0
    assert [row["diverged"] for row in found["rows"]] == [0, 1, 0]
    by_rung = [[t for t in history.done if t.rung == rung] for rung in range(3)]
    assert [row["trained"] for row in found["rows"]] == [len(trials) for trials in by_rung]
    best = [max(t.result["accuracy"] or 0 for t in trials) for trials in by_rung]
    assert [row["best"] for row in found["rows"]] == best


def test_agreement_is_between_the_scores_of_one_network_at_both_rungs(
    plan: Plan, history: History
) -> None:
    lower, upper = rung_facts(plan, history)["agreement"]
    row = rung_facts(plan, history)["rows"][1]
    assert lower["networks"] == row["trained"] - row["diverged"]
    assert 0.5 < lower["value"] < 1
    assert lower["low"] < lower["value"] < lower["high"]
    assert upper["lengths"] == pytest.approx([1 / 3, 1])
    assert rung_facts(planned(budget=4), History()) == {}


def test_only_full_length_is_ranked(plan: Plan, history: History) -> None:
    frame = ranked(plan, history)
    assert set(frame.loc[frame["rank"].notna(), "state"]) == {"complete"}
    assert set(frame.loc[frame["state"] == "complete", "length"]) == {1.0}
    stopped = frame[frame["state"] == "stopped"]
    assert len(stopped) == history.counts["stopped"] > 10
    assert stopped[["rank", "front_rank", "estimate"]].isna().all(axis=None)
    assert not stopped["on_front"].any()
    # One that diverged at a lower rung has no place either.
    lost = frame[frame["state"] == "diverged"]
    assert lost["trial"].tolist() == [DIVERGING]
    assert lost[["rank", "front_rank"]].isna().all(axis=None)
    assert not history.trials[DIVERGING].counts
    # The scores of the lower rungs are the highest of the run.
    whole = {t.id for t in history.done if t.state == "complete"}
    assert set(leaders_of(plan, history)) == whole
    best = recommended(plan, history)
    assert best is not None
    assert best.state == "complete"


def test_a_latency_that_was_taken_over_counts_once(plan: Plan, history: History) -> None:
    frame = ranked(plan, history)
    found = measured(frame)
    searched = found[found["role"] != "confirm"]
    assert sorted(searched["id"]) == sorted({t.id for t in history.done})
    assert len(found) == len(searched) + 4
    old = frame_of(rows(3))
    assert len(measured(old)) == len(measured(old.drop(columns="continues"))) == 3


def test_rows_of_before_there_were_rungs_have_the_columns_empty() -> None:
    frame = trials_frame(rows(2))
    assert frame[["rung", "length", "continues"]].isna().all(axis=None)


def test_the_page_says_what_each_rung_came_to(facts: dict[str, Any]) -> None:
    found = section(facts)
    assert found is not None
    assert [row[0] for row in found["rows"]] == ["1/9", "1/3", "1", "1, beside the rungs"]
    assert found["rows"][-1][2] == "4"
    assert found["rows"][2][4] == MISSING
    assert sum(float(row[-1].rstrip("%")) for row in found["rows"]) == pytest.approx(100, abs=0.3)
    assert found["rule"].startswith("Every network of the search began with 1/9 of a training. At")
    below, above, *_ = found["agreement"]
    assert below.startswith("Kendall's tau between the scores at 1/9 and at 1/3 of the length: 0.")
    assert "at 1/3 and at the full length" in above
    assert section(facts | {"rungs": {}}) is None


def test_too_few_networks_have_no_agreement() -> None:
    unknown = [{"lengths": [1 / 9, 1 / 3], "networks": 2, "value": float("nan")}]
    assert agreement_lines({"rungs": {"agreement": unknown}}) == []


def test_the_terminal_shows_the_same_table(facts: dict[str, Any]) -> None:
    shown, table = io.StringIO(), console_table(facts)
    assert table is not None
    Terminal(file=shown, width=100).print(table)
    lines = shown.getvalue().splitlines()
    assert lines[2].split()[:3] == ["length", "epochs", "trained"]
    assert lines[3].startswith("1/9 ")
    assert console_table(facts | {"rungs": None}) is None


def test_a_line_a_network_in_colour_where_it_reached_the_top(plan: Plan, history: History) -> None:
    frame = ranked(plan, history)
    axes = rung_figure(frame).axes[0]
    whole = [t for t in history.done if t.state == "complete" and t.rung is not None]
    assert len(axes.lines) == len(whole)
    for line in axes.lines:
        assert list(line.get_xdata()) == pytest.approx([1 / 9, 1 / 3, 1])
        assert to_hex(line.get_color()) != LIGHT.trial
    network = next(t for t in whole if t.result["accuracy"] == axes.lines[0].get_ydata()[-1])
    scores = [t.result["accuracy"] for t in history.networks[network.id] if t.rung is not None]
    assert list(axes.lines[0].get_ydata()) == scores
    (stopped,) = axes.collections[:1]
    ids = {t.id for t in history.done if t.state == "stopped"} - {t.id for t in whole}
    assert len(stopped.get_paths()) == len(ids)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1/9", "1/3", "1"]


def test_a_run_that_was_killed_early_can_be_drawn(plan: Plan) -> None:
    for count in (0, 1, 4):
        early = played(plan, score, at_once=1, until=count)
        assert rung_figure(ranked(plan, early), size=NARROW).axes


def test_numbers_of_trainings_have_a_digit_only_where_they_are_not_whole() -> None:
    assert [amount(n) for n in (37, 37.0, 37.333, 1200.5)] == ["37", "37", "37.3", "1,200.5"]
    assert [length_text(n) for n in (1 / 9, 1 / 3, 1.0, 1 / 100)] == ["1/9", "1/3", "1", "1/100"]


def test_the_method_names_the_lengths() -> None:
    assert halving_text({}) == ""
    assert halving_text({"fidelity": "halving", "halving_factor": 4}).startswith(
        "halving, to 1/16, 1/4 and all of the length, one in 4 goes on"
    )


def test_a_part_of_a_training_is_named_beside_the_budget() -> None:
    frame = frame_of(rows(3))
    lines = closing_lines(facts_of(frame, spent=37.333, budget=200), frame)
    assert lines[0].startswith("37.3 of 200 trainings of 3 distinct networks; ")
    lines = closing_lines(facts_of(frame, spent=200, budget=200), frame)
    assert lines[0].startswith("200 trainings of 3 distinct networks; ")
    counts = {"counts": {"complete": 3, "stopped": 54, "infeasible": 1}}
    lines = closing_lines(facts_of(frame, **counts), frame)
    assert "; 54 stopped, 0 duplicate, 0 rejected, 0 failed, 1 infeasible, 0 " in lines[0]


def test_the_page_of_a_run_with_halving_has_its_section(
    plan: Plan, history: History, facts: dict[str, Any]
) -> None:
    frame, names = ranked(plan, history), ("accuracy", "macs")
    found = read(frame, names, **facts)
    assert "rungs" in {attributes.get("id") for _, attributes in found.tags}
    assert "which went through all rungs" in found.text
    assert "Every ranked score is after" in found.text
    assert len(found.table("Trainings by the rung")) == 4
    assert "The rungs" not in read(frame, names, **facts | {"rungs": {}}).text
