"""The numbers of a report equal the record: its data are read back, and reckoned anew."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pandas as pd
import pytest

from runs.records import read_events

pytest_plugins = ["tests.micro_fixtures"]


@pytest.fixture(scope="module")
def data(finished: Path) -> dict[str, Any]:
    page = (finished / "report.html").read_text("utf-8")
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture(scope="module")
def done(finished: Path) -> dict[int, dict[str, Any]]:
    """Fields of every trial by number: of its `done` event, and of what came later."""
    found: dict[int, dict[str, Any]] = {}
    for event in read_events(finished):
        if event["event"] == "asked":
            found[event["trial"]] = {"role": event["role"], "id": event["id"]}
        elif event["event"] == "done":
            found[event["trial"]] |= event
        elif event["event"] == "remeasured":
            for number, fields in event["latencies"].items():
                found[int(number)] |= fields
    return {number: fields for number, fields in found.items() if "state" in fields}


def test_every_trial_is_told_as_the_record_has_it(
    data: dict[str, Any], done: dict[int, dict[str, Any]]
) -> None:
    assert data["format"] == 1
    assert {trial["trial"] for trial in data["trials"]} == set(done)
    for trial in data["trials"]:
        known = done[trial["trial"]]
        for name in ("role", "state", "id", "accuracy", "val_loss", "latency_ms", "macs", "params"):
            assert trial[name] == known[name], name
    curves = {int(number): curve for number, curve in data["curves"].items()}
    assert curves == {n: fields["curve"] for n, fields in done.items() if fields.get("curve")}


def test_the_counts_are_those_of_the_record(
    data: dict[str, Any], done: dict[int, dict[str, Any]], finished: Path
) -> None:
    counted = Counter(fields["state"] for fields in done.values())
    for event in read_events(finished):
        if event["event"] == "refused":
            counted["duplicate"] += event["duplicates"]
            counted["rejected"] += sum(event["rejected"].values())
    assert data["facts"]["counts"] == {key: count for key, count in counted.items() if count}
    assert data["facts"]["spent"] == counted["complete"] + counted["diverged"]
    assert data["facts"]["distinct"] == len({fields["id"] for fields in done.values()})


def test_the_front_is_what_nothing_dominates(
    data: dict[str, Any], done: dict[int, dict[str, Any]]
) -> None:
    estimates = {trial["trial"]: trial["estimate"] for trial in data["trials"]}
    (_, cost_name) = (objective["column"] for objective in data["objectives"])
    points = {
        number: (
            1 - (estimates[number] if estimates[number] is not None else fields["accuracy"]),
            fields[cost_name],
        )
        for number, fields in done.items()
        if fields["state"] == "complete" and fields["role"] != "confirm"
    }
    front = {
        number
        for number, (error, cost) in points.items()
        if not any(e <= error and c <= cost and (e < error or c < cost) for e, c in points.values())
    }
    assert set(data["front"]) == front
    assert {trial["trial"] for trial in data["trials"] if trial["on_front"]} == front


def test_the_hypervolume_is_moocores(data: dict[str, Any], done: dict[int, dict[str, Any]]) -> None:
    facts = data["facts"]
    point = facts["reference_point"]
    _, cost = data["objectives"]
    corner = np.array([1 - point["accuracy"], point[cost["name"]]])
    first: dict[str, int] = {}
    for number, fields in sorted(done.items()):
        if fields["state"] == "complete" and fields["role"] != "confirm":
            first.setdefault(fields["id"], number)
    estimates = {trial["trial"]: trial["estimate"] for trial in data["trials"]}
    losses, estimated = (
        np.array([[1 - score(number), done[number][cost["column"]]] for number in first.values()])
        for score in (
            lambda number: done[number]["accuracy"],
            lambda number: estimates[number] or done[number]["accuracy"],
        )
    )
    share = moocore.hypervolume(losses / corner, ref=np.ones(2))
    assert facts["hypervolume"] == pytest.approx(share)
    assert 0 < share < 1
    if any(estimates.values()):
        of_estimates = moocore.hypervolume(estimated / corner, ref=np.ones(2))
        assert facts["hypervolume_estimated"] == pytest.approx(of_estimates)
    else:
        assert facts["hypervolume_estimated"] is None
    assert math.isclose(corner[1], 1.1 * losses[:, 1].max())


def test_the_command_prints_the_same_as_json_and_writes_nothing(
    run: Path, data: dict[str, Any], say: Callable[..., tuple[int, str, str]]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    code, printed, complained = say("report", run, "--json")
    assert (code, complained) == (0, "")
    told = json.loads(printed)
    assert told["trials"] == data["trials"]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    table = pd.read_csv(run / "trials.csv")
    assert [trial["trial"] for trial in told["trials"]] == table["trial"].tolist()


def test_a_report_may_go_elsewhere(
    run: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    code, printed, _ = say("report", run, "--out", tmp_path / "elsewhere" / "x")
    assert code == 0
    assert str(tmp_path / "elsewhere" / "x" / "report.html") in printed
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert (tmp_path / "elsewhere" / "x" / "report.md").stat().st_size > 1000


def test_a_wrong_predicate_is_refused_before_anything_is_read(
    run: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, complained = say("report", run, "--compare", "stages[0].kernle>=9")
    assert code == 2
    assert "kernel" in complained
    assert "Traceback" not in complained
    code, _, complained = say("report", run, "--json", "--out", "x")
    assert code == 2
    assert "--out" in complained


def test_a_stage_that_this_run_has_not_is_told_and_the_report_is_made(
    run: Path, say: Callable[..., tuple[int, str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    code, printed, _ = say("report", run, "--compare", "stages[3].kernel>=9")
    assert code == 0
    assert "report.html" in printed
    assert "stages[3]" in caplog.text
    assert "stages[3].kernel>=9: not compared" in (run / "report.html").read_text("utf-8").replace(
        "&gt;", ">"
    )
    code, _, complained = say("report", run, "--compare", "stages[4].kernel>=9")
    assert code == 2
    assert "stages[4]" in complained
