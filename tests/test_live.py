"""A run shown where teams look: TensorBoard, MLflow, optuna-dashboard; and loggers that fail.

Events, runs and trials are read back with the tools' own readers, where they are installed, and
compared with the record.
"""

from __future__ import annotations

import importlib
import json
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from runs import loggers, session
from runs.cli import cli
from runs.ending import run as exit_code_of
from runs.history import History, Trial
from runs.live import SCALARS, Progress, curve, parameters, scalars
from runs.loggers import Shown, logged
from runs.mirror import Mirror, Target, mirrored
from runs.mlflow_log import mlflow_target, tracking
from runs.optuna_mirror import optuna_target
from runs.plan import Plan
from runs.ranking import hypervolume, objectives_named, reference_point, trials_frame
from runs.records import read_events
from runs.tensorboard_log import read_events as read_log
from runs.tensorboard_log import tensorboard_target
from tests.micro import Inputs
from tests.played import planned, played

pytest_plugins = ["tests.micro_fixtures"]

SPACE = """\
name: small
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [8, 16]}, kernel: {choice: [3, 7, 13]}}
  - {depth: {choice: [1, 2]}, width: {choice: [24, 40]}, kernel: {choice: [3, 5, 9]}}
"""
ENDS = {5: "diverged", 6: "stopped", 7: "failed", 8: "infeasible"}


def need(module: str, extra: str) -> Any:
    """Import a tool, or skip the test where it is not installed."""
    if find_spec(module) is None:
        pytest.skip(f"needs {module}: pip install -e '.[{extra}]'")
    return importlib.import_module(module)


def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
    state = ENDS.get(trial.number, "complete")
    if state in ("failed", "infeasible"):
        return {"state": state, "error": f"crash: {state}", "latency_ms": None}
    found = {"state": state, "train_seconds": 2.0, "steps": 40}
    found["curve"] = [[20, 2.0 + trial.number], [40, None if state == "diverged" else 1.5]]
    if state == "diverged":
        return found | {"accuracy": None, "val_loss": None}
    return found | {"accuracy": 0.5 + 0.4 * float(rng.random()), "val_loss": 1.0}


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = planned(SPACE, budget=12, objectives=("accuracy", "latency"))
    made.facts.update(started="2026-11-22T10:00:00+00:00", command="replk-search --budget 12")
    made.facts["data"]["name"] = "made"
    return made


@pytest.fixture(scope="module")
def history(plan: Plan) -> History:
    return played(plan, score)


def shown(target: Target, trials: list[Trial], *, wait: float = 60) -> list[str]:
    """Mirror trials to a target; gives what was warned of."""
    said: list[str] = []
    mirror = Mirror(target, warn=said.append, retry_s=0)
    for trial in trials:
        mirror.told(trial)
    mirror.close(wait)
    return said


# What is logged.


def test_progress_is_that_of_a_report_of_each_moment(plan: Plan, history: History) -> None:
    objectives = objectives_named(plan.settings.objectives)
    progress, rows = Progress(plan), []
    for step, trial in enumerate(history.done, start=1):
        told = {key: getattr(trial, key) for key in ("state", "role", "id", "repeat")}
        rows.append(told | {"trial": trial.number, "length": float(trial.length)} | trial.result)
        frame = trials_frame(rows)
        reference = reference_point(frame, objectives)
        assert progress.step(trial) == step
        found = progress.values(trial)
        assert found["hypervolume"] == hypervolume(frame, objectives, reference)
        complete = [row["accuracy"] for row in rows if row["state"] == "complete"]
        assert found["best/accuracy"] == max(complete)
        point = {objective.column: reference[objective.name] for objective in objectives}
        assert {k: v for k, v in found.items() if k.startswith("reference")} == {
            f"reference_point/{column}": value for column, value in point.items()
        }
    assert len({progress.values(trial)["hypervolume"] for trial in history.done}) > 2
    # One that comes again has its place.
    assert progress.step(history.done[3]) == 4


