"""What is read of a damaged run, and what is said of the rest."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from runs.history import History, Trial
from runs.plan import Plan
from runs.records import Event, Records, decode, encode
from runs.reporting import report, report_json
from runs.salvage import Salvaged, salvaged
from runs.standings import ranked
from search_space.errors import RunError
from tests.played import planned, played

SPACE = """\
name: small
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [8, 16]}, kernel: {choice: [3, 7, 13]}}
  - {depth: {choice: [1, 2]}, width: {choice: [24, 40]}, kernel: {choice: [3, 5, 9]}}
"""
TRIALS, BUDGET = 11, 10
"""One of them fails."""


def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
    if trial.number == 4:
        return {"state": "failed", "error": "crash, 1e5", "accuracy": None}
    found = {"accuracy": 0.5 + 0.4 * float(rng.random()), "val_loss": 1.0}
    return found | {"curve": [[10, 2.0], [20, 1.5]], "at_s": 10.0 * trial.number}


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = planned(SPACE, budget=BUDGET, objectives=("accuracy", "macs"), keep_weights="all")
    made.facts["data"]["name"] = "made"
    made.facts["started"] = "2026-11-22T10:00:00+00:00"
    return made


@pytest.fixture(scope="module")
def history(plan: Plan) -> History:
    return played(plan, score)


@pytest.fixture(scope="module")
def events(plan: Plan, history: History) -> list[Event]:
    """Event 0 is the header, 1 the session; trial n was asked for by 2 + 2n and done by 3 + 2n."""
    told: list[dict[str, Any]] = [
        {"event": "header", "schema": 1, "plan": plan.document()},
        {"event": "session", "budget": BUDGET, "workers": 2},
    ]
    for trial in history.trials.values():
        told += [trial.asked, {**trial.result, "event": "done", "trial": trial.number}]
    told += [{"event": "finaltrained", "id": history.trials[0].id, "state": "complete"}]
    told += [{"event": "finished", "budget": BUDGET, "spent": BUDGET}]
    return [{**event, "seq": seq} for seq, event in enumerate(told)]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, plan: Plan, history: History, events: list[Event]) -> Write:
    """Write a finished run, with other events where they are given."""

    def written(given: list[Event] | None = None) -> Path:
        run = tmp_path / "run"
        header = {key: value for key, value in events[0].items() if key not in ("seq", "event")}
        with Records.create(run, header) as records:
            plan.write(run)
            for event in events[1:]:
                fields = {k: v for k, v in event.items() if k not in ("seq", "event")}
                records.append(event["event"], **fields)
        if given is not None:
            (run / "trials.jsonl").write_bytes(b"".join(map(encode, given)))
        (run / "architectures").mkdir()
        (run / "weights").mkdir()
        for trial in history.done:
            (run / "weights" / f"{trial.number}.safetensors").touch()
        (run / "weights" / f"final-{history.trials[0].id}.safetensors").touch()
        ranked(plan, history).to_csv(run / "trials.csv", index=False)
        return run

    return written


def lines_of(run: Path) -> list[bytes]:
    return (run / "trials.jsonl").read_bytes().splitlines(keepends=True)


def damage(run: Path, *places: int) -> None:
    """Flip a letter in lines of the record."""
    lines = lines_of(run)
    for place in places:
        lines[place] = lines[place].replace(b'"event"', b'"evemt"')
    (run / "trials.jsonl").write_bytes(b"".join(lines))


def numbers(found: Salvaged) -> list[int]:
    return sorted(trial.number for trial in found.history.done)


def content(run: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


def test_of_a_sound_run_nothing_is_missing(write: Write, plan: Plan, history: History) -> None:
    run = write()
    (run / ".lock").unlink()
    before = content(run)
    found = salvaged(run)
    assert found.missing == ()
    assert found.plan.document() == plan.document()
    assert found.history.rows() == history.rows()
    assert content(run) == before


def test_last_line_torn_off(write: Write) -> None:
    run = write()
    whole = (run / "trials.jsonl").read_bytes()
    (run / "trials.jsonl").write_bytes(whole[:-10])
    found = salvaged(run)
    assert numbers(found) == list(range(TRIALS))
    assert found.missing == (
        "trials.jsonl: has a torn end, passed over",
        "trials.jsonl: 1 of 26 events lost, number 25",
    )
    (run / ".trials.count").unlink()
    assert salvaged(run).missing[1].startswith(".trials.count: cannot be read; events lost")


def test_lines_damaged_in_the_middle(write: Write, history: History) -> None:
    run = write()
    # The result of trial 3, and what was asked for as trial 5.
    damage(run, 3 + 2 * 3, 2 + 2 * 5)
    before = content(run)
    found = salvaged(run)
    assert numbers(found) == [n for n in range(TRIALS) if n not in (3, 5)]
    kept = {trial.number: trial.result["accuracy"] for trial in found.history.done}
    assert kept == {n: history.trials[n].result["accuracy"] for n in kept}
    assert found.missing == (
        "trials.jsonl: has 2 damaged lines, passed over",
        "trials.jsonl: 2 of 26 events lost, number 9, 12",
        "trials.jsonl: the networks of 1 trial are lost, the results with them: number 5",
        "trials.jsonl: holds no result of 1 trial, number 3",
    )
    assert content(run) == before


def test_report_says_what_is_missing(
    write: Write, history: History, caplog: pytest.LogCaptureFixture
) -> None:
    run = write()
    damage(run, 3 + 2 * 3)
    found = report_json(run)
    said = [
        "trials.jsonl: has 1 damaged line, passed over",
        "trials.jsonl: 1 of 26 events lost, number 9",
        "trials.jsonl: holds no result of 1 trial, number 3",
    ]
    assert found["facts"]["missing"] == said
    assert [record.getMessage() for record in caplog.records] == [f"{run}: {text}" for text in said]
    assert found["facts"]["counts"]["complete"] == len(history.done) - 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_report_of_a_run_that_cannot_be_written_goes_elsewhere(write: Write) -> None:
    run = write()
    run.chmod(0o500)
    try:
        with pytest.raises(RunError, match="name another folder for the report with --out"):
            report(run)
    finally:
        run.chmod(0o700)


def test_many_lost_lines_are_counted_not_listed(write: Write) -> None:
    run = write()
    damage(run, *range(3, 25, 2))
    found = salvaged(run)
    assert numbers(found) == []
    assert "number 3, 5, 7, 9, 11 and 6 more" in found.missing[1]
    assert "no result of 11 trials, number 0, 1, 2, 3, 4 and 6 more" in found.missing[2]


def test_header_lost(write: Write, plan: Plan) -> None:
    run = write()
    damage(run, 0)
    found = salvaged(run)
    assert found.plan.document() == plan.document()
    assert numbers(found) == list(range(TRIALS))
    assert found.missing[-1] == (
        "run.yaml: is the only copy of the plan that is left; trials.jsonl has no readable header"
    )
    (run / "run.yaml").unlink()
    with pytest.raises(RunError, match=r"has no readable header and run\.yaml is not there"):
        salvaged(run)


def changed(text: str) -> str:
    document = yaml.safe_load(text)
    document["settings"]["budget"] = 999
    document["recipe"]["epochs"] = 77.0
    return yaml.safe_dump(document)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (None, "run.yaml: is not there; the record's own copy stands for it"),
        (changed, "run.yaml: was changed since the run began (settings.budget, recipe.epochs); "),
        (lambda _: "a: [", "run.yaml: is no YAML of ours, ParserError"),
        (lambda _: "just: words", "run.yaml: holds no plan that this version understands, KeyErr"),
        (lambda _: "", "run.yaml: holds no plan that this version understands, TypeError"),
        (lambda _: "\ud800", "run.yaml: is no YAML of ours, Unicode"),
    ],
)
def test_plan_on_the_disk_gone_or_changed(
    edit: Callable[[str], str] | None, said: str, write: Write, plan: Plan
) -> None:
    run = write()
    path = run / "run.yaml"
    if edit is None:
        path.unlink()
    else:
        path.write_bytes(edit(path.read_text("utf-8")).encode("utf-8", "surrogatepass"))
    found = salvaged(run)
    assert found.plan.document() == plan.document()
    assert len(found.missing) == 1
    assert found.missing[0].startswith(said)
    assert found.missing[0].endswith("; the record's own copy stands for it")


def test_record_of_a_newer_version(write: Write, events: list[Event], history: History) -> None:
    newer = [dict(event) for event in events]
    plan = json.loads(json.dumps(newer[0]["plan"]))
    plan["settings"]["colour"] = "blue"
    plan["hue"] = 1
    newer[0] |= {"schema": 99, "plan": plan}
    newer[3 + 2 * 1]["accuracy"] = "high"
    newer[3 + 2 * 2]["state"] = "paused"
    del newer[3 + 2 * 6]["macs"]
    newer[2 + 2 * 7]["architecture"] = '{"of": "a new kind"}'
    newer[3 + 2 * 8]["mood"] = {"good": True}
    newer += [{"seq": 26, "event": "dreamt", "trial": 3}, {"seq": 27, "event": "dreamt"}]
    run = write(newer)
    (run / "run.yaml").unlink()
    found = salvaged(run)
    assert numbers(found) == [0, 3, 4, 5, 8, 9, 10]
    kept = {trial.number: trial.result["accuracy"] for trial in found.history.done}
    assert kept == {n: history.trials[n].result["accuracy"] for n in kept}
    text = "\n".join(found.missing)
    assert "a newer replk-search wrote it, schema 99 where this one knows 1" in text
    assert "settings unknown to this version: settings.colour" in text
    assert "2 events unknown to this version, passed over: 'dreamt'" in text
    assert "3 events in a form unknown to it, passed over: 'done'" in text
    assert "1 value in a form unknown to it, passed over: 'mood'" in text
    assert "1 event not understood, passed over: number 16" in text
    assert "the networks of 1 trial are lost, the results with them: number 7" in text


@pytest.mark.parametrize("schema", [None, "2", 0, True])
def test_schema_that_is_no_number_of_ours(
    schema: object, write: Write, events: list[Event]
) -> None:
    found = salvaged(write([{**events[0], "schema": schema}, *events[1:]]))
    assert numbers(found) == list(range(TRIALS))
    assert len(found.missing) == 1
    assert f"schema {schema!r}" in found.missing[0]


def test_count_of_events_gone_or_absurd(write: Write) -> None:
    run = write()
    (run / ".trials.count").unlink()
    assert salvaged(run).missing == (
        ".trials.count: cannot be read; events lost at the end of the record go unnoticed",
    )
    (run / ".trials.count").write_text("999999999999\n")
    (said,) = salvaged(run).missing
    assert said.startswith("trials.jsonl: 999999999973 of 999,999,999,999 events lost, number 26, ")


@pytest.mark.parametrize("how", ["gone", "empty", "directory", "noise"])
def test_without_its_record_the_table_stands_for_it(
    how: str, write: Write, history: History, plan: Plan
) -> None:
    run = write()
    record = run / "trials.jsonl"
    record.unlink()
    if how == "directory":
        record.mkdir()
    elif how != "gone":
        record.write_bytes(b"" if how == "empty" else random.Random(0).randbytes(3000) + b"\n")
    found = salvaged(run)
    assert found.missing[0].startswith("trials.jsonl: ")
    assert found.missing[0].endswith(
        "; trials.csv stands for it, without learning curves, study and confirmation"
    )
    assert found.missing[1].startswith("run.yaml: is the only copy of the plan that is left")
    assert [t.number for t in found.history.done if t.state != "failed"] == [
        t.number for t in sorted(history.done, key=lambda t: t.number) if t.state != "failed"
    ]
    assert found.history.spent == history.spent
    for trial in found.history.done:
        told = history.trials[trial.number]
        assert (trial.id, trial.seed, trial.role) == (told.id, told.seed, told.role)
        assert trial.architecture == told.architecture
        assert trial.state == told.state
        for name in ("accuracy", "val_loss", "latency_ms", "macs", "params", "error"):
            assert trial.result.get(name) == told.result.get(name)
    again, before = ranked(found.plan, found.history), ranked(plan, history)
    assert list(again["id"]) == list(before["id"])
    assert list(again["on_front"].fillna(value=False)) == list(
        before["on_front"].fillna(value=False)
    )


def test_table_that_was_cut_off(write: Write) -> None:
    run = write()
    (run / "trials.jsonl").unlink()
    table = run / "trials.csv"
    table.write_text(table.read_text("utf-8")[:2500], encoding="utf-8")
    assert 0 < len(salvaged(run).history.done) < TRIALS
    table.write_text("trial,role\n", encoding="utf-8")
    with pytest.raises(
        RunError, match=r"is not there, and trials\.csv holds no trial either; rest"
    ):
        salvaged(run)
    table.unlink()
    with pytest.raises(RunError, match=r"trials\.csv cannot be read either, No such file"):
        salvaged(run)


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must be the directory of a run, there is none"):
        salvaged(tmp_path / "none")
    with pytest.raises(RunError, match=r"must hold trials.jsonl of a run: it .*; restore it"):
        salvaged(tmp_path)


def test_files_of_a_finished_run_gone(write: Write, history: History) -> None:
    run = write()
    (run / "architectures").rmdir()
    final = run / "weights" / f"final-{history.trials[0].id}.safetensors"
    final.unlink()
    (run / "weights" / "2.safetensors").unlink()
    assert salvaged(run).missing == (
        "architectures/: is not there; its files are made anew from the record",
        "weights/: holds no weights of 1 trial, number 2",
        f"weights/{final.name}: is not there; the network that was trained on cannot be exported",
    )
    for path in (run / "weights").iterdir():
        path.unlink()
    (run / "weights").rmdir()
    assert salvaged(run).missing[1].startswith("weights/: is not there; no trained network")


def test_of_a_run_that_goes_on_nothing_is_missing(write: Write, events: list[Event]) -> None:
    # Trial 10 is training; no closing file is there.
    run = write(events[: 3 + 2 * 10])
    (run / ".trials.count").write_text(f"{3 + 2 * 10:012d}\n")
    (run / "architectures").rmdir()
    (run / "trials.csv").unlink()
    found = salvaged(run)
    assert [trial.number for trial in found.history.pending] == [10]
    assert found.missing == ()


def test_whatever_is_damaged_the_rest_is_read(write: Write, history: History) -> None:
    run = write()
    whole = (run / "trials.jsonl").read_bytes()
    places = random.Random(1)
    for _ in range(60):
        broken = bytearray(whole)
        for _ in range(places.randint(1, 30)):
            broken[places.randrange(len(broken))] = places.randrange(256)
        cut = places.randint(len(broken) // 2, len(broken))
        (run / "trials.jsonl").write_bytes(broken[:cut])
        sound = [decode(line) for line in bytes(broken[:cut]).split(b"\n")[:-1]]
        asked = {e["trial"] for e in sound if e is not None and e["event"] == "asked"}
        done = {e["trial"] for e in sound if e is not None and e["event"] == "done"}
        found = salvaged(run)
        assert set(numbers(found)) == asked & done
        assert found.missing
        for trial in found.history.done:
            assert trial.result["macs"] == history.trials[trial.number].result["macs"]
