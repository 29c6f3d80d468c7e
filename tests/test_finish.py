from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from builders import build_network, merge_network
from evaluators.scores import evaluate
from runs import session
from runs.finish import Finish, is_finished
from runs.history import History
from runs.plan import Plan, load_plan
from runs.records import RECORD_NAME, Records, read_events
from runs.standings import recommended
from runs.workers import Pool
from search_space.architecture import Architecture
from search_space.errors import WorkFailed
from tests.micro import kinds

pytest_plugins = ["tests.micro_fixtures"]

STEPS = ("remeasured", "tested", "finaltrained", "finished")


def resumed(run: Path, **changes: Any) -> None:
    session.resume(run, session.Manner(quiet=True), **changes)


def cut_before(run: Path, event: str) -> None:
    """Take the last events off a record, as if the run had been killed before one of them."""
    path = run / RECORD_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if f'"event":"{event}"'.encode() in line)
    path.write_bytes(b"".join(lines[:at]))
    (run / ".trials.count").unlink()


def final_of(run: Path) -> dict[str, Any]:
    return History(read_events(run)).final["finaltrained"]


def test_each_step_is_done_once_and_in_order(finished: Path) -> None:
    assert [kind for kind in kinds(read_events(finished)) if kind in STEPS] == list(STEPS)


def test_the_front_is_measured_again_and_tested_and_nothing_else_is(finished: Path) -> None:
    history = History(read_events(finished))
    remeasured = set(history.final["remeasured"]["latencies"])
    assert remeasured == set(history.final["tested"]["scores"])
    assert 0 < len(remeasured) < len(history.trials)
    assert {
        str(trial.number) for trial in history.done if "test_accuracy" in trial.result
    } == remeasured


def test_test_accuracies_are_those_of_the_kept_weights(finished: Path) -> None:
    history, plan = History(read_events(finished)), load_plan(finished)
    number, scores = next(iter(history.final["tested"]["scores"].items()))
    weights = finished / "weights" / f"{number}.safetensors"
    architecture = history.trials[int(number)].architecture
    assert accuracy_of(architecture, weights, plan) == scores["test_accuracy"]


def accuracy_of(architecture: Architecture, weights: Path, plan: Plan) -> float:
    data = plan.data.load()
    network = build_network(architecture, data.num_classes)
    network.load_state_dict(load_file(weights))
    return evaluate(merge_network(network), data, "test").accuracy


def test_the_recommended_network_is_trained_on_until_it_beats_the_linear_classifier(
    finished: Path,
) -> None:
    history, plan = History(read_events(finished)), load_plan(finished)
    best = recommended(plan, history)
    final = history.final["finaltrained"]
    assert best is not None
    assert best.result["accuracy"] == max(trial.result["accuracy"] for trial in history.done)
    assert final["id"] == best.id
    assert final["epochs"] in (12, 36, 84)
    assert final["accuracy"] >= final["baseline_val_accuracy"] + 0.01
    assert final["test_accuracy"] > final["baseline_test_accuracy"]
    assert final["test_accuracy"] == accuracy_of(
        best.architecture, finished / "weights" / final["weights"], plan
    )


def test_resuming_a_finished_run_changes_neither_record_nor_tables(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in (RECORD_NAME, "trials.csv", "front.csv")}
    resumed(run)
    assert {name: (run / name).read_bytes() for name in before} == before


def test_a_run_killed_before_its_final_training_does_that_alone_and_the_same(run: Path) -> None:
    expected = final_of(run)
    cut_before(run, "finaltrained")
    known = read_events(run)
    resumed(run)
    assert kinds(read_events(run)[len(known) :]) == ["session", "finaltrained", "finished"]
    for key in ("id", "epochs", "accuracy", "val_loss", "test_accuracy", "baseline_test_accuracy"):
        assert final_of(run)[key] == expected[key]


def test_a_run_that_goes_on_does_the_closing_steps_again_with_what_weights_there_are(
    run: Path,
) -> None:
    shutil.rmtree(run / "weights")
    assert is_finished(History(read_events(run)), 6)
    assert not is_finished(History(read_events(run)), 7)
    resumed(run, budget=7)
    events = read_events(run)
    done = max(event["seq"] for event in events if event["event"] == "done")
    assert [kind for kind in kinds(events[done:]) if kind in STEPS] == list(STEPS)
    assert History(events).spent == 7
    assert final_of(run)["state"] == "complete"
    assert set(History(events).final["tested"]["scores"]) <= {"6"}
    # The total stays what it was given last.
    resumed(run)
    assert kinds(read_events(run)) == kinds(events)


def test_a_final_training_that_fails_leaves_tables_and_ends_with_its_reason(run: Path) -> None:
    cut_before(run, "finaltrained")
    best = recommended(load_plan(run), History(read_events(run)))
    assert best is not None
    (run / "weights" / f"{best.number}.safetensors").write_bytes(b"no weights")
    (run / "trials.csv").unlink()
    with pytest.raises(WorkFailed, match=r"^final job: must end well, got error: .*header"):
        resumed(run)
    assert (run / "trials.csv").exists()
    assert "finished" not in kinds(read_events(run))


@pytest.mark.parametrize("keep", ["front", "all", "none"])
def test_weights_are_kept_as_the_user_asked(run: Path, keep: str) -> None:
    plan = load_plan(run)
    plan = replace(plan, settings=replace(plan.settings, keep_weights=keep))
    (run / "weights" / "3.tmp").write_bytes(b"of a training that was killed")
    with Records.open(run) as records, Pool(1) as pool:
        finish = Finish(plan, records, pool, note=str, on_progress=lambda _: None)
        finish.run()
        on_front = {f"{trial.number}.safetensors" for trial in finish.front()}
    expected = {
        "front": on_front,
        "all": {f"{number}.safetensors" for number in range(6)},
        "none": set(),
    }[keep]
    kept = {path.name for path in (run / "weights").iterdir() if path.suffix == ".safetensors"}
    assert kept == expected | {final_of(run)["weights"]}
    assert (run / "weights" / "3.tmp").exists() == (keep == "all")


def test_where_no_training_is_complete_there_is_nothing_to_do_but_to_say_so(run: Path) -> None:
    cut_before(run, "asked")
    with Records.open(run) as records, Pool(1) as pool:
        before = kinds(records.events)
        Finish(load_plan(run), records, pool, note=str, on_progress=lambda _: None).run()
        assert kinds(records.events) == [*before, "finished"]


def test_weights_on_the_disk_are_of_the_training_form(finished: Path) -> None:
    history = History(read_events(finished))
    weights = load_file(finished / "weights" / "1.safetensors")
    network = build_network(history.trials[1].architecture, 4)
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.isfinite(value).all() for value in weights.values())
