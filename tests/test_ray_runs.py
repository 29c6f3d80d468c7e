"""Whole runs on every engine: the same files, the same records."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

from runs import session
from runs.engines import Engine, LocalEngine
from runs.history import History
from runs.nodes import MARKER_NAME
from runs.plan import Plan
from runs.ray_engine import RayEngine
from runs.ray_pool import RayPool
from runs.records import read_events
from tests.micro import Inputs

pytest_plugins = ["tests.micro_fixtures"]
pytestmark = pytest.mark.slow

MB = 1 << 20
BUDGET = 4


class BlindEngine(RayEngine):
    """An engine whose nodes do not see the run directory."""

    def pool(self, workers: int, plan: Plan, directory: Path, **more: Any) -> RayPool:
        """Open slots, and take away what tells nodes where the run is."""
        pool = super().pool(workers, plan, directory, **more)
        (directory / MARKER_NAME).unlink(missing_ok=True)
        return pool


def run(engine: Engine, inputs: Inputs, directory: Path, workers: int) -> Path:
    plan, images = inputs.planned(budget=BUDGET, workers=workers)
    manner = session.Manner(quiet=True, engine=engine, cache=directory.with_suffix(".cache"))
    session.begin(plan, images, directory, manner)
    return directory


@pytest.fixture(scope="module")
def runs(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The same search on each engine."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "disabled")
    folder = tmp_path_factory.mktemp("runs")
    short = tmp_path_factory.getbasetemp().parent
    found = {
        "serial": run(LocalEngine(), inputs, folder / "serial", 1),
        "parallel": run(LocalEngine(), inputs, folder / "parallel", 2),
    }
    more = {"object_store_memory": 100 * MB, "_temp_dir": str(short / "rayl")}
    engine = RayEngine("local", num_cpus=2, **more)
    found["ray"] = run(engine, inputs, folder / "ray", 2)
    found["ray-serial"] = run(engine, inputs, folder / "ray-serial", 1)
    engine.close()
    head: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": 100 * MB,
        "temp_dir": str(short / "rayc"),
    }
    head |= {"_system_config": {"worker_niceness": 0}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=100 * MB)
    cluster.wait_for_nodes()
    blind = BlindEngine(cluster.address)
    assert blind.workers(None, "cpu") == 3
    found["cluster"] = run(blind, inputs, folder / "cluster", 3)
    blind.close()
    yield found
    ray.shutdown()
    cluster.shutdown()
    patch.undo()


def keys_of(value: Any) -> Any:
    """Give the names in a document, without what they stand for."""
    if isinstance(value, dict):
        return {key: keys_of(inner) for key, inner in value.items()}
    return None


def schema(directory: Path) -> dict[str, Any]:
    """Give files, columns, and the keys of the record by kind of event."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    # Locks for quiet lie on the node that is to be quiet.
    names = sorted(str(p.relative_to(directory)) for p in files if not p.name.startswith(".quiet"))
    found: dict[str, Any] = {
        # The trained-on network is named after itself.
        "files": ["weights/final" if "final-" in name else name for name in names],
        "plan": keys_of(yaml.safe_load((directory / "run.yaml").read_text())),
        "events": {},
    }
    for path in directory.rglob("*.csv"):
        with path.open() as lines:
            found[path.name] = next(csv.reader(lines))
    for event in read_events(directory):
        found["events"].setdefault(event["event"], set()).add(tuple(sorted(event)))
    for kind in ("refused", "interrupted"):
        found["events"].pop(kind, None)
    return found


@pytest.mark.parametrize("name", ["parallel", "ray", "ray-serial", "cluster"])
def test_every_engine_leaves_the_files_and_the_fields_of_a_serial_run(
    runs: dict[str, Path], name: str
) -> None:
    expected, found = schema(runs["serial"]), schema(runs[name])
    assert found == expected
    assert len([file for file in found["files"] if file.startswith("weights/")]) == BUDGET + 1


def test_one_worker_trains_the_same_networks_to_the_same_accuracy_anywhere(
    runs: dict[str, Path],
) -> None:
    def told(name: str) -> list[tuple[Any, ...]]:
        history = History(read_events(runs[name]))
        return [
            (trial.id, trial.seed, trial.result["accuracy"], trial.result["val_loss"])
            for trial in history.trials.values()
        ]

    assert told("ray-serial") == told("serial")
    assert len(told("serial")) == BUDGET


def test_no_trace_of_the_cluster_stays_in_a_run(runs: dict[str, Path]) -> None:
    assert not [*runs["cluster"].rglob(MARKER_NAME), *runs["ray"].rglob(MARKER_NAME)]
    engines = {
        name: [e["engine"] for e in read_events(runs[name]) if e["event"] == "session"]
        for name in runs
    }
    assert engines["ray"] == engines["cluster"] == ["ray"]
    assert engines["serial"] == ["local"]
