"""Files beside the record of a finished run, read as users read them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from evaluators.cost import cost
from runs.gathering import run_facts
from runs.history import History
from runs.outputs import write_results
from runs.plan import load_plan
from runs.records import read_events
from runs.reporting import report
from runs.standings import ranked
from search_space.architecture import Architecture
from search_space.errors import RunError
from search_space.yaml_io import load_architecture, load_space

pytest_plugins = ["tests.micro_fixtures"]

# design.md section 6, to the letter.
CONTRACT = [
    *("trial", "role", "state", "id", "seed", "accuracy", "val_loss", "test_accuracy"),
    *("latency_ms", "macs", "params", "s1", "s2", "s3", "s4", "rank", "front_rank", "on_front"),
    *("seconds", "error", "architecture"),
]


@pytest.mark.parametrize("name", ["trials.csv", "front.csv"])
def test_tables_begin_with_the_columns_of_the_contract(finished: Path, name: str) -> None:
    assert list(pd.read_csv(finished / name).columns[:21]) == CONTRACT


@pytest.mark.parametrize("name", ["trials.csv", "front.csv"])
def test_pandas_reads_the_tables_as_the_schema_says(finished: Path, name: str) -> None:
    schema = json.loads((finished / "trials.schema.json").read_text())
    table = pd.read_csv(finished / name)
    types = {field["name"]: field["type"] for field in schema["fields"]}
    assert set(table) <= set(types), "a column is not described"
    for column, kind in types.items():
        known = table[column].dropna()
        if kind == "string":
            assert all(isinstance(value, str) for value in known)
        elif kind == "boolean":
            assert set(known) <= {True, False}
        else:
            numbers = pd.to_numeric(known).to_numpy(dtype=float)
            assert kind == "number" or (numbers == numbers.round()).all()


def test_other_files_in_the_folders_of_a_report_stay(run: Path, tmp_path: Path) -> None:
    kept = run / "architectures" / "mine.yaml"
    kept.write_text("mine")
    old = run / "architectures" / "0123456789ab.yaml"
    old.write_text("of a network that has left the front")
    report(run)
    assert kept.read_text() == "mine"
    assert not old.exists()
    with pytest.raises(RunError, match=r"--out .*: must not exist yet, a result is never"):
        report(run, out=run)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"--out .*file: must not exist yet"):
        report(run, out=tmp_path / "file")


def test_pandas_reads_the_dtypes_that_the_schema_names(finished: Path) -> None:
    fields = json.loads((finished / "trials.schema.json").read_text())["fields"]
    dtypes = {field["name"]: field["pandas"] for field in fields}
    table = pd.read_csv(finished / "trials.csv", dtype=dtypes)
    assert table["separable"].dtype == "boolean"
    assert len(table[table["on_front"]]) == len(pd.read_csv(finished / "front.csv"))


def test_trials_are_ranked_by_accuracy_and_lost_nothing(finished: Path) -> None:
    frame = pd.read_csv(finished / "trials.csv")
    assert list(frame["rank"]) == [1, 2, 3, 4, 5, 6]
    assert list(frame["accuracy"]) == sorted(frame["accuracy"], reverse=True)
    assert sorted(frame["trial"]) == [0, 1, 2, 3, 4, 5]
    assert [Architecture.from_json(text).id for text in frame["architecture"]] == list(frame["id"])


def test_the_front_runs_from_the_cheapest_to_the_most_accurate(finished: Path) -> None:
    front = pd.read_csv(finished / "front.csv")
    assert list(front["macs"]) == sorted(front["macs"])
    assert list(front["accuracy"]) == sorted(front["accuracy"])
    assert front["on_front"].all()
    assert set(front["front_rank"]) == {1}
    assert front["test_accuracy"].notna().all()


def test_each_network_of_the_front_is_a_file_a_network_and_a_space_of_size_1(
    finished: Path,
) -> None:
    ids = set(pd.read_csv(finished / "front.csv")["id"])
    paths = list((finished / "architectures").iterdir())
    assert {path.name for path in paths} == {f"{name}.yaml" for name in ids}
    for path in paths:
        assert load_architecture(path).id == path.stem
        space = load_space(path)
        assert space.count() == 1
        assert [network.id for network in space.census.all()] == [path.stem]


def test_the_picture_is_a_png_and_the_page_stands_alone(finished: Path) -> None:
    assert (finished / "figures" / "front.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    # Inside the script of plotly there are addresses, which it asks for where a map is drawn.
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=.?https?:", page)


def test_everything_is_written_anew_from_the_record(run: Path) -> None:
    expected = {name: (run / name).read_bytes() for name in ("trials.csv", "front.csv")}
    for name in ("architectures", "figures", "weights"):
        shutil.rmtree(run / name)
    (run / "architectures").mkdir()
    (run / "architectures" / "0123456789ab.yaml").write_text("of a network that left the front")
    for name in (*expected, "report.html"):
        (run / name).unlink()
    written = report(run)
    assert {name: (run / name).read_bytes() for name in expected} == expected
    assert {path.name for path in written} >= {
        "front.png",
        "front.svg",
        "report.html",
        "report.md",
        "trials.csv",
    }
    assert all(path.exists() for path in written)
    assert not (run / "architectures" / "0123456789ab.yaml").exists()


def test_a_run_without_a_finished_trial_has_empty_tables(run: Path) -> None:
    events = read_events(run)
    first = next(i for i, event in enumerate(events) if event["event"] == "done")
    results = write_results(run, load_plan(run), History(events[:first]))
    assert list(pd.read_csv(run / "trials.csv").columns[:21]) == CONTRACT
    assert len(results.findings.front) == 0
    assert results.findings.facts["recommended"] is None
    assert list((run / "architectures").iterdir()) == []


def test_a_final_training_of_another_network_is_not_the_recommended_one_s(run: Path) -> None:
    history = History(read_events(run))
    history.final["finaltrained"] = {**history.final["finaltrained"], "id": "another"}
    plan = load_plan(run)
    assert run_facts(run, plan, history, ranked(plan, history))["final"] is None


def test_the_facts_name_the_reference_and_the_trained_anchors(run: Path) -> None:
    plan, history = load_plan(run), History(read_events(run))
    facts = run_facts(run, plan, history, ranked(plan, history))
    reference = facts["reference_network"]
    assert reference["id"] == plan.reference.id
    assert reference["latency_ms"] == facts["reference_ms"]
    counted = cost(plan.reference, plan.num_classes)
    assert (reference["macs"], reference["params"]) == (counted.macs_merged, counted.params_merged)
    trained = {trial.id for trial in history.done if trial.role == "anchor"}
    assert {told["id"] for told in facts["anchors"]} <= trained
    (middle,) = (one for one in facts["anchors"] if "middle of the space" in one["names"])
    assert middle["id"] == plan.reference.id


def test_files_that_cannot_be_written_are_named(run: Path) -> None:
    shutil.rmtree(run / "figures")
    (run / "figures").write_text("in the way")
    with pytest.raises(RunError, match=r"^.*figures: could not be written, .*exists"):
        report(run)
