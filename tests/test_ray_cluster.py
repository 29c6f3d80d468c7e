"""Nodes that leave and join, simulated by `ray.cluster_utils` on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from runs.history import History
from runs.jobs import key_of
from runs.ray_engine import RayEngine
from runs.ray_pool import LOST, RayPool
from runs.records import read_events
from runs.search import Search
from runs.workers import Finished, Job, PoolEvent, Progress, Started
from search_space.errors import RunError
from tests.faults_programs import Program, assert_exact, left_behind, search, wait_for
from tests.faults_searches import recorded
from tests.micro import RECIPE, Inputs, Silence
from tests.ray_jobs import ancestors, measurement, outcomes, stay, training

pytest_plugins = ["tests.micro_fixtures"]
pytestmark = pytest.mark.slow

MB = 1 << 20
BUDGET = 10
LONG = 10
"""Epochs of a training that still goes on when its node is removed."""


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
    engine = RayEngine(cluster.address)
    said = "--ray: must have a node with a CPU, got a cluster of 1 nodes with none; wait until 'ray"
    for ask in (engine.workers, engine.room):
        with pytest.raises(RunError, match=said):
            ask(2, "cpu")
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100 * MB) for _ in range(2)]
    cluster.wait_for_nodes()
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


class Met:
    """A pool whose trainings are met with something as they begin."""

    def __init__(self, pool: RayPool, meet: Callable[[Started], None]) -> None:
        """Wrap a pool."""
        self._pool, self._meet = pool, meet

    @property
    def free(self) -> int:
        """Number of jobs that `submit` takes now."""
        return self._pool.free

    def submit(self, job: Job) -> None:
        """Hand a job out."""
        self._pool.submit(job)

    def events(self, timeout: float | None = None) -> list[PoolEvent]:
        """Give the events as they are."""
        found = self._pool.events(timeout)
        for event in found:
            if isinstance(event, Started) and key_of(event).kind == "train":
                self._meet(event)
        return found


def test_a_search_loses_and_doubles_no_trial_where_nodes_come_and_go(
    cluster: Cluster, inputs: Inputs, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100 * MB) for _ in range(2)]
    cluster.wait_for_nodes()
    engine = RayEngine(cluster.address)
    workers = engine.workers(None, "cpu")
    recipe = replace(RECIPE, epochs=LONG)
    plan, _ = inputs.planned(budget=BUDGET, workers=workers, recipe=recipe)
    places = {raylet(node): node for node in nodes}
    old, begun = set(places), list[int]()

    def meet(event: Started) -> None:
        above = [process.pid for process in psutil.Process(event.pid).parents()]
        begun.append(next(place for place in places if place in above))
        if len(begun) == 4:
            cluster.remove_node(places[begun[-1]], allow_graceful=False)
            new = cluster.add_node(num_cpus=1, object_store_memory=100 * MB)
            places[raylet(new)] = new
        elif len(begun) == 8 and begun[-1] in old:
            # Then only the new one is left.
            cluster.remove_node(places[begun[-1]], allow_graceful=False)

    with recorded(tmp_path / "run") as records, engine.pool(workers, plan, records.directory) as p:
        Search(plan, records, Met(p, meet), Silence(), room=engine.room(workers, "cpu")).run()
    engine.close()
    events = read_events(tmp_path / "run")
    for kind in ("asked", "done"):
        numbers = [event["trial"] for event in events if event["event"] == kind]
        assert sorted(numbers) == list(range(BUDGET))
    history = History(events)
    assert history.spent == BUDGET
    assert history.pending == []
    assert {trial.state for trial in history.done} == {"complete"}
    files = {path.name for path in (tmp_path / "run" / "weights").iterdir()}
    assert files == {f"{number}.safetensors" for number in range(BUDGET)}
    # Each node cost one training, and the new one took their place.
    retried = [event for event in events if event["event"] == "retried"]
    assert [event["outcome"] for event in retried] == ["crash"] * (len(begun) - BUDGET)
    assert 1 <= len({event["trial"] for event in retried}) == len(retried) <= 2
    assert all(LOST in event["why"] for event in retried)
    assert set(begun) == set(places)
    assert begun[3] not in begun[4:]


def test_a_driver_killed_on_its_own_ray_leaves_no_process_and_goes_on(
    inputs: Inputs, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home, out = tmp_path / "home", tmp_path / "run"
    # The name of a socket may have 107 characters.
    short = str(tmp_path_factory.getbasetemp().parent / "rayk")
    where = {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": short}

    def start(*words: str | Path) -> Program:
        return Program(*words, "--ray", "local", "--workers", "2", home=home, environment=where)

    program = search(start, inputs, out, "--budget", "6")
    try:
        wait_for(program, out, "done", 2)
        # The driver alone, which cannot end anything any more.
        program.process.kill()
        program.process.wait()
        assert_gone(home)
    finally:
        program.kill()
    program = start("resume", out)
    try:
        assert "resumed: " in program.ends()
    finally:
        program.kill()
    assert assert_exact(out, 6).counts["complete"] == 6
    assert_gone(home)


def assert_gone(home: Path, within_s: float = 20) -> None:
    """Check that all processes of a program are gone soon."""
    until = time.monotonic() + within_s
    while (left := left_behind(home)) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []


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
