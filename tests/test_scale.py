from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState

from runs.history import History
from runs.past import BEST, LATEST, SHOWN, Past
from runs.records import read_events
from runs.search import Search
from tests.simulated_runs import MEASURED_S, SECONDS, plan_of, run

KILOBYTES_A_TRIAL = 20


class Walked(Exception):
    """Somebody went through all trials."""


class Trials(dict[int, Any]):
    """Trials by number that can be looked up, and not gone through."""

    def _refuse(self, *_: object) -> Any:
        raise Walked

    __iter__ = keys = values = items = _refuse


class Done(list[Any]):
    """Finished trials, of which only the latest can be had."""

    def __iter__(self) -> Iterator[Any]:
        raise Walked

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        if isinstance(place, slice) and len(found) > 60:
            raise Walked
        return found


def watch(search: Search) -> None:
    search.history.trials = Trials(search.history.trials)
    search.history.done = Done(search.history.done)


@pytest.mark.parametrize("fidelity", ["full", "halving"])
def test_no_trial_costs_a_walk_through_all_of_them(tmp_path: Path, fidelity: str) -> None:
    plan = plan_of(90, sampler="random", fidelity=fidelity, workers=4, noise=10, evidence=24)
    search, _ = run(plan, tmp_path, prepare=watch)
    assert search.history.spent == 90
    with pytest.raises(Walked):
        search.history.rows()


def test_a_search_keeps_all_its_workers_busy_and_meets_its_budget(tmp_path: Path) -> None:
    search, pool = run(plan_of(150, sampler="random", workers=8), tmp_path)
    assert search.history.spent == len(search.history.trials) == 150
    # No list of jobs takes longer than its even share and the longest one; a slot is never idle
    # but while it measures.
    assert pool.now < pool.busy / 8 + max(SECONDS) + 150 * MEASURED_S


def test_a_run_of_halving_spends_its_budget_to_the_last_ninth(tmp_path: Path) -> None:
    plan = plan_of(60, sampler="random", workers=8, fidelity="halving")
    search, _ = run(plan, tmp_path)
    history = search.history
    assert history.spent == 60
    shares = [trial.share for trial in history.trials.values()]
    assert sum(shares, Fraction(0)) == 60
    assert len(history.tried) > 180
    states = {trial.state for trial in history.trials.values() if trial.rung in (0, 1)}
    assert states == {"stopped"}


def same(history: History) -> tuple[Any, ...]:
    """Give everything that a history keeps beside its trials."""
    return (
        *(history.spent, history.counts, history.rejected, history.next_number, history.tried),
        *([trial.number for trial in history.done], [trial.number for trial in history.pending]),
        {role: [t.number for t in found] for role, found in history.of_role.items()},
        {network: [t.number for t in found] for network, found in history.networks.items()},
    )


def test_what_is_kept_event_by_event_is_what_the_record_says(tmp_path: Path) -> None:
    search, _ = run(plan_of(12, sampler="random", fidelity="halving"), tmp_path)
    history = search.history
    assert same(History(read_events(tmp_path))) == same(history)
    assert history.spent == sum(t.share for t in history.done if t.state != "failed")
    assert same(history.without([]))[4:] == same(history)[4:]
    assert 3 not in history.without([3]).trials


@pytest.mark.slow
def test_a_driver_grows_by_less_than_twenty_kilobytes_a_trial(tmp_path: Path) -> None:
    sizes = []

    def weigh(done: int) -> None:
        if done in (100, 500):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        run(plan_of(500, sampler="random", workers=4), tmp_path, on_done=weigh)
    finally:
        tracemalloc.stop()
    assert (sizes[1] - sizes[0]) / 400 < 1024 * KILOBYTES_A_TRIAL


def frozen(number: int, values: list[float]) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.COMPLETE,
        value=None,
        values=values,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )


def past_of(values: Any, *, seed: int = 0) -> Past:
    past = Past((-1, 1), seed=seed)
    for number, found in enumerate(values):
        past.add(frozen(number, list(found)))
    return past


def numbers(past: Past) -> list[int]:
    return [trial.number for trial in past.shown()]


def test_a_sampler_is_shown_all_of_a_short_run() -> None:
    values = np.random.default_rng(0).random((SHOWN, 2))
    assert numbers(past_of(values)) == list(range(SHOWN))


@pytest.mark.parametrize("count", [SHOWN + 1, 2_000])
def test_of_a_long_run_it_is_shown_the_front_the_latest_and_an_even_sample(count: int) -> None:
    values = np.random.default_rng(1).random((count, 2))
    shown = numbers(past_of(values))
    assert len(shown) == SHOWN
    assert shown == sorted(shown)
    losses = values * [-1, 1]
    front = [
        place
        for place, own in enumerate(losses)
        if not ((losses <= own).all(axis=1) & (losses < own).any(axis=1)).any()
    ]
    assert 0 < len(front) < BEST
    assert {*front, *range(count - LATEST, count)} <= {*shown}
    others = np.array(shown)
    assert 0.3 < np.mean(others < count / 2) < 0.6


def test_what_is_shown_depends_on_the_finished_trials_and_the_seed_alone() -> None:
    values = np.random.default_rng(2).random((1_000, 2))
    assert numbers(past_of(values)) == numbers(past_of(values))
    assert numbers(past_of(values)) != numbers(past_of(values, seed=1))


def test_a_front_of_everything_is_cut_where_it_is_crowded() -> None:
    losses = np.linspace(0, 1, 2_000)
    order = np.random.default_rng(3).permutation(2_000)
    values = np.stack([losses[order], losses[order]], axis=1)
    past = past_of(values)
    leading = sorted(losses[order[trial.number]] for trial in past._leading())
    assert len(leading) == BEST
    assert (leading[0], leading[-1]) == (0, 1)
    assert max(np.diff(leading)) < 0.1
