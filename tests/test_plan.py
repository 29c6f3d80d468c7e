from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from evaluators.recipe import Recipe
from runs.plan import (
    Plan,
    Settings,
    default_workers,
    environment,
    load_plan,
    resolved_backend,
    resolved_device,
    restore_plan,
)
from search_space.errors import RunError
from tests.micro import SPACE, Inputs

pytest_plugins = ["tests.micro_fixtures"]

CONSTRAINED = (
    SPACE.replace("name: micro", "name: 'no'")
    + "input: {channels: 1, size: [12, 12]}\nconstraints: {params: {min: 1, max: 1e6}}\n"
)


@pytest.fixture
def plan(inputs: Inputs) -> Plan:
    return inputs.planned()[0]


def assert_round_trip(plan: Plan, directory: Path) -> None:
    # As the record keeps it.
    document = json.loads(json.dumps(plan.document()))
    plan.write(directory)
    again = load_plan(directory)
    assert again.document() == document
    assert replace(again, space=plan.space) == plan
    assert [(c.name, c.bounds()) for c in again.space.constraints] == [
        (c.name, c.bounds()) for c in plan.space.constraints
    ]
    assert [network.id for network in again.space.census.all()] == [
        network.id for network in plan.space.census.all()
    ]


def test_a_plan_comes_back_from_its_file(plan: Plan, tmp_path: Path) -> None:
    assert_round_trip(plan, tmp_path)


@pytest.mark.parametrize("text", [CONSTRAINED, SPACE.removeprefix("name: micro\n")])
def test_constraints_odd_names_and_missing_names_come_back(
    inputs: Inputs, tmp_path: Path, text: str
) -> None:
    assert_round_trip(inputs.planned(text=text)[0], tmp_path)


def test_a_sparse_recipe_comes_back(inputs: Inputs, tmp_path: Path) -> None:
    recipe = Recipe(sparsity_init="erk", prune_rate=0.5, mask_updates=7)
    assert_round_trip(inputs.planned(recipe=recipe)[0], tmp_path)


def test_a_plan_from_before_sparsity_gets_the_defaults(plan: Plan, tmp_path: Path) -> None:
    document = json.loads(json.dumps(plan.document()))
    for key in ("sparsity_init", "prune_rate", "mask_updates"):
        del document["recipe"][key]
    restore_plan(document, tmp_path)
    assert load_plan(tmp_path).recipe == plan.recipe


def test_a_plan_from_before_the_choice_of_a_backend_used_torch(plan: Plan, tmp_path: Path) -> None:
    document = json.loads(json.dumps(plan.document()))
    del document["settings"]["latency_backend"]
    restore_plan(document, tmp_path)
    assert load_plan(tmp_path).settings.latency_backend == "torch"


def test_the_backend_of_a_latency_is_resolved_once() -> None:
    assert resolved_backend(None, "cpu") == "onnxruntime"
    assert resolved_backend(None, "cuda") == "torch"
    assert resolved_backend("torch", "cpu") == "torch"
    assert resolved_backend("onnxruntime", "cpu") == "onnxruntime"


def test_onnx_runtime_times_no_gpu() -> None:
    with pytest.raises(
        RunError, match=r"^--latency-backend: must be torch on a GPU, got .*cuda:1; leave it out"
    ):
        resolved_backend("onnxruntime", "cuda:1")


def test_onnx_runtime_that_is_asked_for_and_missing_is_named_with_its_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "evaluators.onnx_session", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert resolved_backend(None, "cpu") == "torch"
    with pytest.raises(
        RunError, match=r"^--latency-backend: .*onnxruntime.*; run 'pip install onnxruntime onnx'"
    ):
        resolved_backend("onnxruntime", "cpu")


def test_words_that_no_terminal_shows_come_back(plan: Plan, tmp_path: Path) -> None:
    odd = "/tmp/\udcff\u202e\x1b[31m/Бёз.npz"
    plan = replace(plan, facts={**plan.facts, "command": f"replk-search --data {odd}"})
    assert_round_trip(replace(plan, data=replace(plan.data, source=odd)), tmp_path)


def test_the_file_says_what_is_needed_to_repeat_the_run(plan: Plan, tmp_path: Path) -> None:
    plan.write(tmp_path)
    document = yaml.safe_load((tmp_path / "run.yaml").read_text(encoding="utf-8"))
    assert list(document) == [
        "name",
        "settings",
        "recipe",
        "data_source",
        "input",
        "facts",
        "space",
    ]
    assert document["settings"]["seed"] == 3
    assert document["data_source"]["sha256"] == document["facts"]["data"]["sha256"]
    assert len(document["data_source"]["sha256"]) == 64
    assert document["facts"]["versions"]["torch"] == torch.__version__
    assert document["facts"]["command"] == "replk-search --some options"
    assert document["facts"]["device"]["device"] == "cpu"
    assert document["facts"]["networks"] == "672"
    assert document["space"]["stages"][0]["width"] == {"choice": [4, 6]}


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda d: d.pop("settings"), "got KeyError: 'settings'"),
        (lambda d: d["settings"].update(colour="red"), "unexpected keyword argument 'colour'"),
        (lambda d: d["recipe"].update(epochs=-1), "epochs: must be a finite number above 0"),
        (
            lambda d: d["space"].update(stages=[]),
            "stages: must be a list of one to 4 stages, got 0",
        ),
        (lambda d: d["data_source"].update(size=7), "got TypeError"),
    ],
)
def test_a_broken_file_is_named_in_one_sentence(
    plan: Plan, tmp_path: Path, break_it: Any, said: str
) -> None:
    document = json.loads(json.dumps(plan.document()))
    break_it(document)
    restore_plan(document, tmp_path)
    with pytest.raises(RunError, match=r"^.*run.yaml: must be as the search wrote it, ") as caught:
        load_plan(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a: [", b"just words"])
def test_what_is_no_plan_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(RunError, match=r"^.*run.yaml: must be as the search wrote it, "):
        load_plan(tmp_path)


def test_a_directory_without_a_plan_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run.yaml: must be a file that can be read, No such"):
        load_plan(tmp_path)


def test_the_main_job_is_200_trainings() -> None:
    assert Settings().budget == 200


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_devices_that_this_machine_lacks_are_refused() -> None:
    assert resolved_device("auto") == "cpu"
    assert resolved_device("cpu") == "cpu"
    with pytest.raises(RunError, match=r"^--device: must be a GPU of .*'cuda:1', torch sees 0"):
        resolved_device("cuda:1")


@pytest.mark.parametrize(
    "device", ["gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:0:1", "cuda:\u00b2", "", "\x1b"]
)
def test_words_that_are_no_device_are_refused(device: str) -> None:
    with pytest.raises(RunError, match=r"^--device: must be auto, cpu, cuda or cuda:N, got '"):
        resolved_device(device)


@pytest.mark.skipif(sys.platform != "linux", reason="only there may a process be tied to a core")
def test_the_default_is_a_worker_for_each_core_that_the_process_may_use() -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert default_workers("cpu") == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert default_workers("cpu") == len(cores)


def test_the_command_can_be_pasted_into_a_shell() -> None:
    assert environment(["--data", "my images"])["command"] == "replk-search --data 'my images'"
