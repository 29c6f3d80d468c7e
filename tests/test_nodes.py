"""Jobs on nodes that see the run directory and on nodes that do not; two folders stand for them."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from builders.backends import AUTO, Backends
from builders.native import NoCompiler, compiled, seal
from evaluators.images import ImageData
from runs import nodes
from runs.images import DataSource, decoded
from runs.locks import QuietLock
from runs.nodes import contents, marked, node_home, parcel, store, unpacked, written
from runs.objective import (
    LatencyJob,
    ProbeJob,
    ScoreJob,
    TimingJob,
    TrainJob,
    fit_baseline,
    score_networks,
    train_network,
)
from runs.plan import Plan
from runs.processes import make_folder
from runs.workers import Finished, Job, Pool
from search_space.errors import RunError
from tests.micro import Inputs

pytest_plugins = ["tests.micro_fixtures"]

TOKEN = "0123456789abcdef"
QUICK = ("-O0", "-march=native", "-shared", "-fPIC", "-std=gnu11")
"""Flags of a library that is built in a third of the time, and slow."""


def never(path: str) -> bytes | None:
    """Stand for a driver that must not be asked."""
    raise AssertionError(f"asked for {path}")


@pytest.fixture
def planned(inputs: Inputs) -> tuple[Plan, ImageData]:
    return inputs.planned(budget=4)


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    folder = tmp_path / "driver" / "run"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of a node whose temporary files are no one else's."""
    (tmp_path / "node").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    with node_home(TOKEN) as folder:
        yield folder


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1, preload=("runs.warm", "runs.objective")) as pool:
        yield pool


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled library in the driver's cache."""
    try:
        return compiled(tmp_path_factory.mktemp("cache"), flags=QUICK)
    except NoCompiler as error:
        pytest.skip(str(error))


@dataclass
class Driver:
    """What a node asks; notes the paths."""

    seen_from_node: Path = Path("/")
    """A folder of the driver by the name that the node knows."""
    here: Path = Path("/")
    """Where it is."""
    asked: list[str] = field(default_factory=list)

    def fetch(self, path: str) -> bytes | None:
        self.asked.append(path)
        return contents(str(self.here / Path(path).relative_to(self.seen_from_node)))


def train_job(plan: Plan, run: Path, data: DataSource, **changes: Any) -> Job:
    given: dict[str, Any] = {"weights": "weights/0.safetensors", "backends": plan.backends}
    payload = TrainJob(
        architecture=plan.reference,
        seed=5,
        recipe=plan.recipe,
        data=data,
        device="cpu",
        quiet=str(run),
        run=str(run),
        **{**given, **changes},
    )
    return Job(key="train", function=train_network, payload=payload)


def value(pool: Pool, job: Job) -> Any:
    """Run a job in a child; without what differs from one time to the next."""
    pool.submit(job)
    while True:
        for event in pool.events(1.0):
            if isinstance(event, Finished):
                assert event.outcome == "ok", event.error
                if isinstance(event.value, dict):
                    differs = ("seconds", "peak_bytes")
                    return {k: v for k, v in event.value.items() if not k.endswith(differs)}
                return event.value


def test_a_node_that_sees_the_run_works_in_it(
    planned: tuple[Plan, ImageData], driver: Path, home: Path
) -> None:
    plan, images = planned
    with marked(driver) as token, decoded(plan.data, images, driver) as data:
        sent = parcel(train_job(plan, driver, data, start="weights/7.safetensors"), driver, token)
        job = unpacked(sent, home, never)
        assert job.payload == replace(sent.job.payload, quiet=str(nodes.quiet_folder()))
        assert written(sent, home) == {}
    assert not (driver / nodes.MARKER_NAME).exists()


