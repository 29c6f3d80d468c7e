from __future__ import annotations

import json
from typing import Any

import optuna
import pytest

from evaluators.cost import cost
from runs.anchors import (
    CORNERS,
    Chooser,
    anchor_names,
    anchors,
    first_networks,
    published_start,
    random_draw,
)
from search_space.architecture import Architecture
from search_space.space import DesignSpace
from search_space.yaml_io import parse_space
from tests.micro import SPACE


def micro(text: str = SPACE) -> DesignSpace:
    return parse_space(text).bound(size=(12, 12), channels=1)


@pytest.mark.parametrize("index", range(4))
def test_what_a_chooser_remembers_is_what_optuna_would_have_stored(index: int) -> None:
    space = micro()
    network, chooser = anchors(space)[index]
    study = optuna.create_study()
    study.enqueue_trial(chooser.params)
    trial = study.ask()
    assert space.suggest(trial).id == network.id
    assert trial.params == chooser.params
    assert trial.distributions == chooser.distributions


def test_anchors_are_distinct_and_the_first_three_are_small_large_and_middle() -> None:
    found = [network for network, _ in anchors(micro())]
    assert len({network.id for network in found}) == len(found)
    smallest, largest, middle = found[:3]
    assert [stage.structure for stage in smallest.stages] == ["none", "none"]
    assert [stage.dilations for stage in smallest.stages] == [(), ()]
    assert [stage.depth for stage in largest.stages] == [1, 2]
    assert [stage.dilations for stage in largest.stages] == [
        ((3, 2), (3, 3), (5, 1)),
        ((3, 1), (3, 2)),
    ]
    assert [stage.width for stage in middle.stages] == [6, 6]


def test_every_anchor_has_a_name_and_the_first_three_are_corners() -> None:
    found = [network.id for network, _ in anchors(micro())]
    names = anchor_names(micro())
    assert list(names) == found
    assert [names[network][0] for network in found[:3]] == list(CORNERS)
    told = [name for network in found for name in names[network]]
    shapes = {name for name in told if name.startswith("shape of UniRepLKNet-")}
    assert len(told) == len(set(told)) == 6
    assert set(told) == {*CORNERS, *shapes}


def test_a_space_of_one_network_has_one_anchor() -> None:
    (found,) = anchors(micro("stages:\n  - {depth: 1, width: 4, kernel: 3}\n"))
    assert found[1].params == {}


def test_ranges_are_asked_at_their_ends_and_their_middle() -> None:
    text = (
        "stages:\n  - {depth: 1, width: {int: [4, 20], step: 4}, kernel: 3, "
        "ffn_ratio: {float: [1, 4], log: true}}\n"
    )
    drawn = [chooser.params for _, chooser in anchors(micro(text))]
    assert [params["stages[0].width"] for params in drawn[:3]] == [4, 20, 12]
    assert [params["stages[0].ffn_ratio"] for params in drawn[:3]] == [1, 4, 2]


def test_a_random_draw_takes_what_it_is_told_of_every_axis() -> None:
    first, _ = random_draw(micro(), lambda _: 0)
    last, _ = random_draw(micro(), lambda count: count - 1)
    assert [stage.width for stage in first.stages] == [4, 4]
    assert [stage.width for stage in last.stages] == [6, 8]


def test_dilation_sets_are_ordered_by_their_taps_and_the_table_comes_last() -> None:
    seen: list[list[str]] = []

    def prefer(_stage: int | None, _key: str, options: object) -> str:
        assert isinstance(options, list)
        seen.append(options)
        return str(options[0])

    choices = ["paper", json.dumps([[5, 1], [3, 1]]), "none", json.dumps([[3, 1]])]
    Chooser(prefer).suggest_categorical("stages[0].dilations", choices)
    assert seen == [["none", "[[3, 1]]", "[[5, 1], [3, 1]]", "paper"]]


# Published networks.

START = """\
name: start
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [4, 6, 8]}, kernel: {choice: [3, 7]}}
  - depth: {choice: [1, 2]}
    width: {choice: [8, 12, 16]}
    kernel: {choice: [3, 7, 13]}
    placement: {choice: [L, LS]}
shared: {structure: {choice: [none, se]}}
"""


def params(architecture: Architecture) -> dict[str, float]:
    return {"params": cost(architecture, 10).params_inference}


def started(text: str = START, *, budget: int = 200) -> tuple[DesignSpace, dict[str, Any]]:
    space = parse_space(text).bound(size=(28, 28), channels=1)
    return space, published_start(space, budget=budget, measure=params)


def test_published_networks_come_by_their_top_1_and_each_network_once() -> None:
    _, found = started()
    networks = found["networks"]
    assert networks[0]["names"][0] == "unireplknet_xl"
    assert [told["top1"] for told in networks] == sorted(
        (told["top1"] for told in networks), reverse=True
    )
    assert len({told["id"] for told in networks}) == len(networks) > 5


def test_it_is_counted_what_became_of_every_published_network() -> None:
    _, found = started(budget=8)
    assert found["left_out"] == {"block replknet": 8, "block convnext": 5, "block slak": 3}
    assert found["rejected"] == {}
    assert len(found["networks"]) == 4
    enqueued = len(found["networks"]) + found["coinciding"]
    assert enqueued + found["beyond"] + sum(found["left_out"].values()) == found["published"] == 42


def test_they_fill_at_most_half_of_the_budget_but_one_at_least() -> None:
    sizes = [len(started(budget=budget)[1]["networks"]) for budget in (1, 7)]
    assert sizes == [1, 3]


def test_those_that_break_a_constraint_are_left_out_and_counted() -> None:
    free = started()[1]
    space, found = started(START + "constraints: {params: {max: 6000}}\n")
    assert found["rejected"]["params"] > 0
    assert 0 < len(found["networks"]) < len(free["networks"])
    for told in found["networks"]:
        network = Architecture.from_json(told["architecture"])
        assert params(network)["params"] <= 6000
        assert space.contains(network)


def test_a_space_of_another_family_gets_none_but_says_why() -> None:
    _, found = started(START.replace("stem: {kind: unireplknet", "stem: {kind: patchify"))
    assert found["networks"] == []
    assert found["left_out"]["stem unireplknet"] == 26


def test_what_is_enqueued_is_what_optuna_would_have_stored() -> None:
    space, found = started()
    first = first_networks(space, "published", found)
    assert [network.id for network, _ in first] == [told["id"] for told in found["networks"]]
    for network, chooser in first:
        study = optuna.create_study()
        study.enqueue_trial(chooser.params)
        trial = study.ask()
        assert space.suggest(trial).id == network.id
        assert trial.params == chooser.params
        assert trial.distributions == chooser.distributions


def test_the_other_warm_starts_are_the_anchors_and_nothing() -> None:
    space = micro()
    ids = [network.id for network, _ in anchors(space)]
    assert [network.id for network, _ in first_networks(space, "anchors", {})] == ids
    assert first_networks(space, "none", {}) == []
