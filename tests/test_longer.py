from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runs.history import History, Trial
from runs.longer import (
    LONGER_REPEAT,
    LongerTrainings,
    _plan_text,
    _time_limit,
    missing,
    reopened,
    train_longer,
)
from runs.objective import training_seed
from runs.records import RECORD_NAME, Records, read_events
from runs.session import HANGS
from runs.workers import Job, Pool
from search_space.errors import RunError
from tests.micro import Inputs, Meddled, Silence, without_images

pytest_plugins = ["tests.micro_fixtures"]


def trained(
    directory: Path,
    numbers: list[int],
    *,
    factor: float = 3,
    workers: int = 1,
    open_pool: Callable[..., Pool] = Pool,
) -> History:
    with reopened(directory, command="go on") as run:
        train_longer(
            run,
            numbers,
            factor=factor,
            purpose="audit",
            workers=workers,
            quiet=True,
            open_pool=open_pool,
        )
        return run.history


def meddled(change: Callable[[Job], Job]) -> Callable[..., Pool]:
    def open_pool(workers: int, **_: object) -> Pool:
        return Meddled(workers, change=change)

    return open_pool


def test_a_longer_training_has_its_own_seed_and_so_many_steps_and_is_kept(run: Path) -> None:
    before = History(read_events(run))
    history = trained(run, [1, 4], workers=2)
    assert sorted(history.longer) == [(1, 3.0), (4, 3.0)]
    for number in (1, 4):
        event, trial = history.longer[number, 3], before.trials[number]
        assert event["seed"] == training_seed(3, trial.id, LONGER_REPEAT) != trial.seed
        assert event["steps"] == 3 * trial.result["steps"]
        assert (event["state"], event["purpose"]) == ("complete", "audit")
        assert 0 <= event["accuracy"] <= 1
        assert min(event["val_loss"], event["seconds"]) > 0
    after = History(read_events(run))
    assert after.longer == history.longer
    assert (after.spent, after.rows()) == (before.spent, before.rows())
    assert {path.name for path in (run / "weights").iterdir()} == {
        *(f"{n}.safetensors" for n in range(6)),
        f"final-{after.final['finaltrained']['id']}.safetensors",
    }


def test_what_is_there_is_not_trained_again(run: Path) -> None:
    first = trained(run, [0, 2])
    size = (run / RECORD_NAME).stat().st_size
    assert trained(run, [0, 2]).longer == first.longer
    assert (run / RECORD_NAME).stat().st_size == size
    again = trained(run, [0, 2, 3])
    assert again.longer.items() > first.longer.items()
    # Another length is another training on the same seed.
    other = trained(run, [0], factor=2)
    assert other.longer[0, 2.0]["seed"] == other.longer[0, 3.0]["seed"]
    assert other.longer[0, 2.0]["steps"] * 3 == other.longer[0, 3.0]["steps"] * 2


def test_a_failed_one_stands_with_its_reason_and_is_tried_again(run: Path) -> None:
    def hang(job: Job) -> Job:
        return replace(job, time_limit_s=0.0) if job.key.trials == (2,) else job  # type: ignore[attr-defined]

    history = trained(run, [1, 2], open_pool=meddled(hang))
    event = history.longer[2, 3.0]
    assert event["state"] == "failed"
    assert event["error"].startswith("timeout: ")
    assert [trial.number for trial in missing(history, [1, 2], 3)] == [2]
    assert trained(run, [1, 2]).longer[2, 3.0]["state"] == "complete"


def test_without_its_images_every_one_fails_with_the_reason(run: Path) -> None:
    history = trained(run, [1, 3], open_pool=meddled(without_images))
    for number in (1, 3):
        assert history.longer[number, 3.0]["state"] == "failed"
        assert "nowhere" in history.longer[number, 3.0]["error"]


def test_ctrl_c_comes_after_an_event_and_says_how_to_go_on(run: Path) -> None:
    # A shell in the background hands on that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    class Impatient(Silence):
        def trial_done(self, row: dict[str, object]) -> None:
            super().trial_done(row)
            signal.raise_signal(signal.SIGINT)

    with (
        pytest.raises(KeyboardInterrupt, match=r"go on with 'replk-search audit x'\."),
        reopened(run, command="replk-search audit x") as opened,
        Pool(1) as pool,
    ):
        LongerTrainings(opened, pool, Impatient(), factor=2, purpose="recheck").run(
            [opened.history.trials[0], opened.history.trials[1]]
        )
    history = History(read_events(run))
    assert sorted(history.longer) == [(0, 2.0)]
    assert history.longer[0, 2.0]["purpose"] == "recheck"


def test_a_training_in_rungs_is_forecast_by_all_of_them(run: Path) -> None:
    trial = History(read_events(run)).trials[0]
    trial.result["train_seconds"] = 40.0
    assert _plan_text([trial], 1, 3, 1).endswith("about 2 min, 1 at a time")
    assert _time_limit(made([trial]), 100) == HANGS * 100 * 40
    trial.asked["share"] = [2, 3]
    assert _plan_text([trial], 1, 3, 1).endswith("about 3 min, 1 at a time")
    assert _time_limit(made([trial]), 100) == HANGS * 100 * 60


def made(trials: list[Trial]) -> History:
    history = History()
    history.done.extend(trials)
    return history


def test_a_run_that_is_not_finished_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    plan, _ = inputs.planned(budget=4)
    with Records.create(tmp_path / "run", {"plan": plan.document()}):
        plan.write(tmp_path / "run")
    with (
        pytest.raises(RunError, match="0 of 4 trainings are done; finish it first with 'replk-s"),
        reopened(tmp_path / "run", command="x"),
    ):
        pass


def test_a_run_in_use_is_refused_and_one_that_is_none(run: Path, tmp_path: Path) -> None:
    with Records.open(run), pytest.raises(RunError, match="must not be in use"):
        trained(run, [0])
    with pytest.raises(RunError, match="must be the directory of a run, there is none"):
        trained(tmp_path / "none", [0])