def test_a_node_that_does_not_see_it_trains_the_same_network(
    planned: tuple[Plan, ImageData], driver: Path, home: Path, pool: Pool
) -> None:
    plan, images = planned
    with decoded(plan.data, images, driver) as data:
        first = train_job(plan, driver, data)
        value(pool, first)
        on = train_job(
            plan, driver, data, start="weights/0.safetensors", weights="weights/1.safetensors"
        )
        expected = value(pool, on)
        weights = (driver / "weights" / "1.safetensors").read_bytes()
        (driver / "weights" / "1.safetensors").unlink()

        sent = pickle.loads(pickle.dumps(parcel(on, driver, TOKEN)))
        # The driver's folder is gone from the node's sight, with the images.
        away = driver.rename(driver.with_name("elsewhere"))
        asks = Driver(driver, away)
        job = unpacked(sent, home, asks.fetch)
        assert value(pool, job) == expected
    files = written(sent, home)
    assert files == {"weights/1.safetensors": weights}
    assert asks.asked == [str(driver / "weights" / "0.safetensors")]
    store(away, files)
    assert (away / "weights" / "1.safetensors").read_bytes() == weights
    assert [path.name for path in home.iterdir() if path.name == sent.name] == []

    score = ScoreJob(
        networks=((plan.reference, "weights/1.safetensors"),),
        run=str(away),
        data=plan.data,
        device="cpu",
    )
    test = Job(key="test", function=score_networks, payload=score)
    sent = parcel(test, away, TOKEN)
    assert value(pool, unpacked(sent, home, contents)) == value(pool, test)
    assert written(sent, home) == {}


def test_a_training_goes_on_where_another_node_stopped(
    planned: tuple[Plan, ImageData], driver: Path, home: Path, pool: Pool
) -> None:
    plan, _ = planned
    names = {"weights": None, "checkpoint": "checkpoints/0.pt", "length": Fraction(1, 3)}
    first = parcel(train_job(plan, driver, plan.data, **names), driver, TOKEN)
    assert value(pool, unpacked(first, home, contents))["state"] == "stopped"
    store(driver, written(first, home))

    on = parcel(train_job(plan, driver, plan.data, goes_on="checkpoints/0.pt"), driver, TOKEN)
    with node_home("another") as elsewhere:
        found = value(pool, unpacked(on, elsewhere, contents))
        store(driver, written(on, elsewhere))
    weights = driver / "weights" / "0.safetensors"
    last = weights.read_bytes()
    assert found["state"] == "complete"

    # As in one go, on the driver's machine.
    assert value(pool, train_job(plan, driver, plan.data)) == found
    assert weights.read_bytes() == last


def test_a_file_that_is_gone_is_left_to_the_job(
    planned: tuple[Plan, ImageData], driver: Path, home: Path
) -> None:
    plan, _ = planned
    job = train_job(plan, driver, plan.data, goes_on="checkpoints/3.pt", weights=None)
    sent = parcel(job, driver, TOKEN)
    asks = Driver()
    there = Path(unpacked(sent, home, asks.fetch).payload.run)
    assert asks.asked == [str(driver / "checkpoints" / "3.pt")]
    assert list(there.iterdir()) == []


def test_images_are_decoded_once_a_node(
    planned: tuple[Plan, ImageData], driver: Path, home: Path, tmp_path: Path
) -> None:
    plan, images = planned
    assert plan.data.source is not None
    source = shutil.copy(plan.data.source, tmp_path / "shapes.npz")
    on_driver = replace(plan.data, source=str(source), copy=str(driver / ".images"))
    jobs: list[Job] = [
        train_job(plan, driver, on_driver),
        Job(key="baseline", function=fit_baseline, payload=on_driver),
    ]
    with ThreadPoolExecutor(4) as threads:
        found = list(
            threads.map(
                lambda n: unpacked(parcel(jobs[n % 2], driver, TOKEN), home, never), range(8)
            )
        )
    Path(source).unlink()
    again = unpacked(parcel(jobs[0], driver, TOKEN), home, never)
    copies = {job.payload.data.copy for job in (*found[::2], again)}
    assert copies == {job.payload.copy for job in found[1::2]}
    (copy,) = copies
    assert Path(copy).is_relative_to(home)
    assert again.payload.data.load().sha256 == images.sha256
    assert found[1].payload.load().sha256 == images.sha256


