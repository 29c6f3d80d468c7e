"""A run as an Optuna study: exported at once, and mirrored while it goes on."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from runs.cli import cli
from runs.ending import run as exit_code_of
from runs.history import History, Trial
from runs.masking import masked
from runs.mirror import Mirror
from runs.optuna_export import export_study
from runs.optuna_mirror import optuna_target
from runs.plan import Plan
from runs.records import Records
from search_space.errors import RunError
from tests.played import planned, played

SPACE = """\
name: small
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [8, 16]}, kernel: {choice: [3, 7, 13]}}
  - {depth: {choice: [1, 2]}, width: {choice: [24, 40]}, kernel: {choice: [3, 5, 9]}}
shared:
  structure: {choice: [none, se]}
constraints:
  macs: {max: 60e6}
"""
ENDS = {5: "diverged", 6: "stopped", 7: "failed", 8: "infeasible"}
"""How some trials of the played run end."""


def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
    state = ENDS.get(trial.number, "complete")
    found: dict[str, Any] = {"state": state, "train_seconds": 2.0}
    if state in ("failed", "infeasible"):
        return found | {"error": f"crash: {state}"}
    if state == "diverged":
        return found | {"accuracy": None, "val_loss": None}
    return found | {"accuracy": 0.5 + 0.4 * float(rng.random()), "val_loss": 1.0}


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = planned(SPACE, budget=20, objectives=("accuracy", "macs"))
    made.facts.update(started="2026-11-22T10:00:00+00:00", command="replk-search --budget 20")
    return made


@pytest.fixture(scope="module")
def history(plan: Plan) -> History:
    """A run of 20 trials of every state, with one more that has no result yet."""
    return played(plan, score, until=22)


@pytest.fixture
def run(plan: Plan, history: History, tmp_path: Path) -> Path:
    """Its directory."""
    out = tmp_path / "mine"
    with Records.create(out, {"plan": plan.document()}) as records:
        plan.write(out)
        for trial in history.trials.values():
            events = [trial.asked, trial.result] if trial.result else [trial.asked]
            for event in events:
                fields = {k: v for k, v in event.items() if k not in ("seq", "event")}
                records.append(event["event"], **fields)
    return out


def study_of(target: str | Path, name: str = "mine") -> optuna.Study:
    storage: BaseStorage
    if "://" in str(target):
        storage = RDBStorage(str(target))
    else:
        storage = JournalStorage(JournalFileBackend(str(target)))
    return optuna.load_study(study_name=name, storage=storage)


def check_study(study: optuna.Study, history: History) -> None:
    """Compare a study with the record, trial by trial."""
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "macs"]
    found = {t.user_attrs["trial"]: t for t in study.get_trials()}
    assert found.keys() == {t.number for t in history.done}
    assert len(study.trials) == len(history.done)
    named = {"stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
    named |= {"infeasible": TrialState.FAIL}
    for trial in history.done:
        told = found[trial.number]
        assert told.state == named.get(trial.state, TrialState.COMPLETE)
        assert told.params == trial.asked["params"]
        attributes = told.user_attrs
        assert attributes["id"] == trial.id
        assert attributes["state"] == trial.state
        assert attributes["architecture"] == trial.architecture.to_json()
        assert attributes.get("error") == trial.result.get("error")
        assert attributes["macs"] == trial.result["macs"]
        assert told.constraints["macs"] == attributes["macs"] - 60e6
        if told.state == TrialState.COMPLETE:
            accuracy = 0.1 if trial.state == "diverged" else trial.result["accuracy"]
            assert told.values == [accuracy, trial.result["macs"]]
    assert Counter(t.state for t in study.trials)[TrialState.COMPLETE] > 10


@pytest.mark.parametrize(("target", "file"), [("journal", "optuna.log"), ("sqlite", "optuna.db")])
def test_study_in_the_run_directory(
    target: str, file: str, plan: Plan, history: History, run: Path
) -> None:
    before = set(run.iterdir())
    command = export_study(plan, history, target, run)
    url = f"sqlite:///{run / file}" if target == "sqlite" else str(run / file)
    assert command == f"optuna-dashboard {url}"
    assert set(run.iterdir()) - before == {run / file}
    study = study_of(url)
    check_study(study, history)
    numbers = [trial.user_attrs["trial"] for trial in study.trials]
    assert numbers == sorted(numbers)
    ended = [trial.datetime_complete for trial in study.trials]
    assert ended == sorted(ended)  # type: ignore[type-var]
    assert all(trial.duration.total_seconds() == 2 for trial in study.trials if trial.duration)


def test_second_export_changes_nothing(plan: Plan, history: History, run: Path) -> None:
    export_study(plan, history, "journal", run)
    content = (run / "optuna.log").read_bytes()
    with pytest.raises(RunError, match=r"optuna\.log: must not be there yet"):
        export_study(plan, history, "journal", run)
    assert (run / "optuna.log").read_bytes() == content


def test_runs_share_a_database_but_no_name(plan: Plan, history: History, run: Path) -> None:
    url = f"sqlite:///{run.parent / 'all.db'}"
    export_study(plan, history, url, run)
    with pytest.raises(RunError, match="without a study 'mine'"):
        export_study(plan, history, url, run)
    export_study(plan, history, url, run.with_name("other"))
    assert optuna.get_all_study_names(url) == ["mine", "other"]
    check_study(study_of(url, "mine"), history)


@pytest.mark.parametrize("target", ["elsewhere/mine.log", "sqlite:///elsewhere/mine.db", "a\0b"])
def test_place_that_cannot_be_written(
    target: str,
    plan: Plan,
    history: History,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(run)
    before = sorted(run.iterdir())
    with pytest.raises(RunError, match="could not be written"):
        export_study(plan, history, target, run)
    assert sorted(run.iterdir()) == before


@pytest.mark.parametrize("place", ["new.log", "new.db", "sqlite:///old.db"])
def test_export_that_breaks_leaves_nothing(
    place: str, plan: Plan, history: History, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    export_study(plan, History(), "old.db", run.with_name("old"))
    before = sorted(run.parent.iterdir())
    *good, last = history.done
    broken = History()
    asked = last.asked | {"params": {"x": 1}, "distributions": {"x": "no JSON"}}
    broken.done = [*good, replace(last, number=99, asked=asked)]
    with pytest.raises(RunError, match="could not be written, JSONDecodeError"):
        export_study(plan, broken, place, run)
    assert sorted(run.parent.iterdir()) == before
    assert optuna.get_all_study_names("sqlite:///old.db") == ["old"]


def test_masked_passwords() -> None:
    assert masked("postgresql://me:a:b@c@host/db") == "postgresql://me:***@host/db"
    assert masked("mysql://host/db?user=me&password=x&b=1") == (
        "mysql://host/db?user=me&password=***&b=1"
    )
    assert masked("sqlite:///a@b.db") == "sqlite:///a@b.db"


def test_choices_that_changed_get_a_name_of_their_own(
    plan: Plan, history: History, run: Path
) -> None:
    changed = History()
    last = history.done[-1]
    name = next(name for name in last.asked["params"] if "kernel" in name)
    text = '{"name": "CategoricalDistribution", "attributes": {"choices": ["a", "b"]}}'
    asked = last.asked | {"params": {name: "b"}, "distributions": {name: text}}
    changed.done = [*history.done, replace(last, number=99, asked=asked)]
    export_study(plan, changed, "journal", run)
    study = study_of(run / "optuna.log")
    assert study.trials[-1].params == {f"{name} #2": "b"}
    assert len(study.trials) == len(history.done) + 1


def mirrored(mirror: Mirror, trials: list[Trial]) -> None:
    for trial in trials:
        mirror.told(trial)
    mirror.close(60)


@pytest.mark.parametrize("target", ["journal", "sqlite"])
def test_mirror_of_a_run_that_is_resumed(
    target: str, plan: Plan, history: History, tmp_path: Path
) -> None:
    run = tmp_path / "mine"
    run.mkdir()
    said: list[str] = []
    mirrored(Mirror(optuna_target(target, plan, run), warn=said.append), history.done[:12])
    # A resumed run tells all that is finished, and then the rest; the last one twice.
    mirrored(
        Mirror(optuna_target(target, plan, run), warn=said.append),
        [*history.done[:12], *history.done[6:]],
    )
    url = f"sqlite:///{run / 'optuna.db'}" if target == "sqlite" else str(run / "optuna.log")
    check_study(study_of(url), history)
    assert said == []


def test_mirror_leaves_the_study_of_another_run(
    plan: Plan, history: History, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'all.db'}"
    mirrored(Mirror(optuna_target(url, plan, tmp_path / "mine")), history.done[:3])
    other = replace(plan, settings=replace(plan.settings, seed=2))
    said: list[str] = []
    mirrored(Mirror(optuna_target(url, other, tmp_path / "mine"), warn=said.append), history.done)
    assert len(study_of(url).trials) == 3
    assert len(said) == 1
    assert "the study 'mine' there is of another run" in said[0]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("nowhere/mine.log", "No such file or directory"),
        ("sqlite:///nowhere/mine.db", "unable to open database file"),
        ("oracle9://me:secret@host/db", "oracle9"),
        ("redis://:secret@host", "redis"),
    ],
)
def test_mirror_that_fails_says_so_once(
    target: str,
    why: str,
    plan: Plan,
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    mirrored(
        Mirror(optuna_target(target, plan, tmp_path / "mine"), warn=said.append, retry_s=0),
        history.done,
    )
    assert len(said) == 1
    assert why in said[0]
    assert "secret" not in said[0]
    assert f"replk-search export {tmp_path / 'mine'} --optuna" in said[0]


def test_locked_database_holds_up_nothing(plan: Plan, history: History, tmp_path: Path) -> None:
    file = tmp_path / "all.db"
    url, said = f"sqlite:///{file}", list[str]()
    mirrored(
        Mirror(optuna_target(url, plan, tmp_path / "mine"), warn=said.append), history.done[:3]
    )
    with sqlite3.connect(file) as lock:
        lock.execute("begin exclusive")
        begin = time.monotonic()
        mirror = Mirror(optuna_target(url, plan, tmp_path / "mine"), warn=said.append)
        for trial in history.done:
            mirror.told(trial)
        told = time.monotonic() - begin
        mirror.close(0.5)
        assert told < 0.5
        assert time.monotonic() - begin < 5
        lock.rollback()
    lock.close()
    assert len(said) == 1
    assert "did not take all trials within 0.5 s" in said[0]
    # Once it is free again the thread finds its way.
    mirror.close(60)
    check_study(study_of(url), history)


def test_database_that_comes_back_gets_every_trial(
    plan: Plan, history: History, tmp_path: Path
) -> None:
    said: list[str] = []
    home = tmp_path / "later"
    mirror = Mirror(
        optuna_target(str(home / "mine.log"), plan, tmp_path / "mine"), warn=said.append, retry_s=0
    )
    mirror.told(history.done[0])
    until = time.monotonic() + 30
    while not said and time.monotonic() < until:
        time.sleep(0.01)
    home.mkdir()
    mirrored(mirror, history.done[1:])
    check_study(study_of(home / "mine.log"), history)
    assert len(said) == 1


def exported(*words: str | Path) -> int:
    return exit_code_of(lambda: cli.main([str(w) for w in words], standalone_mode=False))


def test_command(run: Path, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported("export", run, "--optuna") == 0
    assert capsys.readouterr().out == f"optuna-dashboard {run / 'optuna.log'}\n"
    check_study(study_of(run / "optuna.log"), history)
    assert exported("export", run, "--optuna", "sqlite") == 0
    check_study(study_of(f"sqlite:///{run / 'optuna.db'}"), history)
    assert exported("export", run, "--optuna", "sqlite") == 2
    assert "without a study 'mine'" in capsys.readouterr().err
    assert exported("export", run) == 2
    assert "or '--optuna'" in capsys.readouterr().err
    assert exported("export", run / "none", "--optuna") == 2
