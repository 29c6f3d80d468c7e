"""The Ray pool does what the pool of children does, on a Ray of this machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from runs.jobs import JobKey
from runs.ray_engine import RayEngine
from runs.ray_pool import LOST, RayPool
from runs.workers import Finished, Job, Pool, Progress, Started
from search_space.errors import RunError
from tests.micro import Inputs
from tests.ray_jobs import (
    Busy,
    ancestors,
    finished,
    measure_alone,
    measurement,
    outcomes,
    stay,
    training,
    work_in_steps,
)
from tests.test_workers import (
    double,
    exit_politely,
    fail,
    give_lambda,
    give_much,
    hoard_numpy,
    leave,
    raise_out_of_memory,
    send_signal,
    sleep,
)

pytest_plugins = ["tests.micro_fixtures"]
# It begins with seconds of starting processes.
pytestmark = pytest.mark.slow

MB = 1 << 20


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayEngine]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "disabled")
    before = signal.getsignal(signal.SIGTERM)
    # The name of a socket may have 107 characters.
    folder = tmp_path_factory.getbasetemp().parent / "ray"
    engine = RayEngine("local", num_cpus=3, object_store_memory=100 * MB, _temp_dir=str(folder))
    assert signal.getsignal(signal.SIGTERM) is before
    yield engine
    engine.close()
    assert not ray.is_initialized()
    patch.undo()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def pool(engine: RayEngine, directory: Path) -> Iterator[RayPool]:
    with RayPool(
        lambda: 2,
        run=directory,
        preload=("runs.warm",),
        resources={"CPU": 1},
        measuring=lambda: engine.measuring("cpu"),
        beside=engine.beside,
    ) as pool:
        yield pool


def opened(engine: RayEngine, directory: Path, **more: Any) -> RayPool:
    """Open a pool of one worker."""
    return RayPool(
        lambda: 1,
        run=directory,
        preload=(),
        resources={"CPU": 1},
        measuring=lambda: engine.measuring("cpu"),
        beside=engine.beside,
        **more,
    )


JOBS = [
    training(0, double, 21),
    training(1, fail, "no such thing"),
    training(2, leave, 3),
    training(3, send_signal, signal.SIGKILL),
    training(4, exit_politely, 0),
    training(5, sleep, 60.0, time_limit_s=0.5),
    training(6, hoard_numpy, 900 * MB, memory_limit_bytes=300 * MB),
    training(7, raise_out_of_memory, None),
    training(8, give_lambda, None),
    training(9, give_much, 5 * MB),
    measurement(10, double, 4),
    measurement(11, fail, "measured nothing"),
]


def test_a_job_ends_as_it_does_in_a_child_of_this_machine(pool: RayPool) -> None:
    def told(end: Finished) -> tuple[Any, ...]:
        return end.key, end.outcome, end.value, end.error.splitlines()[:1]

    with Pool(2) as local:
        expected = outcomes(local, JOBS)
    found = outcomes(pool, JOBS)
    assert [told(end) for end in found] == [told(end) for end in expected]
    outcomes_seen = {end.outcome for end in found}
    assert outcomes_seen == {"ok", "error", "crash", "timeout", "memory"}
    assert "before the end" in found[1].error
    assert pool.events(0) == []


def test_reports_arrive_between_beginning_and_end(pool: RayPool) -> None:
    events = finished(pool, [training(0, double, 1)])
    assert isinstance(events[0], Started)
    assert [event.metrics for event in events if isinstance(event, Progress)][-1] == {
        "epoch": 2,
        "loss": 0.25,
    }
    assert isinstance(events[-1], Finished)


def test_one_worker_trains_one_network_after_another(pool: RayPool) -> None:
    ends = outcomes(pool, [training(number, ancestors, None) for number in range(8)])
    assert len({end.value[0] for end in ends}) <= 2


def test_a_full_pool_and_a_key_that_runs_are_refused(pool: RayPool) -> None:
    assert pool.free == 3
    for number in range(3):
        pool.submit(training(number, sleep, 0.2))
    with pytest.raises(ValueError, match="no slot is free"):
        pool.submit(training(9, sleep, 0.2))
    while pool.free < 3:
        if pool.free:
            with pytest.raises(ValueError, match="is running"):
                pool.submit(
                    next(iter(pool._running.values())).job,
                )
        pool.events(1)


def test_a_worker_that_is_killed_is_a_crash_of_its_job_alone(pool: RayPool) -> None:
    jobs = [training(0, stay, 60.0), training(1, stay, 3.0)]
    for job in jobs:
        pool.submit(job)
    child, ends = 0, dict[Any, Finished]()
    while len(ends) < 2:
        for event in pool.events(1):
            if isinstance(event, Started) and event.key == jobs[0].key:
                child = event.pid
                server = psutil.Process(child).parent()
                assert server is not None
                worker = server.parent()
                assert worker is not None
                worker.send_signal(signal.SIGKILL)
            elif isinstance(event, Finished):
                ends[event.key] = event
    assert ends[jobs[0].key].outcome == "crash"
    assert ends[jobs[0].key].error.startswith(LOST)
    assert ends[jobs[1].key].outcome == "ok"
    # Its child, which would have stayed for a minute, is gone too.
    until = time.monotonic() + 5
    while psutil.pid_exists(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)
    assert outcomes(pool, [training(2, double, 5)])[0].value == 10


def test_trainings_pause_while_one_measures(pool: RayPool, directory: Path) -> None:
    busy = Busy(quiet=str(directory), seconds=2.0)
    jobs = [training(0, work_in_steps, busy), training(1, work_in_steps, busy)]
    for job in jobs:
        pool.submit(job)
    ends = dict[Any, Finished]()
    begun = 0
    while len(ends) < 3:
        for event in pool.events(1):
            begun += isinstance(event, Progress)
            if isinstance(event, Progress) and begun == 2:
                alone = Busy(quiet=str(directory), seconds=0.3)
                pool.submit(measurement(2, measure_alone, alone))
            if isinstance(event, Finished):
                ends[event.key] = event
    begin, end = ends[JobKey(kind="latency", trials=(2,))].value
    steps = [step for job in jobs for step in ends[job.key].value]
    assert end - begin >= 0.3
    assert len(steps) > 50
    assert not [step for step in steps if step[0] < end and step[1] > begin]


def test_what_the_measuring_node_did_is_done_again_where_it_is_lost(
    pool: RayPool, caplog: pytest.LogCaptureFixture
) -> None:
    job = measurement(0, stay, 2.0)
    pool.submit(job)
    killed, end = False, None
    while end is None:
        for event in pool.events(1):
            if isinstance(event, Started) and not killed:
                killed = True
                server = psutil.Process(event.pid).parent()
                assert server is not None
                worker = server.parent()
                assert worker is not None
                worker.send_signal(signal.SIGKILL)
            if isinstance(event, Finished):
                end = event
    assert end.outcome == "ok"
    assert "the node that measures was lost" in caplog.text


def test_closing_ends_what_runs_within_seconds(engine: RayEngine, directory: Path) -> None:
    pool = opened(engine, directory)
    pool.submit(training(0, stay, 60.0))
    child = 0
    while not child:
        child = next((e.pid for e in pool.events(1) if isinstance(e, Started)), 0)
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < 10
    until = time.monotonic() + 5
    while psutil.pid_exists(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)
    pool.close()


def test_closing_in_mid_measurement_is_no_lost_node(
    engine: RayEngine, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(engine, directory) as pool:
        pool.submit(measurement(0, stay, 60.0))
        while not any(isinstance(event, Started) for event in pool.events(1)):
            pass
        thread = pool._thread
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
    assert "was lost" not in caplog.text


def test_nothing_is_kept_of_a_job_whose_worker_died_before_it_took_it(
    engine: RayEngine, directory: Path
) -> None:
    with opened(engine, directory, crew="tests.ray_jobs:Dying") as pool:
        assert outcomes(pool, [training(0, double, 1)])[0].outcome == "crash"
        assert ray.get(pool._desk.take.remote(0)) is None


def test_an_engine_of_ray_counts_the_room_of_its_cluster(engine: RayEngine) -> None:
    assert engine.name == "ray"
    assert engine.workers(None, "cpu") == 3
    assert engine.workers(2, "cpu") == 2
    assert engine.device("auto") == engine.device("cpu") == "cpu"
    assert engine.room(2, "cpu").host_bytes > 100 * MB
    with pytest.raises(RunError, match="--device: must be a GPU of the cluster, got 'cuda'"):
        engine.device("cuda")
    with pytest.raises(RunError, match="with --ray, got 'cuda:1'; Ray gives"):
        engine.device("cuda:1")


def test_a_pool_of_an_engine_grows_with_the_cluster_where_nobody_said_how_many(
    engine: RayEngine, inputs: Inputs, tmp_path: Path
) -> None:
    workers = engine.workers(None, "cpu")
    plan, _ = inputs.planned(workers=workers)
    with engine.pool(workers, plan, tmp_path) as pool:
        assert pool.free == 4
        engine._nodes.append({"NodeID": "x", "Alive": True, "Resources": {"CPU": 5.0}})
        assert pool.free == 9
    engine._nodes.pop()
    engine.workers(3, "cpu")
    with engine.pool(3, plan, tmp_path) as pool:
        engine._nodes.append({"NodeID": "x", "Alive": True, "Resources": {"CPU": 5.0}})
        assert pool.free == 4
    engine._nodes.pop()


def test_jobs_of_one_key_type_need_no_key_of_ours(pool: RayPool) -> None:
    assert outcomes(pool, [Job(key="any", function=double, payload=2)])[0].value == 4