@pytest.mark.parametrize("broken", ["missing", "other"])
def test_a_node_without_the_images_says_which_and_where(
    planned: tuple[Plan, ImageData], driver: Path, home: Path, tmp_path: Path, broken: str
) -> None:
    plan, _ = planned
    path = tmp_path / "data" / "shapes.npz"
    data = replace(plan.data, source=str(path), copy=str(driver / ".images"))
    if broken == "other":
        path.parent.mkdir()
        shutil.copy(str(plan.data.source), path)
        data = replace(data, sha256="0" * 64)
    with pytest.raises(RunError) as caught:
        unpacked(parcel(train_job(plan, driver, data), driver, TOKEN), home, never)
    said = str(caught.value)
    assert said.startswith(f"node {os.uname().nodename}: must reach the images of the run by the s")
    assert str(path) in said
    assert said.endswith("; copy them there")
    # Put there, they are found.
    path.parent.mkdir(exist_ok=True)
    shutil.copy(str(plan.data.source), path)
    data = replace(data, sha256=plan.data.sha256)
    unpacked(parcel(train_job(plan, driver, data), driver, TOKEN), home, never)


def test_a_file_arrives_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    files = {"weights/1.safetensors": b"one", "checkpoints/1.pt": b"two"}
    with pytest.raises(RunError, match=r"checkpoints/1.pt: could not be written"):
        store(tmp_path, files)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        *("1.safetensors", "checkpoints")
    ]
    (tmp_path / "checkpoints").unlink()
    store(tmp_path, files)
    assert (tmp_path / "checkpoints" / "1.pt").read_bytes() == b"two"
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../run.yaml", "weights/../../x"])
def test_no_file_leaves_the_run_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must lie in the run directory"):
        store(tmp_path / "run", {name: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_failed_leaves_nothing(
    planned: tuple[Plan, ImageData], driver: Path, home: Path
) -> None:
    plan, _ = planned
    sent = parcel(train_job(plan, driver, plan.data), driver, TOKEN)
    run = Path(unpacked(sent, home, never).payload.run)
    (run / "weights").mkdir()
    (run / "weights" / "0.tmp").write_bytes(b"half")
    assert written(sent, home) == {}
    assert not run.exists()


def test_every_job_gets_the_paths_of_its_node(
    planned: tuple[Plan, ImageData], driver: Path, home: Path
) -> None:
    plan, _ = planned
    latency = LatencyJob(
        architectures=(),
        reference=plan.reference,
        reference_model=None,
        num_classes=4,
        device="cpu",
        batch_size=1,
        backend="torch",
        quiet=str(driver),
        budget_s=0.1,
    )
    timing = TimingJob(architectures=(), recipe=plan.recipe, data=plan.data, device="cpu")
    for payload, expected in (
        (latency, replace(latency, quiet=str(nodes.quiet_folder()))),
        (timing, timing),
        (plan.data, plan.data),
        (None, None),
        ("plain", "plain"),
    ):
        job = Job(key="x", function=score_networks, payload=payload)
        assert unpacked(parcel(job, driver, TOKEN), home, never).payload == expected


def test_the_library_comes_to_a_node_with_the_same_processor(
    planned: tuple[Plan, ImageData], driver: Path, home: Path, built: Path, tmp_path: Path
) -> None:
    plan, _ = planned
    backends = Backends(rest="torch", chosen={"x": "native"}, library=str(built))
    job = train_job(plan, driver, plan.data, backends=backends)
    # The driver's cache is to be seen from here.
    assert unpacked(parcel(job, driver, TOKEN), home, never).payload.backends == backends

    gone = tmp_path / "cache" / built.name
    asks = Driver(gone.parent, built.parent)
    sent = parcel(
        train_job(plan, driver, plan.data, backends=replace(backends, library=str(gone))),
        driver,
        TOKEN,
    )
    for _ in range(2):
        job = unpacked(sent, home, asks.fetch)
        own = home / built.name
        assert job.payload.backends == replace(backends, library=str(own))
        assert own.read_bytes() == built.read_bytes()
    assert asks.asked == [str(seal(gone)), str(gone)]
    probe = ProbeJob(shapes=(), library=str(gone), device="cpu")
    job = Job(key="probe", function=score_networks, payload=probe)
    assert unpacked(parcel(job, driver, TOKEN), home, never).payload.library == str(own)


def other_processor(_: bytes) -> bytes:
    raise AssertionError("a library for another processor must not be fetched")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (other_processor, "it is for another processor"),
        (lambda content: content[: len(content) // 2], "it did not arrive"),
        (lambda _: None, "it did not arrive"),
    ],
)
def test_torch_takes_the_place_of_a_library_that_is_not_for_the_node(
    planned: tuple[Plan, ImageData],
    driver: Path,
    home: Path,
    built: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[bytes], bytes | None],
    why: str,
) -> None:
    plan, _ = planned
    gone = str(tmp_path / "cache" / built.name)
    for rest, chosen, expected in (
        ("native", {}, Backends(rest="torch")),
        (
            "torch",
            {"x": "native", "y": "reference"},
            Backends(rest="torch", chosen={"x": "torch", "y": "reference"}),
        ),
        (None, {}, AUTO),
    ):
        backends = Backends(rest=rest, chosen=chosen, library=gone)  # type: ignore[arg-type]
        sent = parcel(train_job(plan, driver, plan.data, backends=backends), driver, TOKEN)
        if change is other_processor:
            sent = replace(sent, processor="another")

        def fetch(path: str) -> bytes | None:
            return change((built.parent / Path(path).name).read_bytes())

        with caplog.at_level(logging.WARNING):
            assert unpacked(sent, home, fetch).payload.backends == expected
    (line,) = caplog.messages
    assert f"trains by torch in place of {built.name}" in line
    assert line.endswith(why)


def test_a_home_lives_as_long_as_somebody_works_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with node_home("a") as first:
        with node_home("a") as second, node_home("b") as other:
            assert first == second != other
            assert first.stat().st_mode & 0o777 == 0o700
        assert list(tmp_path.iterdir()) == [first]
        # What pools remove is what nobody holds.
        (abandoned := first.with_name("replk-search-0-c")).mkdir()
        folder, lock = make_folder()
        os.close(lock)
        assert {*tmp_path.iterdir()} == {first, folder}
        assert not abandoned.exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_a_home_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / f"replk-search-{os.getuid()}-a").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="must be a folder of ours"), node_home("a"):
        pass


