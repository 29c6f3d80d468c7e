"""Neighbours against their definition, by brute force."""

from __future__ import annotations

from collections import defaultdict

import pytest

from search_space.axes import FloatRange
from search_space.space import DesignSpace
from search_space.yaml_io import load_architecture, load_space, parse_space
from tests.random_spaces import assignments, made_by, named_axes, random_space

MOST = 400


def neighbours_by_definition(space: DesignSpace) -> dict[str, set[str]]:
    """Change every axis of every assignment to every other value."""
    made = {
        raw: network.id if (network := made_by(space, raw)) else None
        for raw in assignments(space, most=MOST)
    }
    values = {
        name: axis.values
        for name, axis in named_axes(space).items()
        if not isinstance(axis, FloatRange)
    }
    near: dict[str, set[str]] = defaultdict(set)
    for raw, mine in made.items():
        if mine is None:
            continue
        near[mine] |= set()
        for place, (name, _) in enumerate(raw):
            for value in values[name]:
                other = made[(*raw[:place], (name, value), *raw[place + 1 :])]
                if other is not None and other != mine:
                    near[mine].add(other)
    return dict(near)


@pytest.mark.parametrize("seed", range(40))
def test_neighbours_are_those_of_the_definition(seed: int) -> None:
    space = random_space(seed, most=MOST)
    found = {a.id: {b.id for b in space.neighbours(a)} for a in space.census.all()}
    assert found == neighbours_by_definition(space)


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_neighbours_are_mutual_distinct_and_in_order(seed: int) -> None:
    space = random_space(seed, most=MOST)
    near = {a.id: [b.id for b in space.neighbours(a)] for a in space.census.all()}
    for mine, others in near.items():
        assert mine not in others
        assert others == sorted(set(others))
        assert all(mine in near[other] for other in others)


def test_neighbours_are_canonical_members() -> None:
    space = load_space("tiny").bound(size=(28, 28), channels=1)
    network = next(space.census.all())
    near = space.neighbours(network)
    assert near
    assert all(other == other.canonical and space.contains(other) for other in near)


def test_a_width_is_one_axis_away_from_every_other_width() -> None:
    space = parse_space("""
        input: {channels: 1, size: 8}
        stages: [{depth: 1, width: {int: [8, 32], step: 8}, kernel: 3}]
        """)
    (network, *_) = (a for a in space.census.all() if a.stages[0].width == 8)
    assert sorted(b.stages[0].width for b in space.neighbours(network)) == [16, 24, 32]


def test_what_cannot_act_may_stand_anywhere() -> None:
    # From a 3x3 block, K = 7 is one step away with any branches.
    space = parse_space("""
        input: {channels: 1, size: 32}
        stages: [{depth: 1, width: 8, kernel: {choice: [3, 7]}, dilations: {choice: [none, paper]}}]
        """)
    (small,) = (a for a in space.census.all() if a.stages[0].kernel == 3)
    assert {b.stages[0].dilations for b in space.neighbours(small)} == {
        (),
        ((3, 2), (3, 3), (5, 1)),
    }


def test_axes_of_floats_are_left_alone() -> None:
    space = parse_space("""
        input: {channels: 1, size: 8}
        stages: [{depth: {choice: [1, 2]}, width: 8, kernel: 3, ffn_ratio: {float: [1, 4]}}]
        """)
    network = space.draw(lambda _name, _axis, options: options[0] if options else 2.5)
    (other,) = space.neighbours(network)
    assert other.stages[0].ffn_ratio == 2.5
    assert {network.depth, other.depth} == {1, 2}


def test_a_float_that_would_start_to_act_gives_no_neighbour() -> None:
    space = parse_space("""
        input: {channels: 1, size: 32}
        block: {choice: [replknet, convnext]}
        stages: [{depth: 1, width: 8, kernel: 3, layer_scale: {float: [0.1, 1]}}]
        """)
    network = space.draw(lambda _name, _axis, options: "replknet" if options else 0.5)
    assert network.block == "replknet"
    assert space.neighbours(network) == []
    assert space.contains(network)


def test_a_network_outside_the_space_has_no_neighbours() -> None:
    space = load_space("tiny").bound(size=(28, 28), channels=1)
    assert space.neighbours(load_architecture("unireplknet_a")) == []