@pytest.mark.parametrize("names", [("accuracy",), ("val_loss", "macs", "latency")])
def test_progress_keeps_only_the_trials_that_count(names: tuple[str, ...], plan: Plan) -> None:
    rng = np.random.default_rng(0)
    objectives = objectives_named(names)
    progress = Progress(replace(plan, settings=replace(plan.settings, objectives=names)))
    pattern, rows = played(plan, score).done[0], []
    for number in range(150):
        accuracy, latency = rng.integers(1, 9) / 10, float(rng.integers(1, 9))
        macs = None if number % 7 == 0 else int(rng.integers(1, 9)) * 1000
        result = {"accuracy": accuracy, "val_loss": 1 - accuracy, "latency_ms": latency}
        result |= {"macs": macs, "state": "complete"}
        known: dict[str, Any] = {"id": f"{number:012x}", "role": "search"}
        rows.append(result | known | {"trial": number})
        trial = replace(pattern, number=number, state="complete", result=result, **known)
        assert progress.step(trial) == number + 1
        if number % 15:
            continue
        found = progress.values(trial)
        frame = trials_frame(rows)
        assert found["hypervolume"] == pytest.approx(
            hypervolume(frame, objectives, reference_point(frame, objectives)), rel=1e-12
        )
    assert len(progress._rows) < 60


def test_no_trial_is_complete(plan: Plan, history: History) -> None:
    failed = next(trial for trial in history.done if trial.state == "failed")
    progress = Progress(plan)
    assert progress.step(failed) == 1
    assert progress.values(failed) == {}


def test_parameters_have_plain_names(history: History) -> None:
    trial = history.done[0]
    found = parameters(trial)
    last = trial.architecture.stages[-1]
    assert found["stages.1.kernel"] == last.kernel
    assert found["widths"] == "|".join(str(stage.width) for stage in trial.architecture.stages)
    assert found["role"] == trial.role
    assert found["s1"] == trial.result["s1"]
    assert all(isinstance(value, str | int | float) for value in found.values())
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.") for name in found)


# TensorBoard.


