"""The bases of contexts: drawn evenly, none missed, none that is not of the space."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from evaluators.bases import LISTED, Bases, design
from evaluators.moves import Moves, Pattern
from evaluators.protocol import GUIDELINES
from search_space.space import DesignSpace
from search_space.yaml_io import load_space, parse_space

TEXT = """\
input: {channels: 1, size: 28}
stem: {stride: 2}
stages:
  - {depth: {choice: [1, 2]}, width: {choice: [8, 16]}, kernel: {choice: [3, 7, 9]}}
  - {depth: {choice: [1, 2]}, width: 32, kernel: {choice: [3, 5, 7]}, placement: {choice: [L, LS]}}
every_stage:
  dilations: {choice: [none, paper]}
shared:
  structure: {choice: [none, se]}
  se_ratio: {choice: [2, 4]}
"""


def bases_of(space: DesignSpace) -> Bases:
    return Bases(
        [(shell, Moves(space.plan, shell)) for shell in space.plan.shells], frozenset(GUIDELINES)
    )


def test_bases_are_the_networks_of_the_space_that_may_hold_every_factor() -> None:
    space = parse_space(TEXT)
    (shell,) = space.plan.shells
    moves = Moves(space.plan, shell)
    active = frozenset(GUIDELINES)
    listed = [network.id for network in bases_of(space).draws(np.random.default_rng(0))]
    expected = [
        network.id
        for network in space.census.all()
        if {stage.structure for stage in network.stages} == {"se"}
        and all(
            moves.may_hold(active, index, Pattern.of(stage))
            for index, stage in enumerate(network.stages)
        )
    ]
    assert sorted(listed) == sorted(expected)
    # Depth, width and kernel of stage 1, depth of stage 2, ratio of SE.
    assert len(listed) == 2 * 2 * 2 * 2 * 2


def test_every_base_of_the_right_depth_has_all_its_networks() -> None:
    space = parse_space(TEXT)
    bases = bases_of(space)
    for base in bases.draws(np.random.default_rng(0)):
        networks = bases.moves(base).networks(base, bases.active)
        assert (networks is not None) == (base.stages[1].depth == 2)
        if networks is not None:
            assert networks[1, 1, 0, 1] == base
            assert len({network.id for network in networks.values()}) == 16


def test_bases_of_a_large_space_are_drawn_evenly() -> None:
    text = TEXT.replace("width: 32", "width: {int: [32, 1056]}")
    space = parse_space(text)
    drawn = list(itertools.islice(bases_of(space).draws(np.random.default_rng(0)), 800))
    assert LISTED < 32 * 1025
    kernels = Counter(base.stages[0].kernel for base in drawn)
    assert kernels[7] + kernels[9] == 800
    assert abs(kernels[7] - 400) < 60
    assert len({base.stages[1].width for base in drawn}) > 400
    assert all(map(space.contains, drawn[:20]))


@pytest.mark.parametrize(("low", "high", "scale"), [(1.5, 4.0, "linear"), (0.01, 10, "log")])
def test_ranges_of_floats_are_drawn_within_their_ends(low: float, high: float, scale: str) -> None:
    log = scale == "log"
    axis = f"{{float: [{low}, {high}]{', log: true' if log else ''}}}"
    space = parse_space(TEXT + f"  ffn_ratio: {axis}\n")
    drawn = list(itertools.islice(bases_of(space).draws(np.random.default_rng(0)), 200))
    ratios = [base.stages[0].ffn_ratio for base in drawn]
    assert all(base.stages[1].ffn_ratio == base.stages[0].ffn_ratio for base in drawn)
    assert low <= min(ratios) < max(ratios) <= high
    middle = (low * high) ** 0.5 if log else (low + high) / 2
    assert abs(np.mean(np.array(ratios) < middle) - 0.5) < 0.12


def test_the_design_is_worked_out_once_for_a_space() -> None:
    space = parse_space(TEXT)
    assert design(space.plan) is design(space.plan)
    assert design(space.plan).active == frozenset(GUIDELINES)


def test_contexts_come_from_the_family_with_most_factors() -> None:
    families = load_space("families").bound(size=(28, 28), channels=1)
    drawn = itertools.islice(design(families.plan).bases.draws(np.random.default_rng(0)), 60)
    stems = Counter((base.block, base.stem.kind) for base in drawn)
    assert set(stems) == {("unireplknet", stem) for stem in ("unireplknet", "replknet", "patchify")}
