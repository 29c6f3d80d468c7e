"""Comparing runs: what is read, what may be compared, what comes out, and that it is right."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from runs import session
from runs.cli import cli
from runs.compare.command import table
from runs.compare.facts import facts, notes
from runs.compare.groups import group
from runs.compare.measures import Comparison, band, compare
from runs.compare.page import document
from runs.compare.pictures import drawn_name
from runs.compare.reading import Run, read_runs
from runs.compare.series import logarithmic, run_series, staircase, styles
from runs.figures import LIGHT
from runs.history import History
from runs.page.document import Table, figures
from runs.ranking import OBJECTIVES
from runs.records import Records, decode, encode, read_events
from runs.standings import recommended
from search_space.errors import ReplkError, RunError
from tests.compared_runs import DATA, DEVICE, made_run
from tests.micro import Inputs

pytest_plugins = ["tests.micro_fixtures"]

MACS = {"objectives": ("accuracy", "macs")}


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six seeds of two samplers; what `random` finds is better."""
    folder = tmp_path_factory.mktemp("twelve")
    return [
        made_run(
            folder / f"{sampler}{seed}", seed=seed, gain=gain, sampler=sampler, trials=6, **MACS
        )
        for sampler, gain in (("tpe", 0.0), ("random", 0.04))
        for seed in range(6)
    ]


@pytest.fixture(scope="module")
def loaded(twelve: list[Path]) -> list[Run]:
    return read_runs(twelve)


@pytest.fixture(scope="module")
def compared(loaded: list[Run]) -> Comparison:
    return compare(loaded)


@pytest.fixture(scope="module")
def said(compared: Comparison) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(facts(compared), allow_nan=False))
    return found


def refusal(paths: list[Path], *wanted: str) -> str:
    with pytest.raises(RunError) as caught:
        compare(read_runs(paths), wanted)
    return str(caught.value)


def typed(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, words)])


# What is read.


