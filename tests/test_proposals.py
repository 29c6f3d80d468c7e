from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest

from runs.anchors import anchors, random_draw
from runs.history import History
from runs.measures import measure_with
from runs.proposals import Proposer
from runs.ranking import objectives_named
from runs.records import Event
from runs.samplers import SAMPLERS
from search_space.architecture import Architecture
from search_space.space import DesignSpace
from search_space.yaml_io import load_space, parse_space
from tests.micro import SPACE


def micro(extra: str = "") -> DesignSpace:
    return parse_space(SPACE + extra).bound(size=(12, 12), channels=1)


measure = measure_with(4)


def proposer(
    space: DesignSpace, *, sampler: str = "tpe", seed: int = 0, first: list[Any] | None = None
) -> Proposer:
    return Proposer(
        space,
        objectives_named(("accuracy", "macs")),
        sampler=sampler,
        seed=seed,
        chance={"accuracy": 0.25, "val_loss": math.log(4)},
        measure=measure,
        first=first,
    )


def score_of_id(network: Architecture) -> float:
    return int(network.id[:4], 16) / 65536


def searched(
    space: DesignSpace,
    budget: int,
    *,
    sampler: str = "tpe",
    restart_every: int = 10**6,
    score: Callable[[Architecture], float] = score_of_id,
) -> tuple[list[Event], History]:
    """Search with accuracy by a formula, forgetting everything but the events now and then."""
    events: list[Event] = []
    history, source = History(), proposer(space, sampler=sampler)
    for number in range(budget):
        if number % restart_every == restart_every - 1:
            history, source = History(events), proposer(space, sampler=sampler)
        proposal = source.propose(number, history)
        if proposal is None:
            break
        found = proposal.architecture
        new: list[dict[str, Any]] = [
            {
                "event": "refused",
                "trial": number,
                "duplicates": proposal.duplicates,
                "rejected": dict(proposal.rejected),
            },
            {
                "event": "asked",
                "trial": number,
                "role": proposal.role,
                "id": found.id,
                "seed": 1,
                "architecture": found.to_json(),
                **proposal.fields(),
            },
            {
                "event": "done",
                "trial": number,
                "state": "complete",
                "accuracy": score(found),
                "macs": measure(found)["macs"],
            },
        ]
        for event in new:
            events.append(event)
            history.apply(event)
    return events, history


def test_the_first_trials_are_the_corners_and_the_middle_of_the_space() -> None:
    smallest, largest, middle = [network for network, _ in anchors(micro())][:3]
    costs = [measure(network)["params"] for network in (smallest, middle, largest)]
    assert costs == sorted(costs)
    assert [stage.width for stage in smallest.stages] == [4, 4]
    assert [stage.width for stage in largest.stages] == [6, 8]
    assert [stage.kernel for stage in largest.stages] == [7, 5]


def test_published_shapes_are_among_the_anchors_of_the_shipped_space() -> None:
    space = load_space("default").bound(size=(28, 28), channels=1)
    found = [network for network, _ in anchors(space)]
    assert any(
        network.stages[0].kernel == 3
        and network.stages[1].kernel == 13
        and network.stages[1].placement.startswith("LS")
        and network.stages[1].structure == "se"
        and len(network.stages[1].dilations) == 5
        for network in found
    )


def test_any_number_of_first_networks_comes_first_and_a_known_one_is_passed_over() -> None:
    space = micro()
    rng = np.random.default_rng(0)
    first = [random_draw(space, lambda n: int(rng.integers(n))) for _ in range(12)]
    distinct = list(dict.fromkeys(network.id for network, _ in first))
    assert len(distinct) > 6
    events, history = [], History()
    source = proposer(space, first=first)
    for number in range(len(distinct) + 1):
        proposal = source.propose_first(history) or source.propose(number, history)
        assert proposal is not None
        found = proposal.architecture
        event = {
            "event": "asked",
            "trial": number,
            "role": proposal.role,
            "id": found.id,
            "seed": 1,
            "architecture": found.to_json(),
            **proposal.fields(),
        }
        events.append(event)
        history.apply(event)
    assert [event["id"] for event in events[:-1]] == distinct
    assert {event["role"] for event in events[:-1]} == {"anchor"}
    assert events[-1]["role"] == "search"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_network_is_proposed_twice(sampler: str) -> None:
    _, history = searched(micro(), 60, sampler=sampler)
    assert len(history.tried) == 60
    assert history.counts["complete"] == 60


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposer_rebuilt_from_the_events_proposes_the_same(sampler: str) -> None:
    _, straight = searched(micro(), 40, sampler=sampler)
    _, restarted = searched(micro(), 40, sampler=sampler, restart_every=7)
    assert [t.id for t in straight.done] == [t.id for t in restarted.done]


