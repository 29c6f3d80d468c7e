from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runs import engines, reporting, session
from runs.anchors import first_networks
from runs.folders import run_directory
from runs.forecast import TRIAL_S, forecast
from runs.history import History
from runs.images import COPY_NAME, decoded, lasting, read_copy
from runs.latencies import TRIAL_BUDGET_S
from runs.plan import default_workers, load_plan
from runs.planning import plan_lines
from runs.records import Records, read_events
from runs.workers import Pool
from search_space.errors import DataError, ReplkError, RunError, SpaceError, WorkFailed
from tests.micro import SPACE, Inputs, Meddled, kinds, without_images, write_data

pytest_plugins = ["tests.micro_fixtures"]

QUIET = session.Manner(quiet=True)
ROOT_READS_ALL = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anything")


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def resumed(run: Path, **changes: Any) -> None:
    session.resume(run, QUIET, **changes)


# Where a run goes.


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("tiny32", "tiny32"),
        ("../../x", "x"),
        ("<script>alert(1)</script>", "script-alert-1-script"),
        ("Große Kerne", "Gro-e-Kerne"),
        ("...", "run"),
        ("k" * 300, "k" * 60),
        ("a\x1b[31m\nb", "a-31m-b"),
    ],
)
def test_a_run_is_called_after_its_space_and_stays_in_results(name: str, slug: str) -> None:
    path = run_directory(None, name)
    assert path.parent == Path("results")
    assert path.name[:-16] == slug
    assert path.name[-15:].replace("-", "").isdigit()


@pytest.mark.usefixtures("_elsewhere")
def test_runs_of_one_second_get_directories_of_their_own() -> None:
    for _ in range(3):
        path = run_directory(None, "x")
        path.mkdir(parents=True)
    assert len(list(Path("results").iterdir())) == 3


def test_an_empty_directory_is_taken_and_a_new_one_need_not_exist(tmp_path: Path) -> None:
    assert run_directory(tmp_path, "x") == tmp_path
    assert run_directory(tmp_path / "a" / "b", "x") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()


def test_a_result_is_never_overwritten(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"^--out {finished}: .*'replk-search resume {finished}'"):
        run_directory(finished, "x")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"^--out .*: must not exist yet, .*replk-search resume"):
        run_directory(tmp_path, "x")
    with pytest.raises(RunError, match=r"^--out .*mine.txt: must not exist yet"):
        run_directory(tmp_path / "mine.txt", "x")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"^--out .*link: must not exist yet"):
        run_directory(tmp_path / "link", "x")


def test_a_name_that_the_disk_cannot_hold_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    plan, images = inputs.planned()
    out = tmp_path / ("k" * 300)
    with pytest.raises(RunError, match=r"^.*: must be a directory .*File name too long"):
        session.begin(plan, images, run_directory(out, "x"), QUIET)