def test_all_sessions_of_a_node_share_its_lock_for_quiet(
    planned: tuple[Plan, ImageData], driver: Path, home: Path
) -> None:
    plan, _ = planned
    with node_home("another") as elsewhere:
        jobs = [
            unpacked(parcel(train_job(plan, driver, plan.data), driver, token), place, never)
            for token, place in ((TOKEN, home), ("another", elsewhere))
        ]
    quiet, other = (Path(job.payload.quiet) for job in jobs)
    assert quiet == other
    assert quiet.stat().st_mode & 0o777 == 0o700
    with QuietLock(quiet).shared(), pytest.raises(TimeoutError, match="did not pause"):  # noqa: SIM117
        with QuietLock(other).exclusive(timeout_s=0.01):
            pass
    # Pools remove what nobody holds; this they leave.
    folder, lock = make_folder()
    os.close(lock)
    folder.rmdir()
    assert sorted(path.name for path in quiet.iterdir()) == [".quiet", ".quiet-turnstile"]


def test_a_lock_for_quiet_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / f"replk-quiet-{os.getuid()}").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="must be a folder of ours"):
        nodes.quiet_folder()


def test_a_run_that_is_not_there_yet_is_seen_by_no_node(tmp_path: Path, home: Path) -> None:
    run = tmp_path / "new"
    with marked(run) as token:
        assert not run.exists()
        sent = parcel(Job(key=0, function=score_networks, payload=None), run, token)
        unpacked(sent, home, never)
    run.mkdir()
    with marked(run) as token:
        assert token not in {TOKEN, sent.token}