def test_a_duplicate_gives_way_to_a_network_beside_it() -> None:
    space = micro()
    history = History(searched(space, 40, sampler="tpe")[0])
    source = proposer(space, sampler="tpe")
    again = history.done[0].architecture
    source.make_sampler = lambda _seed: optuna.samplers.PartialFixedSampler(
        space.answers(again), optuna.samplers.RandomSampler()
    )
    near = {network.id for network in space.neighbours(again)}
    found = source.propose(40, history)
    assert found is not None
    assert found.duplicates == 1
    assert found.architecture.id in near - history.tried.keys()
    assert dict(found.params) == space.answers(found.architecture)
    assert found.distributions.keys() == found.params.keys()


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_a_sampler_learns_from_what_it_is_shown(sampler: str) -> None:
    """Where the smaller network is the better one in everything, it comes to propose small ones."""
    space = load_space("default").bound(size=(28, 28), channels=1)
    costs = {
        name: [
            trial.result["macs"]
            for trial in searched(
                space, 50, sampler=name, score=lambda network: 1 - measure(network)["macs"] / 1e9
            )[1].done[-20:]
        ]
        for name in (sampler, "random")
    }
    assert np.median(costs[sampler]) < 0.6 * np.median(costs["random"])


def test_another_seed_proposes_others_after_the_anchors() -> None:
    space = micro()
    history = History(searched(space, 8)[0])
    first = proposer(space, seed=0).propose(8, history)
    second = proposer(space, seed=1).propose(8, history)
    assert first is not None
    assert second is not None
    assert first.architecture.id != second.architecture.id


def test_what_breaks_a_constraint_is_never_proposed_but_counted() -> None:
    _, history = searched(micro("constraints:\n  params: {max: 700}\n"), 30)
    assert len(history.done) == 30
    assert all(measure(t.architecture)["params"] <= 700 for t in history.done)
    assert history.rejected["params"] > 0
    assert history.counts["rejected"] == history.rejected["params"]


def test_a_small_space_is_searched_to_its_last_network() -> None:
    text = (
        "stages:\n"
        "  - {depth: 1, width: {choice: [2, 4, 6]}, kernel: {choice: [3, 5]}, dilations: none}\n"
    )
    space = parse_space(text).bound(size=(12, 12), channels=1)
    _, history = searched(space, 50)
    assert len(history.tried) == 6


def test_with_constraints_too_a_small_space_ends() -> None:
    text = (
        "stages:\n  - depth: 1\n    width: {int: [2, 40], step: 2}\n"
        "    kernel: {choice: [3, 5]}\n    dilations: none\n"
        "constraints: {params: {max: 900}}\n"
    )
    space = parse_space(text).bound(size=(12, 12), channels=1)
    _, history = searched(space, 50)
    fitting = [network for network in space.census.all() if measure(network)["params"] <= 900]
    assert set(history.tried) == {network.id for network in fitting}


def test_a_diverged_training_counts_at_chance_level() -> None:
    space = micro()
    events, _ = searched(space, 8)
    for event in events:
        if event["event"] == "done" and event["trial"] == 3:
            event["state"] = "diverged"
            event["accuracy"] = None
    source = proposer(space)
    assert source.propose(8, History(events)) is not None
    assert 0.25 in [trial.values[0] for trial in source.past()]


def test_failed_trials_are_not_told_to_the_sampler() -> None:
    space = micro()
    events, _ = searched(space, 8)
    events[-1].update(state="failed", error="crash")
    source = proposer(space)
    source.propose(8, History(events))
    assert len(source.past()) == 7
