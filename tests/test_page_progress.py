"""The hypervolume over trials and time: its numbers are the record's, its end is the run's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plotly import graph_objects

from runs.figures import DARK, LIGHT
from runs.history import History
from runs.page.data import report_data
from runs.page.document import Figure, Text
from runs.page.findings import Findings
from runs.page.progress import progress_of, section
from runs.progress_figure import hours_axis
from runs.ranking import hypervolume, objectives_named
from tests.made_runs import NAMES, failed, frame_of, rows
from tests.pages import findings_of

ROLES = ["anchor"] * 3 + ["evidence"] * 4 + ["search"] * 5


def timed(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let trials finish in the order 0, 2, 1, 4, 3, ... one every 6 minutes."""
    return [
        row | {"at_s": 360.0 * (row["trial"] + (1 if row["trial"] % 2 else -1) * (i > 0))}
        for i, row in enumerate(trials)
    ]


@pytest.fixture(scope="module")
def findings() -> Findings:
    lost = {"t4": {"state": "diverged", "accuracy": None, "val_loss": None}}
    trials = [row | {"role": role} for row, role in zip(rows(12, **lost), ROLES, strict=True)]
    return findings_of(frame_of(timed([*trials, failed(12, "no memory")])))


def figure_of(findings: Findings) -> Figure:
    found = section(findings)
    assert found is not None
    figure = found.blocks[0]
    assert isinstance(figure, Figure)
    graph_objects.Figure(figure.chart)  # raises on keys that plotly does not know
    return figure


@pytest.mark.parametrize("names", [NAMES, ("accuracy",), ("accuracy", "latency", "params")])
def test_every_value_is_the_hypervolume_of_what_had_finished(names: tuple[str, ...]) -> None:
    frame = frame_of(timed([*rows(11), failed(11, "no memory")]), names)
    made = findings_of(frame, names)
    found = progress_of(made)
    assert found is not None
    order = frame.sort_values("at_s")
    assert found.trials == order["trial"].tolist()
    objectives, point = objectives_named(names), made.facts["reference_point"]
    expected = [hypervolume(order.head(n + 1), objectives, point) for n in range(len(order))]
    assert found.values == pytest.approx(expected)
    assert found.values[-1] == pytest.approx(made.facts["hypervolume"])
    assert len(set(expected)) > 2


def test_trials_that_brought_nothing_leave_it_where_it_was(findings: Findings) -> None:
    found = progress_of(findings)
    assert found is not None
    states = findings.frame.set_index("trial")["state"]
    lost = [place for place, n in enumerate(found.trials) if states[n] != "complete"]
    assert len(lost) == 2
    assert all(found.values[place] == found.values[place - 1] for place in lost)
    assert not set(lost) & set(found.gained)


def test_a_lucky_repeat_does_not_raise_it() -> None:
    trials = timed(rows(6))
    lucky = trials[2] | {"trial": 6, "repeat": 1, "accuracy": 0.999, "at_s": 5000.0}
    once, again = findings_of(frame_of(trials)), findings_of(frame_of([*trials, lucky]))
    found, without = progress_of(again), progress_of(once)
    assert found is not None
    assert without is not None
    assert found.values.tolist() == [*without.values, without.values[-1]]
    assert found.values[-1] == pytest.approx(again.facts["hypervolume"])


def test_the_chart_and_the_data_say_the_same(findings: Findings) -> None:
    data = report_data(findings)["progress"]
    figure = figure_of(findings)
    assert figure.chart is not None
    line, dots = figure.chart["data"]
    assert line["x"] == list(range(1, 14))
    assert line["y"] == pytest.approx(data["hypervolume"], rel=1e-5)
    assert data["hypervolume"][-1] == pytest.approx(findings.facts["hypervolume"])
    assert data["at_s"] == sorted(data["at_s"]) == sorted(findings.frame["at_s"])
    gained = [n for n in range(13) if data["hypervolume"][n] > ([0.0, *data["hypervolume"]][n])]
    assert dots["x"] == [n + 1 for n in gained]
    ids = findings.frame.set_index("trial")["id"]
    assert dots["customdata"] == [[ids[data["trial"][n]]] for n in gained]
    graph_objects.Figure({"data": [line, dots], "layout": figure.chart["layout"]})


def test_the_switch_goes_from_trials_to_time(findings: Findings) -> None:
    figure = figure_of(findings)
    (switch,) = figure.switches
    trials, hours = switch.options
    assert figure.chart is not None
    assert trials.data["x"][0] == figure.chart["data"][0]["x"]
    assert hours.data["x"][0] == pytest.approx([6 * place for place in range(13)])
    assert hours.data["x"][1] == [hours.data["x"][0][round(n) - 1] for n in trials.data["x"][1]]
    titles = [option.layout["xaxis.title.text"] for option in switch.options]
    assert titles == ["finished trials", "time since the run began, minutes"]


@pytest.mark.parametrize(
    ("hours", "unit", "end"), [(2.0, "hours", 2.0), (1.9, "minutes", 114.0), (0.01, "seconds", 36)]
)
def test_times_have_a_unit_that_suits_them(hours: float, unit: str, end: float) -> None:
    shown, label = hours_axis(np.array([0.0, hours]))
    assert label.endswith(unit)
    assert shown[-1] == pytest.approx(end)


