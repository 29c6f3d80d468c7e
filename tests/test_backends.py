"""The backends of a run: chosen and frozen when it begins, the same when it goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import native
from builders.backends import AUTO, Backends
from builders.native import NoCompiler, compiled
from evaluators.probe import probed_shape, sum_shapes
from runs import backends as module
from runs import session
from runs.backends import backends_text, found_again, shapes_of, with_backends, writable
from runs.jobs import Slots
from runs.method_text import method
from runs.plan import Plan, load_plan
from runs.workers import Finished, Job, PoolEvent
from search_space.census import Census
from search_space.errors import RunError
from tests.micro import Inputs
from tests.test_resume import table

pytest_plugins = ["tests.micro_fixtures"]

QUICK = ("-O0", "-march=native", "-shared", "-fPIC", "-std=gnu11")
"""It is built in a third of the time, and slow."""
SMALL = """\
name: small
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [4, 6]}, kernel: {choice: [3, 7]}}
  - {depth: 1, width: {choice: [8, 24]}, kernel: 5}
"""


class Here:
    """Slots that run a job at once, in this process."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.free = 1

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self.free = 0

    def events(self, timeout: float | None = None) -> list[PoolEvent]:  # noqa: ARG002
        self.free = 1
        job = self.jobs[-1]
        try:
            value = job.function(job.payload, lambda **_: None)
        except OSError as error:
            return [Finished(key=job.key, outcome="error", error=f"OSError: {error}")]
        return [Finished(key=job.key, outcome="ok", value=value)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    try:
        compiled(folder, flags=QUICK)
    except NoCompiler as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "compiled", partial(compiled, flags=QUICK))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "COMPILERS", ("no-such-compiler",))


@pytest.fixture
def slots() -> Here:
    return Here()


def chosen(plan: Plan, cache: Path, slots: Here | None, note: Callable[[str], None]) -> Plan:
    def opened() -> AbstractContextManager[Slots]:
        assert slots is not None, "must not be probed"
        return nullcontext(slots)

    return with_backends(plan, cache=cache, open_pool=opened, note=note)


def silent(_: str) -> None:
    """Say nothing."""


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("asked", ["torch", "reference"])
def test_a_forced_backend_needs_neither_probe_nor_compiler(
    inputs: Inputs, tmp_path: Path, asked: str
) -> None:
    plan = chosen(inputs.planned(backend=asked)[0], tmp_path, None, silent)
    assert plan.facts["backends"] == {"rest": asked, "other": {}, "library": None}
    assert plan.backends == Backends(rest=asked, chosen={})  # type: ignore[arg-type]
    assert backends_text(plan.facts) == f"all depthwise sums of a training by {asked}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_a_run_trains_on_torch_with_one_line_in_the_log(
    inputs: Inputs, tmp_path: Path, slots: Here, caplog: pytest.LogCaptureFixture
) -> None:
    plan = chosen(inputs.planned(text=SMALL, backend="auto")[0], tmp_path, slots, silent)
    assert [record.getMessage() for record in caplog.records] == [
        "trainings run on torch alone, which is slower: "
        "no C compiler found, looked for no-such-compiler"
    ]
    assert plan.facts["backends"]["library"] is None
    assert {*plan.facts["backends"]["counts"]} <= {"torch", "reference"}
    assert plan.backends.of(next(iter(shapes_of(plan))), "cpu") in ("torch", "reference")


@pytest.mark.usefixtures("no_compiler")
def test_native_is_refused_where_it_cannot_be(inputs: Inputs, tmp_path: Path) -> None:
    plan = inputs.planned(backend="native")[0]
    with pytest.raises(RunError, match=r"^--backend: native must be compiled, got: no C compiler"):
        chosen(plan, tmp_path, None, silent)
    gpu = replace(plan, settings=replace(plan.settings, device="cuda:0"))
    with pytest.raises(RunError, match=r"^--backend: must be one that runs on a GPU, got 'native'"):
        chosen(gpu, tmp_path, None, silent)