# What is refused before anything is written.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("name: micro", "constraints: {params: {max: 2}}"),
            "constraints.params: must be met by at least 1 network in 1,000",
        ),
        (("name: micro", "input: {size: 40}"), "images must fit the space's input of 40x40x1"),
        (("name: micro", "input: {channels: 2}"), "images must fit the space's input of 12x12x2"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_place(
    inputs: Inputs, change: tuple[str, str], said: str
) -> None:
    text = SPACE.replace(*change)
    with pytest.raises(ReplkError) as caught:
        inputs.planned(text=text)
    assert said in str(caught.value)
    assert isinstance(caught.value, SpaceError | DataError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [("accuracy",), ("params", "accuracy", "latency")])
def test_one_objective_or_three_are_planned(inputs: Inputs, names: tuple[str, ...]) -> None:
    assert inputs.planned(objectives=names)[0].settings.objectives == names


@pytest.mark.parametrize("names", [("miou",), ("speed",), ("macs", "macs")])
def test_other_objectives_are_refused(inputs: Inputs, names: tuple[str, ...]) -> None:
    with pytest.raises(RunError, match=r"^--objectives: must "):
        inputs.planned(objectives=names)


# A run and its copy of the images.


def test_a_finished_run_leaves_no_copy_of_the_images(finished: Path) -> None:
    assert not (finished / COPY_NAME).exists()


def test_a_copy_of_the_images_is_the_images(inputs: Inputs, tmp_path: Path) -> None:
    plan, images = inputs.planned()
    with decoded(plan.data, images, tmp_path) as source:
        data = source.load()
        assert data.sha256 == images.sha256
        assert data.classes == images.classes
        assert data.name == "shapes"
        assert vars(data)["mean_std"] == images.mean_std
        for name in ("train", "val", "test"):
            theirs, ours = getattr(data, name), getattr(images, name)
            np.testing.assert_array_equal(theirs.images, ours.images)
            np.testing.assert_array_equal(theirs.labels, ours.labels)
        data.train.images[0] = 0
        assert source.load().train.images[0].any()
    with pytest.raises(DataError, match=r"^.*: must hold the images of this run, got: "):
        read_copy(tmp_path / COPY_NAME)


@pytest.mark.usefixtures("_elsewhere")
def test_paths_of_images_are_kept_so_that_they_hold_from_anywhere(tmp_path: Path) -> None:
    for name in ("mine.npz", "cifar10"):
        (tmp_path / name).mkdir()
    assert lasting("mine.npz") == str(tmp_path / "mine.npz")
    assert lasting("./cifar10") == str(tmp_path / "cifar10")
    # A known name is the data set of that name, also beside a folder called like it.
    assert lasting("CIFAR-10") == "CIFAR-10"
    assert lasting("cifar10") == "cifar10"
    assert lasting(None) is None
    assert lasting("gone.npz") == "gone.npz"


def test_a_copy_that_cannot_be_written_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    plan, images = inputs.planned()
    (tmp_path / COPY_NAME).write_text("in the way")
    with (
        pytest.raises(RunError, match=r"^.*: must take a copy of the images, File exists"),
        decoded(plan.data, images, tmp_path),
    ):
        pass


# Going on.


def test_a_forecast_counts_what_is_left_by_what_is_known(finished: Path) -> None:
    plan, history = load_plan(finished), History(read_events(finished))
    more_asked, few_asked = (
        replace(plan, settings=replace(plan.settings, budget=budget)) for budget in (106, 16)
    )
    with Pool(1) as pool:
        more = forecast(more_asked, pool, history)
        few = forecast(few_asked, pool, history)
    took = [trial.result["train_seconds"] for trial in history.done]
    assert more.training_s == pytest.approx(sum(took) / 6)
    # A trial takes its training, what is beside it, and the latency of it and the reference.
    beside = TRIAL_S + 2 * TRIAL_BUDGET_S
    assert more.seconds - few.seconds == pytest.approx(90 * (more.training_s + beside), rel=1e-6)
    assert more.low <= more.seconds <= more.high
    assert more.text().startswith("about ")


def test_images_that_were_changed_or_are_gone_are_refused(run: Path, inputs: Inputs) -> None:
    plan_path = run / "run.yaml"
    before = plan_path.read_bytes()
    shutil.move(inputs.data, inputs.data.with_suffix(".kept"))
    try:
        with pytest.raises(DataError, match=r"shapes.npz'?: must be"):
            resumed(run, budget=9)
        write_data(inputs.data, val=44)
        with pytest.raises(DataError, match=r"shapes.npz: must hold the images that the run began"):
            resumed(run, budget=9)
    finally:
        shutil.move(inputs.data.with_suffix(".kept"), inputs.data)
    assert plan_path.read_bytes() == before
    assert kinds(read_events(run))[-1] == "finished"


def test_a_total_below_what_is_done_is_refused(run: Path) -> None:
    with pytest.raises(RunError, match=r"^--budget: must be at least the 6 trainings .* got 5"):
        resumed(run, budget=5)


def test_a_run_in_use_is_refused_with_the_process_that_has_it(run: Path) -> None:
    with (
        Records.open(run),
        pytest.raises(RunError, match=rf"in use, it is by process {os.getpid()}"),
    ):
        resumed(run)


def test_a_changed_plan_is_refused_and_a_lost_one_comes_back(run: Path) -> None:
    plan = run / "run.yaml"
    before = plan.read_text(encoding="utf-8")
    plan.write_text(before.replace("seed: 3", "seed: 4"), encoding="utf-8")
    with pytest.raises(RunError, match=r"run.yaml: must stay as the search wrote it, it was cha"):
        resumed(run)
    plan.unlink()
    resumed(run)
    assert plan.read_text(encoding="utf-8") == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunError, match=r"^.*: must "):
            resumed(path)
        with pytest.raises(RunError, match=r"^.*: must "):
            reporting.report(path)


@ROOT_READS_ALL
def test_a_run_that_may_not_be_written_is_refused(run: Path) -> None:
    run.chmod(0o500)
    with pytest.raises(RunError, match=r"must be a directory that can be written"):
        resumed(run)
    run.chmod(0o700)


