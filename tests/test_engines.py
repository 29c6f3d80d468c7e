from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from runs.engines import LocalEngine, open_engine, preload, sharing
from runs.workers import Finished, Job
from search_space.errors import RunError
from tests.micro import Inputs

pytest_plugins = ["tests.micro_fixtures"]


def double(payload: int, _: object) -> int:
    return 2 * payload


@pytest.mark.parametrize(("part", "together"), [(1.0, 1), (0.5, 2), (0.3, 3), (0.1, 10), (0.9, 1)])
def test_so_many_trainings_share_a_gpu_as_fit_into_it(part: float, together: int) -> None:
    assert sharing(part) == together


def test_an_engine_takes_the_number_of_workers_that_was_asked_for() -> None:
    with open_engine() as engine:
        assert engine.name == "local"
        assert engine.workers(7, "cpu") == 7
        assert engine.workers(None, "cpu") >= 1
        assert engine.device("cpu") == "cpu"
        with pytest.raises(RunError, match="--device: must be auto, cpu, cuda or cuda:N, got 'x'"):
            engine.device("x")


def test_the_local_engine_runs_jobs_in_children_of_this_machine(
    inputs: Inputs, tmp_path: Path
) -> None:
    plan, _ = inputs.planned(budget=2)
    engine = LocalEngine()
    with engine.pool(1, plan, tmp_path) as pool:
        pool.submit(Job(key=1, function=double, payload=21))
        events = []
        while not any(isinstance(event, Finished) for event in events):
            events += pool.events(10)
    assert events[-1].outcome == "ok"
    assert events[-1].value == 42
    engine.close()


def test_children_in_segmentation_start_with_the_metric(inputs: Inputs) -> None:
    plan, _ = inputs.planned(budget=2)
    assert preload(plan) == ("runs.warm", "runs.objective")


def test_a_cluster_that_is_not_there_is_said_at_once() -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody answers, and nobody else takes the port.
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = f"--ray: must reach a Ray cluster, got '{address}': .*'ray status'.*RAY_AUTH_MODE"
        with pytest.raises(RunError, match=said), open_engine(address):
            pass


def test_ray_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs.ray_engine", "runs.ray_pool", "runs.ray_node", "runs.ray_tuner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    said = r"--ray: must have ray installed, with its Tune, got: .*; run pip install 'ray\[tune\]'"
    with pytest.raises(RunError, match=said), open_engine("local"):
        pass
