"""Nodes that leave and join, simulated by `ray.cluster_utils` on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from runs.ray_engine import RayEngine
from runs.ray_pool import LOST, RayPool
from runs.workers import Finished, Progress, Started
from tests.micro import Inputs
from tests.ray_jobs import ancestors, measurement, outcomes, stay, training

pytest_plugins = ["tests.micro_fixtures"]
pytestmark = pytest.mark.slow

MB = 1 << 20


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "disabled")
    folder = tmp_path_factory.getbasetemp().parent / "rays"
    head: dict[str, Any] = {"num_cpus": 0, "object_store_memory": 100 * MB, "temp_dir": str(folder)}
    head |= {"_system_config": {"worker_niceness": 0}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    patch.undo()


def test_a_lost_node_is_a_crash_of_its_training_and_a_new_one_gets_work(
    cluster: Cluster, inputs: Inputs, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100 * MB) for _ in range(2)]
    cluster.wait_for_nodes()
    engine = RayEngine(cluster.address)
    workers = engine.workers(None, "cpu")
    assert workers == 2
    plan, _ = inputs.planned(workers=workers)
    with engine.pool(workers, plan, tmp_path) as pool:
        # The driver's node trains nothing, so another one measures.
        here = outcomes(pool, [measurement(0, ancestors, None)])[0].value
        # The one that measures leaves.
        left, stays = sorted(nodes, key=lambda node: raylet(node) not in here)
        assert raylet(left) in here
        lost = _lose_a_node(pool, cluster, left)
        assert lost.outcome == "crash"
        assert lost.error.startswith(LOST)
        assert raylet(stays) in outcomes(pool, [measurement(1, ancestors, None)])[0].value
        new = cluster.add_node(num_cpus=1, object_store_memory=100 * MB)
        cluster.wait_for_nodes()
        until = time.monotonic() + 30
        while pool.free < 3 and time.monotonic() < until:
            time.sleep(0.2)
        ends = outcomes(pool, [training(number, stay, 4.0) for number in range(10, 18)])
        assert {end.outcome for end in ends} == {"ok"}
        places = {raylet(node) for node in (stays, new)}
        assert {(places & set(end.value)).pop() for end in ends} == places
    engine.close()


def raylet(node: Any) -> int:
    """Give the process of a node that starts its workers."""
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def _lose_a_node(pool: RayPool, cluster: Cluster, node: Any) -> Finished:
    """Remove a node in the middle of its training; the training of the other one ends well."""
    jobs = [training(0, stay, 20.0), training(1, stay, 20.0)]
    for job in jobs:
        pool.submit(job)
    begun, ends = 0, dict[Any, Finished]()
    while len(ends) < 2:
        for event in pool.events(1):
            if isinstance(event, Started):
                begun += 1
            if isinstance(event, Progress) and begun == 2 and node is not None:
                cluster.remove_node(node, allow_graceful=False)
                node = None
            if isinstance(event, Finished):
                ends[event.key] = event
    assert sorted(end.outcome for end in ends.values()) == ["crash", "ok"], ends
    return next(end for end in ends.values() if end.outcome == "crash")
