"""The commands `guidelines` and `audit` on a small study that was really trained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from runs import reporting, session
from runs.audit_page import begin as audit
from runs.cli import cli
from runs.ending import run as exit_code_of
from runs.guidelines import recheck, show
from runs.history import History
from runs.records import RECORD_NAME, Records, read_events
from runs.study import hash_of
from search_space.errors import RunError
from tests.micro import Inputs, kinds

pytest_plugins = ["tests.micro_fixtures"]

ROOT = Path(__file__).parents[1]
ROOT_READS_ALL = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anything")
STUDY_SPACE = """\
name: micro study
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [4, 6]}, kernel: 7}
every_stage:
  dilations: {choice: [none, paper]}
  ffn_ratio: {choice: [1, 2]}
shared:
  structure: {choice: [none, se]}
"""
"""Two factors: squeeze-and-excitation, and dilated branches; four trainings a block."""


@pytest.fixture(scope="module")
def study(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that spent 12 trainings on two blocks and four on the search."""
    out = tmp_path_factory.mktemp("study") / "run"
    plan, images = inputs.planned(text=STUDY_SPACE, budget=12, evidence=8, workers=2)
    session.begin(plan, images, out, session.Manner(quiet=True))
    return out


@pytest.fixture
def run_of_study(study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study, tmp_path / "study"))


def ended(*words: str | Path) -> int:
    return exit_code_of(lambda: cli.main([str(w) for w in words], standalone_mode=False))


