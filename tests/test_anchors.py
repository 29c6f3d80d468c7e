from __future__ import annotations

import json

import optuna
import pytest

from runs.anchors import Chooser, anchors, random_draw
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