def test_ctrl_c_says_how_to_go_on_wherever_it_comes(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    plan, images = inputs.planned()
    monkeypatch.setattr(session, "forecast", interrupted)
    with pytest.raises(KeyboardInterrupt, match=rf"on disk; .*'replk-search resume {tmp_path}'"):
        session.begin(plan, images, tmp_path, QUIET)
    assert not (tmp_path / COPY_NAME).exists()


def test_a_run_that_fails_shows_what_it_has(
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(size: int, **_: object) -> Pool:
        return Meddled(size, change=lambda job: job if reads_nothing(job) else without_images(job))

    def reads_nothing(job: Any) -> bool:
        return not hasattr(job.payload, "data") or job.key.kind == "timing"

    monkeypatch.setattr(engines, "Pool", broken)
    plan, images = inputs.planned(budget=2)
    with pytest.raises(WorkFailed, match=r"2 of 2 trials failed"):
        session.begin(plan, images, tmp_path / "run", QUIET)
    printed = capsys.readouterr().out
    assert "failed 2 times: error: search_space.errors.DataError: /nowhere/at/all" in printed
    assert "nothing to recommend" in printed
    assert (tmp_path / "run" / "trials.csv").exists()


@pytest.mark.slow
def test_a_space_of_one_network_ends_after_one_training(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "stages:\n  - {depth: 1, width: 4, kernel: 3}\n"
    plan, images = inputs.planned(budget=5, text=text, workers=3)
    session.begin(plan, images, tmp_path / "run", session.Manner())
    printed = capsys.readouterr().out
    assert "the space has no network left: 1 of 5 trainings were possible" in printed
    assert kinds(read_events(tmp_path / "run"))[-1] == "finished"
    resumed(tmp_path / "run")
    assert kinds(read_events(tmp_path / "run"))[-1] == "finished"


def test_a_rehearsal_plans_and_forecasts_and_writes_nothing(inputs: Inputs, tmp_path: Path) -> None:
    plan, _ = inputs.planned(budget=50, workers=2)
    lines = list(session.rehearse(plan, tmp_path / "run", QUIET))
    assert [line.split()[0] for line in lines] == [
        *("space", "data", "training", "search", "kernels", "results", "time")
    ]
    assert "micro: 672 distinct networks; no constraints" in lines[0]
    assert "shapes: 96 / 40 / 40 images of 12x12x1, 4 classes" in lines[1]
    assert "50 trainings by tpe, objectives accuracy, macs, seed 3" in lines[3]
    assert lines[4] == "kernels   all depthwise sums of a training by torch"
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_says_what_is_trained_first_where_it_is_not_the_anchors(
    inputs: Inputs,
) -> None:
    plan, _ = inputs.planned(budget=6, warm_start="published")
    text = " ".join(" ".join(plan_lines(plan, Path("x"))).split())
    assert (
        "first 3 published networks, scaled to the space, as anchors, best published top-1 first; "
        "of all 42: "
    ) in text
    assert "16 left out (block replknet 8, block convnext 5, block slak 3), " in text
    assert "beyond half of the budget." in text
    plan, _ = inputs.planned(warm_start="none")
    assert "first     nothing beforehand" in "\n".join(plan_lines(plan, Path("x")))


@pytest.mark.slow
def test_a_search_begins_with_the_published_networks_that_its_plan_froze(
    inputs: Inputs, tmp_path: Path
) -> None:
    plan, images = inputs.planned(budget=5, warm_start="published", workers=1)
    out = tmp_path / "run"
    session.begin(plan, images, out, QUIET)
    read = load_plan(out)
    frozen = read.facts["warm_start"]["networks"]
    resumed(out)
    first = first_networks(read.space, read.settings.warm_start, read.facts["warm_start"])
    assert [network.id for network, _ in first] == [told["id"] for told in frozen]
    trials = list(History(read_events(out)).trials.values())
    assert [trial.id for trial in trials[:2]] == [told["id"] for told in frozen]
    assert [trial.role for trial in trials] == ["anchor", "anchor", "search", "search", "search"]
    page = (out / "report.html").read_text()
    assert f"{frozen[0]['id']} is unireplknet_xl (88 % at 384 px after ImageNet-22K" in page


def test_names_that_would_steer_a_terminal_are_shown_as_text(inputs: Inputs) -> None:
    text = SPACE.replace("name: micro", 'name: "a\\x1b[31m"')
    plan, _ = inputs.planned(text=text)
    assert plan_lines(plan, Path("x"))[0].startswith(r"space     'a\x1b[31m': 672 ")


# How a session goes on.


class _Elsewhere(engines.LocalEngine):
    """An engine with room for 64."""

    name = "ray"

    def workers(self, asked: int | None, device: str, gpus_per_trial: float = 1.0) -> int:  # noqa: ARG002
        """Give what was asked for, or 64."""
        return asked or 64


@pytest.mark.parametrize(
    ("before", "engine", "asked", "workers"),
    [
        ("local", engines.LocalEngine(), None, 7),
        ("local", engines.LocalEngine(), 3, 3),
        ("local", _Elsewhere(), None, 64),
        ("ray", engines.LocalEngine(), None, default_workers("cpu")),
        ("ray", _Elsewhere(), None, 64),
    ],
)
def test_a_session_that_goes_on_elsewhere_asks_how_many_trainings_fit_there(
    inputs: Inputs, before: str, engine: engines.Engine, asked: int | None, workers: int
) -> None:
    plan, _ = inputs.planned(budget=2)
    events = [{"event": "session", "engine": before, "workers": 7}]
    manner = session.Manner(engine=engine)
    assert session.workers_of(plan, events, manner, asked=asked) == workers