def tags(folder: Path) -> dict[str, dict[int, float]]:
    """Read the scalars of a folder with our own reader: values by tag and step."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.tfevents*")):
        for event in read_log(path):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    assert event.step not in found.setdefault(value.tag, {}), "doubled"
                    found[value.tag][event.step] = value.simple_value
    return found


def hparams(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("events.out.tfevents*")
    for event in read_log(path):
        for value in event.summary.value:
            if value.tag == "_hparams_/session_start_info":
                data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                told = data.session_start_info.hparams
                return {k: getattr(v, v.WhichOneof("kind")) for k, v in told.items()}
    raise AssertionError("no hyperparameters")


def f32(value: float) -> float:
    return float(np.float32(value))


def check_tensorboard(folder: Path, plan: Plan, history: History) -> None:
    """Compare a log with the record, trial by trial."""
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {
        f"trial-{trial.number:04d}" for trial in history.done
    }
    progress, run = Progress(plan), tags(folder)
    for step, trial in enumerate(history.done, start=1):
        assert progress.step(trial) == step
        for name, value in progress.values(trial).items():
            assert run[name][step] == f32(value)
        values = scalars(trial)
        assert values or trial.state in ("failed", "infeasible")
        last, inner = trial.result.get("steps") or 0, folder / f"trial-{trial.number:04d}"
        found = tags(inner)
        for name in SCALARS:
            told = trial.result.get(name)
            assert (name in values) == (told is not None)
            assert found.pop(name, None) == (None if told is None else {last: f32(told)})
            assert run.get(f"trials/{name}", {}).get(step) == (None if told is None else f32(told))
        points = {step: f32(loss) for step, loss in curve(trial)}
        assert found == ({"train_loss": points} if points else {})
        assert hparams(inner) == {
            name: value if isinstance(value, str) else float(value)
            for name, value in parameters(trial).items()
        }


def test_tensorboard_log_equals_the_record(plan: Plan, history: History, tmp_path: Path) -> None:
    assert shown(tensorboard_target(tmp_path / "logs", plan, tmp_path / "mine"), history.done) == []
    check_tensorboard(tmp_path / "logs" / "mine", plan, history)


def test_tensorboard_log_of_a_resumed_run(plan: Plan, history: History, tmp_path: Path) -> None:
    target = tensorboard_target(tmp_path, plan, tmp_path / "mine")
    assert shown(target, history.done[:5]) == []
    # A kill tore the last event of the run, and a trial's draft was left.
    (log,) = (tmp_path / "mine").glob("events*")
    log.write_bytes(log.read_bytes()[:-7])
    (tmp_path / "mine" / "trial-0009").mkdir()
    (tmp_path / "mine" / "trial-0009" / ".trial-0009.tmp").write_bytes(b"half")
    target = tensorboard_target(tmp_path, plan, tmp_path / "mine")
    assert shown(target, [*history.done, *history.done[-2:]]) == []
    check_tensorboard(tmp_path / "mine", plan, history)
    before = sorted(tmp_path.rglob("events*"))
    target = tensorboard_target(tmp_path, plan, tmp_path / "mine")
    assert shown(target, history.done) == []
    assert sorted(tmp_path.rglob("events*")) == before


def test_tensorboard_log_of_another_run_is_left_alone(
    plan: Plan, history: History, tmp_path: Path
) -> None:
    assert shown(tensorboard_target(tmp_path, plan, tmp_path / "mine"), history.done[:2]) == []
    before = sorted(tmp_path.rglob("*"))
    other = replace(plan, settings=replace(plan.settings, seed=2))
    (said,) = shown(tensorboard_target(tmp_path, other, tmp_path / "mine"), history.done)
    assert "is of another run" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_tensorboard_itself_reads_the_log(plan: Plan, history: History, tmp_path: Path) -> None:
    need("tensorboard", "tensorboard")
    module = "tensorboard.backend.event_processing.event_multiplexer"
    multiplexer = importlib.import_module(module).EventMultiplexer()
    shown(tensorboard_target(tmp_path, plan, tmp_path / "mine"), history.done[:7])
    shown(tensorboard_target(tmp_path, plan, tmp_path / "mine"), history.done)
    multiplexer.AddRunsFromDirectory(str(tmp_path)).Reload()
    assert set(multiplexer.Runs()) == {"mine"} | {
        f"mine/trial-{trial.number:04d}" for trial in history.done
    }
    progress = Progress(plan)
    # TensorBoard follows the newest file of a folder and has read those before it.
    events = {event.step: event.value for event in multiplexer.Scalars("mine", "hypervolume")}
    for trial in history.done:
        step = progress.step(trial)
        assert events[step] == f32(progress.values(trial)["hypervolume"])
        if trial.state == "complete":
            (event,) = multiplexer.Scalars(f"mine/trial-{trial.number:04d}", "accuracy")
            assert event.value == f32(trial.result["accuracy"])
            metadata = multiplexer.SummaryMetadata(
                f"mine/trial-{trial.number:04d}", "_hparams_/session_start_info"
            )
            assert metadata.plugin_data.plugin_name == "hparams"


# MLflow.


@pytest.fixture
def client(tmp_path: Path) -> Any:
    need("mlflow", "mlflow")
    return importlib.import_module("mlflow.tracking").MlflowClient(
        tracking_uri=tracking(str(tmp_path / "store"))[0]
    )


# MLflow 3.17 with SQLAlchemy 2.1.
mlflow_warnings = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def check_mlflow(client: Any, plan: Plan, history: History, name: str = "mine") -> None:
    """Compare the runs of a store with the record, trial by trial."""
    experiment = client.get_experiment_by_name("replk-search").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment], max_results=1000)}
    assert len(client.search_runs([experiment], max_results=1000)) == len(runs)
    parent = runs.pop(name)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["objectives"] == str(plan.settings.objectives)
    assert set(runs) == {f"trial-{trial.number:04d}" for trial in history.done}
    progress, of_run = Progress(plan), {}
    for key in parent.data.metrics:
        points = client.get_metric_history(parent.info.run_id, key)
        of_run[key] = {m.step: m.value for m in points}
        assert len(points) == len(of_run[key]), "doubled"
    for trial in history.done:
        step = progress.step(trial)
        values = progress.values(trial)
        assert {k: v[step] for k, v in of_run.items() if step in v} == values | {"finished": step}
        run = runs[f"trial-{trial.number:04d}"]
        named = {"complete": "FINISHED", "diverged": "FINISHED", "stopped": "KILLED"}
        assert run.info.status == named.get(trial.state, "FAILED")
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["state"] == trial.state
        assert run.data.tags["architecture"] == trial.architecture.to_json()
        assert run.data.tags.get("error") == trial.result.get("error")
        assert run.data.params == {k: str(v) for k, v in parameters(trial).items()}
        metrics = dict(run.data.metrics)
        points = client.get_metric_history(run.info.run_id, "train_loss")
        assert [(m.step, m.value) for m in points] == curve(trial)
        metrics.pop("train_loss", None)
        assert metrics == scalars(trial)


@pytest.mark.slow
@mlflow_warnings
def test_mlflow_runs_equal_the_record(
    client: Any, plan: Plan, history: History, tmp_path: Path
) -> None:
    target = mlflow_target(str(tmp_path / "store"), plan, tmp_path / "mine")
    assert shown(target, history.done[:5]) == []
    # A kill left a trial without its end, and the run as if it went on.
    (mine,) = client.search_runs(["1"], "attributes.run_name = 'mine'")
    client.update_run(mine.info.run_id, status="RUNNING")
    tags = {"mlflow.parentRunId": mine.info.run_id, "trial": "9"}
    client.create_run("1", run_name="trial-0009", tags=tags)
    target = mlflow_target(str(tmp_path / "store"), plan, tmp_path / "mine")
    assert shown(target, [*history.done, *history.done[-2:]]) == []
    check_mlflow(client, plan, history)
    # A run of the same name begun at another time has a run of its own.
    other = replace(plan, facts=plan.facts | {"started": "later"})
    assert shown(mlflow_target(str(tmp_path / "store"), other, tmp_path / "mine"), []) == []
    assert (
        shown(mlflow_target(str(tmp_path / "store"), other, tmp_path / "mine"), history.done[:1])
        == []
    )
    assert len(client.search_runs(["1"], "attributes.run_name = 'mine'")) == 2


@pytest.mark.slow
@mlflow_warnings
def test_mlflow_server_that_hangs_or_is_away(
    plan: Plan, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mlflow", "mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begin = time.monotonic()
        place = f"http://me:secret@127.0.0.1:{port}"
        (said,) = shown(mlflow_target(place, plan, tmp_path), history.done, wait=2)
        assert time.monotonic() - begin < 10
        assert "did not take all trials within 2 s of the end of the search" in said
        assert "secret" not in said
    (said,) = shown(
        mlflow_target(f"http://me:secret@127.0.0.1:{port}", plan, tmp_path), history.done
    )
    assert said.startswith(f"--mlflow: http://me:***@127.0.0.1:{port} failed, ")
    assert "secret" not in said
    assert f"'replk-search resume {tmp_path} --mlflow URI' logs what is missing" in said


def test_paths_for_mlflow(tmp_path: Path) -> None:
    folder = tmp_path / "team"
    assert tracking(str(folder)) == (f"sqlite:///{folder / 'mlflow.db'}", folder)
    assert folder.is_dir()
    assert tracking(str(folder / "a.db")) == (f"sqlite:///{folder / 'a.db'}", folder)
    for uri in ("http://host:5000", "postgresql://me:x@host/db", "databricks", "file:///tmp/x"):
        assert tracking(uri) == (uri, None)


def test_missing_extra_is_said_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    out = tmp_path / "out"
    for words in (
        ["search", "--out", str(out)],
        ["guidelines", "--out", str(out)],
        ["resume", "x"],
    ):
        code = exit_code_of(
            lambda words=words: cli.main([*words, "--mlflow", "runs"], standalone_mode=False)
        )
        assert code == 2
        said = capsys.readouterr().err
        assert "--mlflow: the package mlflow must be installed, it is not" in said
        assert "pip install 'replk-search[mlflow]'" in said
        assert "pip install -e '.[mlflow]'" in said
    assert not out.exists()


# Loggers that fail.


def test_targets_that_fail_are_warned_of_once_each(
    plan: Plan, history: History, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    asked = Shown(tensorboard=tmp_path / "file", optuna_storage=str(tmp_path / "no" / "such.log"))
    with logged(asked, plan, tmp_path / "mine", said.append) as told:
        for trial in history.done:
            told(trial)
    assert len(said) == 2
    assert any(text.startswith(f"--tensorboard: {tmp_path / 'file'} failed, ") for text in said)
    assert any(text.startswith("--optuna-storage: ") for text in said)
    assert f"'replk-search resume {tmp_path / 'mine'} --tensorboard DIR'" in "".join(said)


class Slow:
    """A target that takes its time; or for ever."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.took: list[int] = []

    def add(self, trial: Trial) -> None:
        time.sleep(self.seconds)
        self.took.append(trial.number)

    def end(self) -> None:
        self.took.append(-1)