def test_a_study_that_was_loosened_afterwards_is_not_believed(
    run_of_study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = run_of_study / "run.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    study = document["facts"]["study"]
    study["protocol"]["alpha"] = 0.9
    study["sha256"] = hash_of(study)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(RunError, match="must stay as the search wrote it, it was changed"):
        show(run_of_study)
    # The report goes by what the record has of it, and says so.
    told = reporting.report_json(run_of_study)
    assert told["facts"]["study"]["protocol"]["alpha"] != 0.9
    assert "run.yaml" in caplog.text
    assert any("run.yaml" in note for note in told["facts"]["missing"])


def no_search(*_: object, **__: object) -> None:
    raise AssertionError("must not begin a run")


def test_the_evidence_of_a_finished_run_is_printed_and_nothing_written(
    run_of_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_of_study.rglob("*")}
    assert ended("guidelines", run_of_study) == 0
    printed = capsys.readouterr().out
    assert "guidelines on this task" in printed
    assert "not testable here: needs a dense task" in printed
    assert {path: path.stat().st_mtime_ns for path in run_of_study.rglob("*")} == before


def test_a_recheck_trains_whole_blocks_four_times_as_long_once(
    run_of_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [t.number for t in History(read_events(run_of_study)).done if t.study is not None]
    assert len(blocks) == 8
    assert ended("guidelines", run_of_study, "--recheck", "--workers", "2") == 0
    printed = capsys.readouterr().out
    assert "8 networks trained anew at 4 times the length: about " in printed
    assert "8/8" in printed
    assert "not run" not in printed
    history = History(read_events(run_of_study))
    assert sorted(history.longer) == sorted((number, 4.0) for number in blocks)
    assert {event["purpose"] for event in history.longer.values()} == {"recheck"}
    size = (run_of_study / RECORD_NAME).stat().st_size
    assert ended("guidelines", run_of_study, "--recheck") == 0
    assert (run_of_study / RECORD_NAME).stat().st_size == size
    # The audit knows them too, and has two whole blocks at both lengths.
    assert ended("audit", run_of_study, "--networks", "6", "--quiet") == 0
    printed = capsys.readouterr().out
    assert "from 2 blocks." in printed
    after = History(read_events(run_of_study))
    assert {e["purpose"] for e in after.longer.values()} >= {"recheck"}
    assert history.longer.items() <= after.longer.items()


def test_an_audit_prints_its_tables_and_writes_its_files(
    run_of_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(run_of_study / "trials.csv")
    assert ended("audit", run_of_study, "--networks", "7", "--factor", "2") == 0
    printed = capsys.readouterr().out
    assert "7 networks trained anew at 2 times the length: about " in printed
    assert "rankings against the scores after 2 times the length" in printed
    assert "from a regression over 7 networks." in printed or "too few networks: 7" in printed
    for name in ("audit.md", "audit.csv", "figures/audit.png"):
        assert f"  {run_of_study / name}" in printed
        assert (run_of_study / name).stat().st_size
    table = pd.read_csv(run_of_study / "audit.csv")
    assert len(table) == 7
    known = rows.set_index("trial").loc[table["trial"]]
    assert known["id"].tolist() == table["id"].tolist()
    assert known["accuracy"].tolist() == table["short"].tolist()
    # The run itself is as it was.
    pd.testing.assert_frame_equal(pd.read_csv(run_of_study / "trials.csv"), rows)
    assert ended("resume", run_of_study) == 0
    assert "finished already" in capsys.readouterr().out


def started(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runs", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_longer(process: subprocess.Popen[str], directory: Path, times: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if kinds(read_events(directory)).count("longer") >= times:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    raise AssertionError("the audit did not get that far")


def audit_facts(directory: Path) -> list[dict[str, Any]]:
    table = pd.read_csv(directory / "audit.csv").drop(columns="seconds_long")
    return list(json.loads(table.sort_values("trial").to_json(orient="records")))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_audit_goes_on_and_ends_as_one_that_was_left_alone(
    study: Path, tmp_path: Path, number: int
) -> None:
    stopped, straight = (Path(shutil.copytree(study, tmp_path / n)) for n in ("one", "two"))
    audit(straight, networks=6, factor=4, quiet=True)
    process = started("audit", stopped, "--networks", "6", "--workers", "1")
    wait_for_longer(process, stopped, 2)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    if number != signal.SIGKILL:
        assert output.splitlines()[-1] == (
            "Interrupted. Every training that finished is on disk; "
            f"go on with 'replk-search audit {stopped}'."
        )
    assert "Traceback" not in output
    there = kinds(read_events(stopped)).count("longer")
    again = started("audit", stopped, "--networks", "6")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert f"; {there} of them are there already: about " in output
    assert kinds(read_events(stopped)).count("longer") == 6
    assert audit_facts(stopped) == audit_facts(straight)


# What cannot be done.


@pytest.mark.parametrize("command", [audit, recheck])
def test_an_unfinished_run_is_refused(inputs: Inputs, tmp_path: Path, command: Any) -> None:
    plan, _ = inputs.planned(budget=4)
    with Records.create(tmp_path / "run", {"plan": plan.document()}):
        plan.write(tmp_path / "run")
    more = {"networks": 5, "factor": 4.0} if command is audit else {}
    with pytest.raises(RunError, match="0 of 4 trainings are done; finish it first with 'replk-s"):
        command(tmp_path / "run", **more)


def test_a_run_without_a_study_says_what_makes_one(inputs: Inputs, tmp_path: Path) -> None:
    plan, _ = inputs.planned(budget=4)
    with Records.create(tmp_path / "run", {"plan": plan.document()}):
        plan.write(tmp_path / "run")
    with pytest.raises(RunError, match="it has no study; start one with 'replk-search guidelines'"):
        show(tmp_path / "run")


def test_an_unfinished_study_is_sent_to_resume(run_of_study: Path) -> None:
    record = run_of_study / RECORD_NAME
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(line for line in lines if b'"event":"finished"' not in line))
    with pytest.raises(RunError, match="finish it first with 'replk-search resume "):
        show(run_of_study)


def test_a_run_with_too_few_networks_cannot_be_audited(
    run_of_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.auditing.LEAST", 99)
    with pytest.raises(RunError, match="at least 99 networks whose training is complete, got "):
        audit(run_of_study, networks=20, factor=4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["guidelines", "nowhere"], "nowhere"),
        (["audit", "nowhere"], "nowhere: must be the directory of a run"),
        (["guidelines", "nowhere", "--recheck"], "nowhere: must be the directory of a run"),
        (["guidelines", "r", "--space", "default"], "--space: must stand without RUN, got RUN r"),
        (["guidelines", "r", "--budget", "9"], "--budget: must stand without RUN, got RUN r"),
        (["guidelines", "r", "--workers", "2"], "--workers: must stand with --recheck"),
        (["guidelines", "--recheck"], "--recheck: must stand with a RUN"),
        (["audit", "r", "--networks", "4"], "4 is not in the range x>=5"),
        (["audit", "r", "--factor", "1"], "1.0 is not in the range"),
        (["audit", "r", "--factor", "nan"], "must be a number above 1, got nan"),
        (["audit"], "Missing argument 'RUN'"),
    ],
)
def test_what_the_user_got_wrong_ends_with_2_and_a_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(session, "begin", no_search)
    assert ended(*words) == 2
    assert said in capsys.readouterr().err


@ROOT_READS_ALL
def test_a_directory_that_cannot_be_written_shows_its_evidence_but_cannot_be_audited(
    run_of_study: Path,
) -> None:
    (run_of_study / "run.lock").unlink(missing_ok=True)
    run_of_study.chmod(0o500)
    try:
        show(run_of_study)
        with pytest.raises(RunError, match="must be a directory that can be written"):
            audit(run_of_study, networks=5, factor=4)
    finally:
        run_of_study.chmod(0o700)


def test_without_a_run_the_whole_budget_is_a_study(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = inputs.space.with_name("study.yaml")
    space.write_text(STUDY_SPACE, encoding="utf-8")
    out = tmp_path / "out"
    words: list[str | Path] = [
        "--space",
        space,
        "--data",
        inputs.data,
        "--budget",
        "16",
        "--out",
        out,
    ]
    words += ["--backend", "torch", "--latency-backend", "torch", "--dry-run"]
    assert ended("guidelines", *words) == 0
    printed = capsys.readouterr().out
    assert "that test the guidelines" in printed
    assert not out.exists()