def test_runs_are_named_by_the_end_of_their_path_that_differs(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    paths = [
        made_run(tmp_path / "a" / "run", seed=1, trials=2),
        made_run(tmp_path / "b" / "run", seed=2, trials=2),
    ]
    assert [run.name for run in read_runs(paths)] == ["a/run", "b/run"]


def test_a_run_twice_and_a_copy_of_one_are_refused(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", trials=2)
    assert "must be two runs or more, got 1" in refusal([run])
    assert f"must differ, got {run / '..' / 'run'} twice" in refusal([run, run / ".." / "run"])
    copy = shutil.copytree(run, tmp_path / "copy")
    assert f"{copy} is a copy of {run}" in refusal([run, copy])


def test_what_is_no_run_is_refused_by_name(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", trials=2)
    assert f"{tmp_path / 'gone'}: must hold trials.jsonl" in refusal([run, tmp_path / "gone"])
    newer = made_run(tmp_path / "newer", seed=1, trials=2)
    record = newer / "trials.jsonl"
    lines = record.read_bytes().splitlines()
    header = decode(lines[0])
    assert header is not None
    header.pop("crc", None)
    record.write_bytes(encode({**header, "schema": 99}) + b"\n".join(lines[1:]) + b"\n")
    assert "a newer replk-search wrote it" in refusal([run, newer])


def test_a_damaged_run_is_compared_by_what_is_left(tmp_path: Path) -> None:
    whole = made_run(tmp_path / "whole", seed=1)
    hurt = made_run(tmp_path / "hurt", seed=2)
    (hurt / "run.yaml").unlink()
    lines = (hurt / "trials.jsonl").read_bytes().splitlines(keepends=True)
    lines[11] = lines[11].replace(b"accuracy", b"acuracy!")
    (hurt / "trials.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    (hurt / ".trials.count").write_bytes(b"%012d\n" % len(lines))
    found = compare(read_runs([whole, hurt]))
    assert [len(own.frame) for own in found.runs] == [8, 6]
    assert any(line.startswith("hurt has lost 2 events to damage") for line in notes(found))


def test_a_run_without_a_complete_trial_is_left_out_in_words(tmp_path: Path) -> None:
    paths = [made_run(tmp_path / f"run{seed}", seed=seed, trials=3) for seed in (1, 2)]
    failed = made_run(tmp_path / "failed", seed=3, trials=2, state="failed")
    empty = made_run(tmp_path / "empty", seed=4, trials=0)
    found = compare(read_runs([*paths, failed, empty]))
    assert [own.run.name for own in found.runs] == ["run1", "run2"]
    assert found.left_out == (
        "failed is left out: none of its 2 trials is complete.",
        "empty is left out: none of its 0 trials is complete.",
    )
    assert "two runs or more must have complete trials; failed is left" in refusal(
        [paths[0], failed]
    )


# What may be compared.


def test_other_data_or_another_task_is_refused_with_both_named(tmp_path: Path) -> None:
    ours = made_run(tmp_path / "ours", trials=2)
    other = {"data": {**DATA, "name": "dots", "sha256": "cd" * 32}}
    theirs = made_run(tmp_path / "theirs", trials=2, seed=1, facts=other)
    text = refusal([ours, theirs])
    assert "data must be the same in all runs, got ours: shapes (3,000 + 600 images" in text
    assert "theirs: dots" in text
    small = made_run(
        tmp_path / "small", trials=2, seed=1, facts={"data": {**DATA, "size": [14, 14]}}
    )
    assert "14x14 px" in refusal([ours, small])


def test_latency_of_another_device_gives_way_to_multiply_adds(tmp_path: Path) -> None:
    ours = made_run(tmp_path / "ours", trials=4)
    theirs = made_run(
        tmp_path / "theirs", trials=4, seed=1, facts={"device": {**DEVICE, "name": "Xeon"}}
    )
    found = compare(read_runs([ours, theirs]))
    assert [own.name for own in found.objectives] == ["accuracy", "macs"]
    text = " ".join(notes(found))
    assert "Latency is left out" in text
    assert "device differs: EPYC (cpu) 1 thread in ours; Xeon (cpu) 1 thread in theirs" in text
    assert "latency must be measured alike, but device differs" in refusal(
        [ours, theirs], "accuracy", "latency"
    )
    chosen = compare(read_runs([ours, theirs]), ["accuracy", "params"])
    assert [own.name for own in chosen.objectives] == ["accuracy", "params"]


@pytest.mark.parametrize(
    "settings", [{"latency_batch": 4}, {"latency_backend": "onnxruntime"}], ids=str
)
def test_latency_that_was_timed_otherwise_is_not_compared(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    paths = [
        made_run(tmp_path / "one", trials=2),
        made_run(tmp_path / "two", trials=2, seed=1, **settings),
    ]
    found = compare(read_runs(paths))
    assert "latency" not in [own.name for own in found.objectives]
    assert found.grounds.differences[0].what.startswith("latency b")


def test_a_machine_that_was_slower_is_told_of_where_latency_counts(tmp_path: Path) -> None:
    paths = [
        made_run(tmp_path / "quick", trials=2),
        made_run(tmp_path / "slow", trials=2, seed=1, reference_ms=0.3),
    ]
    runs = read_runs(paths)
    (note,) = compare(runs).grounds.notes
    assert "took 0.250 ms in quick and 0.300 ms in slow" in note
    assert "of up to 20% may come from that alone" in note
    assert compare(runs, ["accuracy", "macs"]).grounds.notes == ()


def test_what_tells_of_latency_is_left_out_where_it_is_not_compared(tmp_path: Path) -> None:
    other = {"device": {**DEVICE, "name": "Xeon"}}
    paths = [
        made_run(tmp_path / "one", trials=2, **MACS),
        made_run(tmp_path / "two", trials=2, seed=1, facts=other, **MACS),
    ]
    assert compare(read_runs(paths)).grounds.differences == ()


def test_another_recipe_is_compared_with_a_warning(tmp_path: Path) -> None:
    paths = [
        made_run(tmp_path / "short", trials=2),
        made_run(tmp_path / "long", trials=2, seed=1, epochs=4.0),
    ]
    text = " ".join(notes(compare(read_runs(paths))))
    assert "recipe differs: epochs 1 in short; epochs 4 in long. Scores are compared, but" in text


def test_shared_objectives_are_compared_and_none_is_refused(tmp_path: Path) -> None:
    one = made_run(tmp_path / "one", trials=3)
    two = made_run(tmp_path / "two", trials=3, seed=1, objectives=("accuracy", "params"))
    three = made_run(tmp_path / "three", trials=3, seed=2, objectives=("val_loss", "latency"))
    found = compare(read_runs([one, two]))
    assert [own.name for own in found.objectives] == ["accuracy"]
    text = " ".join(notes(found))
    assert "one by latency; two by params too, which is not compared" in text
    assert "--objectives accuracy,macs" in text
    text = refusal([one, three])
    assert "must share a score" in text
    assert "one: accuracy,latency; three: val_loss,latency" in text
    assert "--objectives accuracy,macs" in text
    assert "miou must be known in all runs" in refusal([one, two], "miou", "macs")
    assert "--objectives: must be known, got 'speed'" in refusal([one, two], "speed")


def test_one_objective_alone_is_compared_too(tmp_path: Path) -> None:
    paths = [
        made_run(tmp_path / f"run{seed}", trials=3, seed=seed, objectives=("accuracy",))
        for seed in (1, 2)
    ]
    found = compare(read_runs(paths))
    best = [own.frame["accuracy"].max() for own in found.runs]
    assert list(found.front["accuracy"]) == [max(best)]
    corner = 1 - found.reference["accuracy"]
    told = [own.indicators.hypervolume for own in found.runs]
    assert told == pytest.approx([1 - (1 - value) / corner for value in best])
    assert [figure.key for figure in figures(document(found))] == ["progress"]


# Repeats.


def test_runs_are_repeats_where_nothing_but_the_seed_differs(tmp_path: Path) -> None:
    paths = [
        made_run(tmp_path / "a", seed=1, trials=1),
        made_run(tmp_path / "b", seed=1, trials=2, sampler="tpe"),
        made_run(tmp_path / "c", seed=2, trials=3),
        made_run(tmp_path / "d", seed=2, trials=4, epochs=2.0),
        made_run(tmp_path / "e", seed=1, trials=5, facts={"started": "another day"}),
    ]
    found = group(read_runs(paths))
    assert [own.members for own in found] == [(0, 2), (1,), (3,), (4,)]
    assert [own.letter for own in found] == ["A", "B", "C", "D"]
    assert [own.seeds for own in found] == [(1, 2), (1,), (2,), (1,)]
    assert [own.label for own in found] == [
        "sampler random, epochs 1.0",
        "sampler tpe, epochs 1.0",
        "sampler random, epochs 2.0",
        "sampler random, epochs 1.0, the same seeds again (2)",
    ]


def test_groups_with_six_common_seeds_are_tested_by_signed_ranks(compared: Comparison) -> None:
    (pair,) = compared.pairs
    assert (pair.first, pair.second, pair.seeds) == ("A", "B", (0, 1, 2, 3, 4, 5))
    test = pair.tests["hypervolume"]
    assert test.test == "wilcoxon"
    own = {own.run.name: own.indicators.hypervolume for own in compared.runs}
    gaps = [own[f"tpe{seed}"] - own[f"random{seed}"] for seed in range(6)]
    assert test.mean == pytest.approx(np.mean(gaps))
    # `random` picks the same networks and gets more from each: all six signs are equal.
    assert (test.up, test.p, test.p_holm) == (0, pytest.approx(2 / 2**6), pytest.approx(2 / 2**6))


def test_holm_goes_over_all_pairs(loaded: list[Run], tmp_path: Path) -> None:
    more = [
        made_run(tmp_path / f"long{seed}", seed=seed, gain=0.1, epochs=2.0, **MACS)
        for seed in range(3)
    ]
    found = compare([*loaded[:3], *loaded[6:9], *read_runs(more)])
    tests = [pair.tests["hypervolume"] for pair in found.pairs]
    assert [test.test for test in tests] == ["t", "t", "t"]
    p = [test.p for test in tests]
    assert all(value is not None for value in p)
    order = np.argsort(np.array(p, dtype=float))
    steps = np.maximum.accumulate([(3 - i) * p[place] for i, place in enumerate(order)])  # type: ignore[operator]
    assert [tests[place].p_holm for place in order] == pytest.approx(np.minimum(steps, 1))


# Numbers.


def brute_hypervolume(points: list[tuple[float, float]]) -> float:
    """Add up the slabs of the unit box that points dominate."""
    best, total = 1.0, 0.0
    for (x, y), after in itertools.pairwise([*sorted(points), (1.0, 0.0)]):
        best = min(best, y)
        total += max(0.0, min(after[0], 1.0) - x) * (1 - best)
    return total


def test_the_json_holds_what_the_records_say(said: dict[str, Any], twelve: list[Path]) -> None:
    values: dict[str, list[tuple[float, float]]] = {}
    for path in twelve:
        events = [json.loads(line) for line in (path / "trials.jsonl").read_text().splitlines()]
        done = [event for event in events if event["event"] == "done"]
        values[path.name] = [(1 - event["accuracy"], float(event["macs"])) for event in done]
    every = [point for points in values.values() for point in points]
    corner = [1.1 * max(point[place] for point in every) for place in (0, 1)]
    assert said["reference_point"] == {
        "accuracy": pytest.approx(1 - corner[0]),
        "macs": pytest.approx(corner[1]),
    }
    for run in said["runs"]:
        scaled = [(x / corner[0], y / corner[1]) for x, y in values[run["name"]]]
        assert run["hypervolume"] == pytest.approx(brute_hypervolume(scaled))
        assert run["networks"] == len(scaled)
        steps = [brute_hypervolume(scaled[: n + 1]) for n in range(len(scaled))]
        steep = dict(run["progress"])
        assert [*steep][-1] == len(scaled)
        reached = [steep[max(x for x in steep if x <= n + 1)] for n in range(len(scaled))]
        assert reached == pytest.approx(steps)
    front = [
        (name, point)
        for name, points in values.items()
        for point in points
        if not any(
            other[0] <= point[0] and other[1] <= point[1] and other != point for other in every
        )
    ]
    told = [(row["run"], round(1 - row["accuracy"], 4), row["macs"]) for row in said["front"]]
    assert sorted(told) == sorted((name, round(x, 4), y) for name, (x, y) in front)
    assert said["hypervolume"] == pytest.approx(
        brute_hypervolume([(x / corner[0], y / corner[1]) for _, (x, y) in front])
    )
    counted = [row["run"] for row in said["front"]]
    assert [run["on_joint_front"] for run in said["runs"]] == [
        counted.count(run["name"]) for run in said["runs"]
    ]


def test_runs_of_other_lengths_are_compared_at_the_budget_that_all_spent(tmp_path: Path) -> None:
    long = made_run(tmp_path / "long", seed=1, trials=8)
    short = made_run(tmp_path / "short", seed=2, trials=3)
    found = compare(read_runs([long, short]))
    assert found.budget == 3
    cut = made_run(tmp_path / "cut", seed=1, trials=3)
    first = compare(read_runs([cut, short]))
    # The box is another one; the networks that count are the same.
    assert found.runs[0].level.hypervolume < found.runs[0].indicators.hypervolume
    assert len(found.runs[0].frame[found.runs[0].frame["spent"] <= 3]) == len(first.runs[0].frame)
    reached = [value for spent, value in found.runs[0].progress if spent <= 3]
    assert reached[-1] == pytest.approx(found.runs[0].level.hypervolume)
    text = " ".join(notes(found))
    assert "did not spend the same (long 8; short 3 trainings)" in text
    assert "short has 5 of its 8 trainings still to do" in text
    columns = [
        column.heading
        for section in document(found).sections
        for block in section.blocks
        if isinstance(block, Table)
        for column in block.columns
    ]
    assert "HV at 3" in columns


def test_a_run_with_nothing_complete_at_the_equal_budget_stands_at_the_corner(
    tmp_path: Path,
) -> None:
    late = made_run(tmp_path / "late", seed=1, changed={0: {"state": "diverged"}})
    short = made_run(tmp_path / "short", seed=2, trials=1)
    found = compare(read_runs([late, short]))
    assert found.budget == 1
    assert found.runs[0].level.hypervolume == 0
    assert found.runs[0].level.epsilon > found.runs[1].level.epsilon


def test_equal_and_perfect_scores_are_compared_without_a_complaint(tmp_path: Path) -> None:
    perfect = {number: {"accuracy": 1.0} for number in range(3)}
    paths = [
        made_run(tmp_path / f"run{seed}", seed=seed, trials=3, changed=perfect) for seed in (1, 2)
    ]
    found = compare(read_runs(paths))
    assert [own.indicators.hypervolume for own in found.runs] == [0, 0]
    json.dumps(facts(found), allow_nan=False)
    assert figures(document(found))


def test_a_network_trained_again_counts_once(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", seed=1, trials=3)
    other = made_run(tmp_path / "other", seed=2, trials=3)
    before = compare(read_runs([run, other]))
    trial = History(read_events(run)).trials[0]
    with Records.open(run) as records:
        again = {"trial": 3, "role": "confirm", "id": trial.id, "seed": 9, "repeat": 1}
        again["confirm"] = {"target": 4, "part": "choice"}
        records.append("asked", **again, architecture=trial.architecture.to_json())
        shown = {key: value for key, value in trial.result.items() if key not in ("seq", "event")}
        records.append("done", **{**shown, "trial": 3, "accuracy": 0.99})
    after = compare(read_runs([run, other]))
    assert after.runs[0].indicators == before.runs[0].indicators
    assert after.runs[0].progress[-1][0] == 4


def test_a_band_is_the_range_of_step_curves() -> None:
    curves = [[(1.0, 0.2), (3.0, 0.5)], [(2.0, 0.4), (4.0, 0.6)], [(1.0, 0.1), (3.5, 0.3)]]
    assert band(curves).tolist() == [
        [1, 0, 0.1, 0.2],
        [2, 0.1, 0.2, 0.4],
        [3, 0.1, 0.4, 0.5],
    ]


# Pictures.


def test_charts_are_plotly_and_hold_the_front_of_every_run(compared: Comparison) -> None:
    drawn = {figure.key: figure for figure in figures(document(compared))}
    assert [*drawn] == ["front", "progress", "surfaces"]
    for figure in drawn.values():
        assert figure.chart is not None
        assert figure.reading.count(". ") <= 1
        go.Figure(figure.chart)
        json.dumps(figure.chart, allow_nan=False)
    assert drawn["front"].chart is not None
    traces = {trace["name"]: trace for trace in drawn["front"].chart["data"]}
    for own in compared.runs:
        losses = own.frame.sort_values(["macs", "accuracy"], ascending=[True, False])
        best = losses[losses["accuracy"] > losses["accuracy"].cummax().shift(fill_value=-1)]
        trace = traces[own.run.name]
        assert trace["x"] == pytest.approx(list(best["macs"].astype(float)), rel=1e-5)
        assert trace["y"] == pytest.approx(list(best["accuracy"]), rel=1e-5)
        assert all(own.run.name in label for label in trace["text"])


def test_what_each_run_recommends_is_marked(compared: Comparison, said: dict[str, Any]) -> None:
    made = document(compared)
    front = figures(made)[0]
    tables = {
        block.key: block
        for section in made.sections
        for block in section.blocks
        if isinstance(block, Table)
    }
    assert front.chart is not None
    stars = [
        trace
        for trace in front.chart["data"]
        if trace.get("marker", {}).get("symbol") == "star-open"
    ]
    advised = {
        own.run.name: found.id
        for own in compared.runs
        if (found := recommended(own.run.plan, own.run.history)) is not None
    }
    assert len(stars) == len(advised) == len(compared.runs)
    assert [star["showlegend"] for star in stars] == [True, *[False] * (len(stars) - 1)]
    for star, own in zip(stars, compared.runs, strict=True):
        row = own.frame[own.frame["id"] == advised[own.run.name]].iloc[0]
        assert star["text"][0].startswith(f"{own.run.name} recommends {advised[own.run.name]}: ")
        assert (star["x"], star["y"]) == ([row["macs"]], [pytest.approx(row["accuracy"])])
    assert {run["name"]: run["recommended"] for run in said["runs"]} == advised
    assert [row.cells[-1].text for row in tables["runs"].rows] == [*advised.values()]
    for row in tables["front"].rows:
        assert (row.badge == "recommended") == (advised[row.cells[0].text] == row.cells[1].text)
    assert "first trainings" in front.reading
    assert "first trainings" in tables["front"].caption


def test_costs_far_apart_are_drawn_on_a_logarithmic_axis_at_first(tmp_path: Path) -> None:
    large = {0: {"macs": 10_000_000, "accuracy": 0.9}}
    paths = [
        made_run(tmp_path / f"run{seed}", seed=seed, trials=3, changed=large, **MACS)
        for seed in (1, 2)
    ]
    compared = compare(read_runs(paths))
    front = figures(document(compared))[0]
    assert front.chart is not None
    first, second = front.switches[0].options
    assert front.chart["layout"]["xaxis"]["type"] == "log"
    assert [option.layout["xaxis.type"] for option in (first, second)] == ["log", "linear"]
    assert front.chart["layout"]["xaxis"]["dtick"] == first.layout["xaxis.dtick"] == "D2"
    picture = front.draw
    assert picture is not None
    assert picture(LIGHT, narrow=False).axes[0].get_xscale() == "log"
    near = run_series(compared)[1:2]
    assert not logarithmic([replace(near[0], xs=np.array([2.0, 9.0]))], OBJECTIVES["macs"])
    assert not logarithmic([replace(near[0], xs=np.array([0.1, 0.9]))], OBJECTIVES["accuracy"])


def test_every_run_has_a_colour_and_marker_of_its_own(compared: Comparison) -> None:
    assert len({*styles(compared)}) == len(compared.runs)


def test_a_staircase_goes_from_wall_to_wall_over_what_counts() -> None:
    points = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 3.0]])
    assert staircase(points, np.array([4.0, 5.0])).tolist() == [
        [1, 5],
        [1, 3],
        [3, 3],
        [3, 1],
        [4, 1],
    ]


def test_three_objectives_have_no_joint_line(loaded: list[Run]) -> None:
    found = compare(loaded[:2], ["accuracy", "macs", "params"])
    names = [series.name for series in run_series(found)]
    assert names[:2] == ["tpe0", "tpe1"]
    assert {*names[2:]} == {"recommended by the report of its run"}
    assert found.groups[0].surfaces


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("_hidden", " _hidden"),
        ("$x$", r"\$x\$"),
        ("\u5b57", r"\u5b57"),
        ("a" * 30 + "b" * 30, "a" * 22 + "..." + "b" * 22),
    ],
)
def test_names_are_drawn_as_letters(name: str, shown: str) -> None:
    assert drawn_name(name) == shown


# The command.


def test_the_command_writes_tables_pages_and_pictures(tmp_path: Path) -> None:
    one = made_run(tmp_path / "<script>alert(1)<", seed=1, trials=3)
    two = made_run(tmp_path / "_$two$|", seed=2, trials=3)
    out = tmp_path / "out"
    result = typed(one, two, "--out", out)
    assert result.exit_code == 0, result.output
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    images = [
        f"figures/{key}.{kind}"
        for key in ("front", "progress", "surfaces")
        for kind in ("png", "svg")
    ]
    assert names == sorted(["compare.html", "compare.json", "compare.md", "front.csv", *images])
    page = (out / "compare.html").read_text("utf-8")
    assert "_&#36;two&#36;|" in page.replace("\\u0026", "&")
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page
    assert r"\<script\>alert(1)\<" in (out / "compare.md").read_text("utf-8")
    told = json.loads((out / "compare.json").read_text("utf-8"))
    assert [run["name"] for run in told["runs"]] == [one.name, two.name]
    front = pd.read_csv(out / "front.csv")
    assert list(front.columns[:2]) == ["run", "trial"]
    assert len(front) == len(told["front"])
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert embedded is not None
    assert json.loads(embedded[1]) == told


def test_json_is_printed_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [made_run(tmp_path / name, seed=seed, trials=3) for seed, name in enumerate("ab")]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    result = typed(*runs, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == facts(compare(read_runs(runs)))
    assert result.stderr == ""
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    refused = typed(*runs, "--json", "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "--out: has no effect with --json; remove one" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_the_table_has_a_row_a_run_and_the_answer_below(compared: Comparison) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table(compared))
    text = console.export_text()
    for own in compared.runs:
        assert re.search(rf"{own.run.name} +[AB] .*{own.indicators.hypervolume:.4f}", text)
    assert "By hypervolume these differ at the 5 % level (1 pair, Holm's correction): B abo" in text


def test_wrong_words_end_with_2_and_leave_nothing(tmp_path: Path, twelve: list[Path]) -> None:
    for words in (
        [twelve[0]],
        [twelve[0], twelve[0]],
        [twelve[0], tmp_path / "gone"],
        [twelve[0], twelve[1], "--objectives", "speed"],
        [twelve[0], twelve[1], "--objectives", ""],
    ):
        result = typed(*words, "--out", tmp_path / "out")
        assert isinstance(result.exception, ReplkError)
        assert result.exception.exit_code == 2
        assert not (tmp_path / "out").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    result = typed(*twelve[:2], "--out", tmp_path / "taken")
    assert "must not exist yet" in str(result.exception)


@pytest.mark.slow
def test_runs_of_the_program_itself_are_compared(
    finished: Path, inputs: Inputs, tmp_path: Path
) -> None:
    plan, images = inputs.planned(budget=6, seed=4)
    session.begin(plan, images, tmp_path / "again", session.Manner(quiet=True))
    result = typed(finished, tmp_path / "again", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert [run["seed"] for run in told["runs"]] == [3, 4]
    assert [own["seeds"] for own in told["groups"]] == [[3, 4]]
    assert told["equal_budget"] == 6
    assert told["notes"] == []
    page = (tmp_path / "out" / "compare.html").read_text("utf-8")
    assert "All runs repeat one plan" in page