@pytest.mark.usefixtures("quick")
def test_a_probe_is_made_once_a_device_and_frozen_in_the_plan(
    inputs: Inputs, cache: Path, slots: Here
) -> None:
    notes: list[str] = []
    plan = inputs.planned(text=SMALL, backend="auto")[0]
    first = chosen(plan, cache, slots, notes.append)
    facts = first.facts["backends"]
    shapes = shapes_of(plan)
    assert sum(facts["counts"].values()) == len(shapes) == 6
    assert facts["rest"] == next(iter(facts["counts"]))
    assert facts["rest"] not in facts["other"].values()
    assert facts["library"] == compiled(cache, flags=QUICK).name
    assert first.backends.library == str(cache / facts["library"])
    assert len({probed_shape(shape) for shape in shapes}) == len(slots.jobs[0].payload.shapes)
    assert notes[-1].startswith("kernels   probed 6 shapes in ")
    assert yaml.safe_load(yaml.safe_dump(first.document())) == first.document()
    # The second run finds it all, and says the same.
    again = chosen(plan, cache, None, notes.append)
    assert again.facts["backends"] == facts
    assert again.backends == first.backends
    # And so does a space of which half is known.
    wider = SMALL.replace("[4, 6]", "[4, 6, 10]")
    chosen(inputs.planned(text=wider, backend="auto")[0], cache, slots, notes.append)
    assert {shape.width for shape in slots.jobs[1].payload.shapes} == {10}
    text = dict(method({"backends": facts}))["backends"]
    assert text.startswith("the fastest of a probe for each of the 6 depthwise sums")
    assert f"{facts['rest']} {facts['counts'][facts['rest']]}" in text


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"chosen": {"x": "abacus"}}', '{"chosen": 3}', "\udcff"]
)
def test_a_corrupt_cache_is_probed_anew(
    inputs: Inputs, tmp_path: Path, slots: Here, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    plan = inputs.planned(text=SMALL, backend="auto")[0]
    plan = replace(plan, recipe=replace(plan.recipe, batch_size=2))
    chosen(plan, tmp_path, slots, silent)
    (path,) = tmp_path.iterdir()
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    caplog.clear()
    chosen(plan, tmp_path, slots, silent)
    assert len(slots.jobs) == 2
    assert f"{path}: cannot be read, probing anew" in caplog.text
    assert json.loads(path.read_text("utf-8"))["chosen"]


class Elsewhere(Here):
    """Slots on a node with another processor."""

    def events(self, timeout: float | None = None) -> list[PoolEvent]:
        (event,) = super().events(timeout)
        assert isinstance(event, Finished)
        chosen, seconds, facts = event.value
        return [replace(event, value=(chosen, seconds, facts | {"name": "another"}))]


@pytest.mark.usefixtures("no_compiler")
def test_what_another_node_has_chosen_is_not_kept_for_this_machine(
    inputs: Inputs, tmp_path: Path
) -> None:
    plan = inputs.planned(text=SMALL, backend="auto")[0]
    there = chosen(plan, tmp_path, Elsewhere(), silent)
    assert there.facts["backends"]["counts"]
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writable(tmp_path / "new" / "folder") as folder:
        assert folder == tmp_path / "new" / "folder"
        assert folder.is_dir()
    assert list(folder.iterdir()) == []
    (tmp_path / "file").write_text("")
    with writable(tmp_path / "file" / "folder") as folder:
        (folder / "x").write_text("")
    assert not folder.exists()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot be written, nothing is cached" in caplog.text


def test_a_library_that_does_not_load_is_not_used(
    inputs: Inputs,
    tmp_path: Path,
    slots: Here,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "native-0.so").write_text("no library")
    monkeypatch.setattr(module, "compiled", lambda folder, **_: folder / "native-0.so")
    plan = chosen(inputs.planned(text=SMALL, backend="auto")[0], tmp_path, slots, silent)
    assert plan.facts["backends"] == {"rest": "torch", "other": {}, "library": None}
    assert "trainings run on torch alone, the probe failed" in caplog.text


# Going on.


def begun(inputs: Inputs, library: str | None, **device: Any) -> Plan:
    """Give the plan of a run that began with this library."""
    plan = inputs.planned(backend="auto")[0]
    facts = {"rest": "torch", "other": {"some shape": "reference"}, "library": library}
    found = {**plan.facts["device"], **device}
    return replace(plan, facts={**plan.facts, "device": found, "backends": facts})


@pytest.mark.usefixtures("quick")
def test_a_run_goes_on_with_what_it_began_with(inputs: Inputs, cache: Path, tmp_path: Path) -> None:
    name = compiled(cache, flags=QUICK).name
    go_on = partial(found_again, forced=None, note=silent)
    plan = go_on(begun(inputs, name), cache=cache)
    assert plan.backends == Backends(
        rest="torch", chosen={"some shape": "reference"}, library=str(cache / name)
    )
    # In another cache it is built again, under the same name: the same library.
    notes: list[str] = []
    plan = found_again(begun(inputs, name), cache=tmp_path, forced=None, note=notes.append)
    assert plan.backends.library == str(tmp_path / name)
    assert notes[0] == "kernels   compiling them for this processor"
    assert notes[1].startswith(f"kernels   compiled {name} in ")
    assert go_on(begun(inputs, None), cache=tmp_path).backends.library is None
    old = inputs.planned()[0]
    assert go_on(old, cache=tmp_path).backends == AUTO


@pytest.mark.usefixtures("no_compiler")
def test_an_older_library_is_taken_on_the_processor_it_is_for(inputs: Inputs, cache: Path) -> None:
    (library,) = cache.glob("native-*.so")
    go_on = partial(found_again, cache=cache, forced=None, note=silent)
    assert go_on(begun(inputs, library.name)).backends.library == str(library)
    with pytest.raises(RunError) as caught:
        go_on(begun(inputs, library.name, name="another processor"))
    assert str(caught.value) == (
        f"run.yaml: backends: {library.name} must be at hand, the trainings of this run were "
        "computed with it, but no C compiler found, looked for no-such-compiler; resume the run "
        "where it began, or add --backend native or --backend torch to go on with other rounding"
    )
    with pytest.raises(RunError, match=r"native-gone\.so must be at hand"):
        go_on(begun(inputs, "native-gone.so"))


@pytest.mark.usefixtures("quick")
def test_another_backend_can_be_forced_where_the_library_is_gone(
    inputs: Inputs, cache: Path
) -> None:
    go_on = partial(found_again, begun(inputs, "native-gone.so"), cache=cache, note=silent)
    with pytest.raises(RunError, match="but this machine builds native-"):
        go_on(forced=None)
    notes: list[str] = []
    plan = found_again(begun(inputs, "x"), cache=cache, forced="torch", note=notes.append)
    assert plan.backends == Backends(rest="torch", chosen={})
    assert notes == ["kernels   all depthwise sums by torch from here on"]
    library = str(compiled(cache, flags=QUICK))
    assert go_on(forced="native").backends == Backends(rest="native", chosen={}, library=library)


def test_the_shapes_of_a_space_are_those_of_its_networks(inputs: Inputs) -> None:
    plan = inputs.planned(text=SMALL)[0]
    every = (sum_shapes(network, 32) for network in Census(plan.space).all())
    assert shapes_of(plan) == set().union(*every)


# Real runs.


def finished(inputs: Inputs, out: Path, cache: Path, **settings: Any) -> Path:
    plan, images = inputs.planned(**{"budget": 3, **settings})
    session.begin(plan, images, out, session.Manner(quiet=True, cache=cache))
    return out


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_run_of_the_compiled_backend_goes_on_as_if_it_had_not_stopped(
    inputs: Inputs, cache: Path, tmp_path: Path
) -> None:
    straight = finished(inputs, tmp_path / "straight", cache, backend="native", budget=4)
    out = finished(inputs, tmp_path / "run", cache, backend="native", budget=2)
    session.resume(out, session.Manner(quiet=True, cache=tmp_path / "other"), budget=4)
    assert table(out).equals(table(straight))
    assert load_plan(out).facts["backends"]["rest"] == "native"
    assert list((tmp_path / "other").glob("native-*.so"))
    # Another worker beside it changes nothing either.
    two = finished(
        inputs, tmp_path / "two", cache, backend="native", budget=4, sampler="random", workers=2
    )
    one = finished(inputs, tmp_path / "one", cache, backend="native", budget=4, sampler="random")
    columns = ["id", "accuracy", "val_loss"]
    alone, beside = (table(each)[columns].set_index("id").sort_index() for each in (one, two))
    both = alone.index.intersection(beside.index)
    assert len(both) >= 2
    assert alone.loc[both].equals(beside.loc[both])


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_two_runs_with_one_cache_and_one_seed_are_equal(
    inputs: Inputs, cache: Path, tmp_path: Path
) -> None:
    one, two = (
        finished(inputs, tmp_path / name, cache, backend="auto", text=SMALL) for name in "ab"
    )
    assert table(one).equals(table(two))
    chosen_by = [load_plan(out).facts["backends"] for out in (one, two)]
    assert chosen_by[0] == chosen_by[1]
    assert "the fastest of a probe for each of the 6" in (one / "report.html").read_text("utf-8")