def test_lines_say_where_parts_of_the_run_begin(findings: Findings) -> None:
    data = report_data(findings)["progress"]
    roles = findings.frame.set_index("trial")["role"]
    first: dict[str, int] = {}
    for place, trial in enumerate(data["trial"]):
        first.setdefault(roles[trial], place)
    words = {"anchor": "warm start", "evidence": "guideline study", "search": "search"}
    assert data["begins"] == {words[role]: place for role, place in first.items()}
    figure = figure_of(findings)
    assert figure.chart is not None
    layout = figure.chart["layout"]
    said = {note["text"]: note["x"] - 1 for note in layout["annotations"]}
    assert said == data["begins"]
    assert [shape["x0"] - 1 for shape in layout["shapes"]] == list(said.values())


def test_trials_without_times_go_by_their_numbers() -> None:
    found = findings_of(frame_of(rows(6)))
    data = report_data(found)["progress"]
    assert data["trial"] == list(range(6))
    assert data["at_s"] is None
    assert figure_of(found).switches == []


def test_times_of_a_resumed_run_add_up() -> None:
    def asked(number: int) -> dict[str, Any]:
        row = rows(4)[number]
        kept = {key: row[key] for key in ("trial", "role", "id", "seed", "architecture")}
        return {"event": "asked", **kept, "at_s": 1.0}

    def done(number: int, at_s: float) -> dict[str, Any]:
        return {"event": "done", "trial": number, "state": "complete", "at_s": at_s}

    history = History(
        [
            *({"event": "session"}, asked(0), asked(1), done(0, 5.0), done(1, 9.5)),
            *({"event": "finished", "at_s": 12.0}, {"event": "session"}),
            *(asked(2), done(2, 4.25), {"event": "session"}, asked(3), done(3, 2.0)),
        ]
    )
    assert [row["at_s"] for row in history.rows()] == [5.0, 9.5, 16.25, 18.25]


@pytest.mark.parametrize("narrow", [False, True])
def test_the_picture_has_the_numbers_of_the_chart(findings: Findings, *, narrow: bool) -> None:
    figure = figure_of(findings)
    assert figure.draw is not None
    assert figure.chart is not None
    parts = figure.draw(DARK if narrow else LIGHT, narrow=narrow).axes
    (switch,) = figure.switches
    for axes, option in zip(parts, switch.options, strict=True):
        line = axes.lines[0]
        assert line.get_drawstyle() == "steps-post"
        assert list(np.asarray(line.get_xdata())) == pytest.approx(option.data["x"][0], rel=1e-5)
        shown = list(np.asarray(line.get_ydata()))
        assert shown == pytest.approx(figure.chart["data"][0]["y"], rel=1e-5)
        assert axes.get_xlabel() == option.layout["xaxis.title.text"]


@pytest.mark.parametrize(
    "trials",
    [[], [failed(0, "x")], [row | {"latency_ms": None} for row in rows(3)]],
    ids=["nothing", "failed", "no latency"],
)
def test_a_run_without_a_hypervolume_has_no_such_section(trials: list[dict[str, Any]]) -> None:
    found = findings_of(frame_of(trials))
    assert section(found) is None
    assert not any((report_data(found)["progress"] or {"hypervolume": []})["hypervolume"])


@pytest.mark.parametrize("names", [NAMES, ("accuracy", "macs"), ("accuracy",), ("macs", "params")])
@pytest.mark.parametrize("count", [1, 4])
def test_few_and_equal_trials_have_one(names: tuple[str, ...], count: int) -> None:
    equal = {"accuracy": 0.5, "latency_ms": 1.0, "macs": 9, "params": 9}
    found = findings_of(frame_of([row | equal for row in rows(count)], names), names)
    figure = figure_of(found)
    assert figure.chart is not None
    assert len(figure.chart["data"][1]["x"]) == 1


def test_the_words_date_most_of_it_and_name_the_latencies(findings: Findings) -> None:
    found = section(findings)
    progress = progress_of(findings)
    assert found is not None
    assert progress is not None
    said = " ".join(block.text for block in found.blocks if isinstance(block, Text))
    place = next(n for n, v in enumerate(progress.values) if v >= 0.95 * progress.values[-1])
    assert f"reached after {place + 1} of 13 finished trials, {6 * place:.3g} of 72 minutes" in said
    assert "measured again" in said


def test_thousands_of_trials_are_quick_and_only_gains_count() -> None:
    rng = np.random.default_rng(0)
    number = 3000
    frame = frame_of(rows(1)).iloc[[0] * number].reset_index(drop=True)
    frame["trial"] = range(number)
    frame["accuracy"], frame["latency_ms"] = rng.random(number), 0.1 + rng.random(number)
    found = progress_of(findings_of(frame))
    assert found is not None
    assert found.values[-1] == pytest.approx(findings_of(frame).facts["hypervolume"])
    assert len(found.gained) < 100