def test_slow_targets_hold_up_a_search_once_together(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.mirror.CLOSE_S", 0.5)
    said: list[str] = []
    hanging = [
        Target(option=f"--{n}", place="there", open=lambda: Slow(60), advice="") for n in range(3)
    ]
    begin = time.monotonic()
    with mirrored(hanging, said.append) as told:
        for trial in history.done:
            told(trial)
        assert time.monotonic() - begin < 0.4
    assert time.monotonic() - begin < 1.4
    assert len(said) == 3


def test_patience_lasts_as_long_as_trials_arrive(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.mirror.PATIENCE_S", 0.3)
    slow, said = Slow(0.1), list[str]()
    target = Target(option="--slow", place="there", open=lambda: slow, advice="")
    with mirrored([target], said.append, patient=True) as told:
        for trial in history.done:
            told(trial)
    assert slow.took == [*(trial.number for trial in history.done), -1]
    assert said == []
    with mirrored([replace(target, open=lambda: Slow(60))], said.append, patient=True) as told:
        told(history.done[0])
    assert len(said) == 1


# Real searches.

TIMES = {"at_s", "seconds", "train_seconds", "started", "command", "wall_s", "worker_s"}
TIMES |= {"training_s", "latency_s", "peak_bytes"}


def timeless(value: Any) -> Any:
    """Leave out what depends on the clock, and with it the latencies."""
    if isinstance(value, dict):
        return {
            key: timeless(inner)
            for key, inner in value.items()
            if key not in TIMES and not key.startswith("latenc")
        }
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def searched(inputs: Inputs, out: Path, asked: Shown) -> list[dict[str, Any]]:
    """Search the micro space to its end, by one worker; gives the events."""
    plan, images = inputs.planned(budget=6, workers=1)
    session.begin(plan, images, out, session.Manner(quiet=True, shown=asked))
    return read_events(out)


@pytest.mark.slow
@mlflow_warnings
def test_failing_and_hanging_targets_leave_the_record_as_it_is(
    inputs: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = searched(inputs, tmp_path / "alone", Shown())
    (tmp_path / "file").touch()
    database = tmp_path / "locked.db"
    with sqlite3.connect(database) as lock, socket.create_server(("127.0.0.1", 0)) as silent:
        # One fails at once, one hangs in a lock, one on a server that never answers.
        lock.execute("create table a (b)")
        lock.commit()
        lock.execute("begin exclusive")
        uri = f"http://me:secret@127.0.0.1:{silent.getsockname()[1]}"
        asked = Shown(
            tensorboard=tmp_path / "file",
            optuna_storage=f"sqlite:///{database}",
            mlflow=uri if find_spec("mlflow") else None,
        )
        found = searched(inputs, tmp_path / "shown", asked)
        lock.rollback()
    lock.close()
    assert timeless(found) == timeless(events)
    assert len(events) > 15
    # Said although only the results are printed.
    said = caplog.text
    assert said.count("--tensorboard: ") == 1
    assert said.count("--optuna-storage: ") == 1
    assert said.count("--mlflow: ") == (1 if find_spec("mlflow") else 0)
    assert "secret" not in said
    for path in (tmp_path / "shown").rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes()
        assert not path.is_file() or str(database).encode() not in path.read_bytes()


@pytest.mark.slow
@mlflow_warnings
def test_search_is_logged_live_and_a_resume_goes_on(inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "run"
    place = str(tmp_path / "store") if find_spec("mlflow") else None
    searched(inputs, out, Shown(tensorboard=tmp_path / "logs", mlflow=place))
    # Without the loggers two more, which the next resume brings.
    session.resume(out, session.Manner(quiet=True), budget=8)
    asked = Shown(tensorboard=tmp_path / "logs", mlflow=place)
    session.resume(out, session.Manner(quiet=True, shown=asked))
    history = History(read_events(out))
    assert len(history.done) == 8
    log = tmp_path / "logs" / "run"
    assert {p.name for p in log.iterdir() if p.is_dir()} == {f"trial-{n:04d}" for n in range(8)}
    found = tags(log)
    assert sorted(found["hypervolume"]) == list(range(1, 9))
    for step, trial in enumerate(history.done, start=1):
        assert found["trials/accuracy"][step] == f32(trial.result["accuracy"])
    if place is not None:
        client = importlib.import_module("mlflow.tracking").MlflowClient(tracking(place)[0])
        runs = client.search_runs(["1"])
        assert len(runs) == 9
        values = {r.data.tags.get("trial"): r.data.metrics.get("accuracy") for r in runs}
        for trial in history.done:
            assert values[str(trial.number)] == trial.result["accuracy"]


@contextmanager
def dashboard(target: str) -> Iterator[str]:
    """Start optuna-dashboard on a storage; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, target, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                fetched(f"{address}/api/meta")
                break
            except OSError:
                assert server.poll() is None, server.stderr and server.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.1)
        yield address
    finally:
        server.kill()
        server.communicate()


def fetched(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


def check_dashboard(address: str, trials: list[Trial], objectives: list[str]) -> None:
    """Compare the study that a dashboard gives with the record, trial by trial."""
    (study,) = fetched(f"{address}/api/studies")["study_summaries"]
    assert study["study_name"] == "mine"
    found = fetched(f"{address}/api/studies/{study['study_id']}?after=0")
    assert found["directions"] == ["maximize", "minimize"]
    assert found["objective_names"] == objectives
    shown_trials = {}
    for trial in found["trials"]:
        told = {attribute["key"]: attribute["value"] for attribute in trial["user_attrs"]}
        shown_trials[int(told["trial"])] = (trial, told)
    assert len(found["trials"]) == len(trials)
    assert set(shown_trials) == {trial.number for trial in trials}
    named = {"stopped": "Pruned", "failed": "Fail", "infeasible": "Fail"}
    for trial in trials:
        there, told = shown_trials[trial.number]
        assert there["state"] == named.get(trial.state, "Complete")
        if trial.state == "complete":
            assert there["values"] == [trial.result[name] for name in objectives]
        for name in ("id", "state", "accuracy", "val_loss", "latency_ms", "macs", "error"):
            value = trial.id if name == "id" else trial.result.get(name)
            assert told.get(name) == (None if value is None else str(value))
        assert told["architecture"] == trial.architecture.to_json()
        params = {p["name"]: p["param_external_value"] for p in there["params"]}
        assert params == {name: str(value) for name, value in trial.asked["params"].items()}


@pytest.mark.slow
def test_dashboard_follows_a_journal(plan: Plan, history: History, tmp_path: Path) -> None:
    need("optuna_dashboard", "dashboard")
    place = str(tmp_path / "study.log")
    assert shown(optuna_target(place, plan, tmp_path / "mine"), history.done[:3]) == []
    with dashboard(place) as address:
        check_dashboard(address, history.done[:3], ["accuracy", "latency_ms"])
        assert shown(optuna_target(place, plan, tmp_path / "mine"), history.done) == []
        # It asks the storage again after some seconds at the latest.
        until = time.monotonic() + 30
        while True:
            try:
                check_dashboard(address, history.done, ["accuracy", "latency_ms"])
                break
            except AssertionError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)


@pytest.mark.slow
def test_dashboard_shows_what_a_search_wrote_live(inputs: Inputs, tmp_path: Path) -> None:
    need("optuna_dashboard", "dashboard")
    url = f"sqlite:///{tmp_path / 'study.db'}"
    searched(inputs, tmp_path / "mine", Shown(optuna_storage=url))
    history = History(read_events(tmp_path / "mine"))
    done = [replace(trial, result=dict(trial.result)) for trial in history.done]
    for trial in done:
        # As it was told, before networks of the front were measured again.
        trial.result["latency_ms"] = trial.measured_ms
    with dashboard(url) as address:
        check_dashboard(address, done, ["accuracy", "macs"])
