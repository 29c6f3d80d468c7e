"""Contexts: members differ in the guidelines alone, cost the same, and come from the space."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.bases import design
from evaluators.compliance import compliance
from evaluators.contexts import (
    Context,
    count_contexts,
    draw_contexts,
    factors,
    members,
    sanity_pair,
)
from evaluators.cost import cost
from evaluators.protocol import GUIDELINES
from search_space.architecture import Architecture, Stage
from search_space.errors import SpaceError
from search_space.space import DesignSpace
from search_space.yaml_io import load_space, parse_space
from tests.random_spaces import EXAMPLE, random_space

FULL = list(itertools.product((0, 1), repeat=4))
EVEN = [levels for levels in FULL if sum(levels) % 2 == 0]

SMALL = """\
input: {channels: 1, size: 28}
stem: {stride: 2}
stages:
  - {depth: 2, width: 16, kernel: {choice: [3, 9]}}
  - {depth: 2, width: 32, kernel: 9, placement: {choice: [L, LS]}}
every_stage:
  dilations: {choice: [none, paper]}
shared:
  structure: {choice: [none, se]}
"""
"""All four factors, and one context."""

ONE_STAGE = """\
input: {channels: 1, size: 28}
stem: {stride: 2}
stages:
  - depth: {choice: [1, 2, 3]}
    width: {choice: [16, 24]}
    kernel: {choice: [3, 7, 9]}
    placement: {choice: [L, LS, LSS]}
    dilations: {choice: [none, paper]}
    structure: {choice: [none, bottleneck]}
"""


def measure(network: Architecture) -> Mapping[str, float]:
    counted = cost(network, 10)
    return {
        "params": counted.params_inference,
        "macs": counted.macs_inference,
        "activations": counted.activations,
        "depth": counted.depth,
    }


def shipped(name: str) -> DesignSpace:
    return load_space(name).bound(size=(28, 28), channels=1)


def drawn(space: DesignSpace, count: int, seed: int = 0) -> list[Context]:
    return draw_contexts(space, count, measure=measure, rng=np.random.default_rng(seed))


def present(space: DesignSpace) -> list[str]:
    return [factor.guideline for factor in factors(space) if factor.missing is None]


def macs(networks: list[Architecture]) -> list[float]:
    return [measure(network)["macs"] for network in networks]


def changed(one: Architecture, other: Architecture) -> set[str]:
    """Name what differs between two networks of one context, FFNs aside."""
    names = {
        f"{index}.{key}"
        for index, (a, b) in enumerate(zip(one.stages, other.stages, strict=True))
        for key in Stage.__dataclass_fields__
        if not key.startswith("ffn_") and getattr(a, key) != getattr(b, key)
    }
    assert replace(one, stages=()) == replace(other, stages=())
    return names


def check_block(context: Context, space: DesignSpace) -> None:
    """Check all that holds for the members of a context, at every combination of levels."""
    used = present(space)
    rows = [
        levels
        for levels in FULL
        if all(z or g in used for g, z in zip(GUIDELINES, levels, strict=True))
    ]
    networks = dict(zip(rows, members(context, rows, space, measure=measure), strict=True))
    assert len({network.id for network in networks.values()}) == 2 ** len(used)
    found = macs(list(networks.values()))
    assert min(found) >= 0.99 * max(found)
    unmatched = (
        design(space.plan)
        .bases.moves(context.base)
        .networks(context.base, design(space.plan).active)
    )
    assert unmatched is not None
    for levels, network in networks.items():
        assert network == network.canonical
        assert space.contains(unmatched[levels])
        assert changed(network, unmatched[levels]) == set()
        for mine, before in zip(network.built_stages, unmatched[levels].built_stages, strict=True):
            assert before.ffn_width <= mine.ffn_width <= 4 * before.ffn_width
        for place, guideline in enumerate(GUIDELINES):
            if levels[place] == 1 and guideline in used:
                against = networks[(*levels[:place], 0, *levels[place + 1 :])]
                check_pair(guideline, against, network)


KEYS = {
    "g1": {"structure", "se_ratio"},
    "g2": {"dilations"},
    "g3": {"kernel", "placement", "dilations", "small_kernel", "strip"},
    "g4": {"placement"},
}


def check_pair(guideline: str, against: Architecture, follows: Architecture) -> None:
    """Check two networks that differ in one factor, by the words of the guideline."""
    names = changed(against, follows)
    assert {name.split(".")[1] for name in names} <= KEYS[guideline]
    touched = {int(name.split(".")[0]) for name in names}
    assert touched
    for index in touched:
        before, after = against.stages[index], follows.stages[index]
        if guideline == "g1":
            assert (before.structure, after.structure != "none") == ("none", True)
        elif guideline == "g2":
            assert before.dilations == ()
            assert any(r > 1 for _, r in after.dilations)
        elif guideline == "g3":
            assert index == 0
            assert before.kernel >= 7
            assert before.placement[0] == "L"
            assert after.kernels == (3,) * after.depth
            assert any(max(stage.kernels) >= 7 for stage in follows.stages[1:])
        else:
            assert before.kernels == (before.kernel,) * before.depth
            assert before.kernel >= 7
            assert after.placement[0] == "L"
            assert "S" in after.placement


@pytest.mark.parametrize("name", ["default", "families"])
def test_blocks_of_the_shipped_spaces_have_all_four_factors(name: str) -> None:
    space = shipped(name)
    assert present(space) == list(GUIDELINES)
    contexts = drawn(space, 6)
    assert len(contexts) == 6
    for context in contexts:
        assert context.base.block == "unireplknet"
        assert context.kernel == context.base.stages[0].kernel
        check_block(context, space)


@pytest.mark.parametrize("text", [EXAMPLE, SMALL, ONE_STAGE])
def test_blocks_of_other_spaces(text: str) -> None:
    space = parse_space(text)
    for context in drawn(space, 4):
        check_block(context, space)


@settings(max_examples=40)
@given(st.integers(0, 400))
def test_blocks_of_random_spaces(seed: int) -> None:
    space = random_space(seed, most=300)
    contexts = drawn(space, 2, seed)
    assert bool(present(space)) or not contexts
    for context in contexts:
        check_block(context, space)


def test_compliance_rises_with_every_factor() -> None:
    space = load_space("default").bound(size=(64, 64), channels=3)
    (context, *_) = drawn(space, 1)
    neither, s1, s2 = members(
        context, [(0, 0, 1, 1), (1, 0, 1, 1), (0, 1, 1, 1)], space, measure=measure
    )
    assert compliance(neither).s1 == compliance(neither).s2 == 0
    assert compliance(s1).s1 == compliance(s2).s2 == 1
    small, large = members(context, [(1, 1, 1, 1), (1, 1, 0, 1)], space, measure=measure)
    first, second = (compliance(network, head="all").s3 for network in (large, small))
    assert first is not None
    assert second is not None
    assert first < second


def test_a_member_is_the_same_in_every_block_and_lies_inside_where_it_did_not_grow() -> None:
    space = shipped("default")
    for context in drawn(space, 3):
        half = members(context, EVEN, space, measure=measure)
        full = members(context, FULL, space, measure=measure)
        assert half == [full[FULL.index(levels)] for levels in EVEN]
        (largest,) = members(context, [(1, 1, 0, 0)], space, measure=measure)
        assert space.contains(largest)
        grown = [n for n in full if any(stage.ffn_hidden is not None for stage in n.stages)]
        assert grown
        assert not any(map(space.contains, grown))


def test_the_level_of_a_guideline_that_cannot_be_tested_is_ignored() -> None:
    space = parse_space(ONE_STAGE)
    assert present(space) == ["g1", "g2", "g4"]
    (context, *_) = drawn(space, 1)
    one, other = members(context, [(1, 1, 0, 1), (1, 1, 1, 1)], space, measure=measure)
    assert one == other


def test_contexts_are_distinct_of_all_sizes_and_the_same_for_the_same_seed() -> None:
    space = shipped("default")
    contexts = drawn(space, 9)
    assert drawn(space, 2) == drawn(space, 2) != drawn(space, 2, seed=1)
    # What is left of a context where stage 1 holds 3x3 blocks tells it from any other.
    plain = members_of(contexts, (0, 0, 1, 0), space)
    assert len({network.id for network in plain}) == 9
    sizes = macs(members_of(contexts, (1, 1, 0, 0), space))
    thirds = [np.mean(sizes[start::3]) for start in range(3)]
    assert thirds == sorted(thirds)
    assert len({context.kernel for context in contexts}) > 2
    assert all(max(sizes[0::3]) <= size for size in sizes[2::3])


def members_of(
    contexts: list[Context], levels: tuple[int, ...], space: DesignSpace
) -> list[Architecture]:
    return [members(one, [levels], space, measure=measure)[0] for one in contexts]


def test_a_space_of_one_context_gives_one_and_says_so() -> None:
    space = parse_space(SMALL)
    assert count_contexts(space, measure=measure) == 1
    assert len(drawn(space, 5)) == 1
    # Another kernel of stage 1 is a level of the same context.
    more = parse_space(SMALL.replace("[3, 9]", "[3, 7, 9, 11]"))
    assert count_contexts(more, measure=measure) == 1
    wider = parse_space(SMALL.replace("width: 16", "width: {choice: [16, 24, 32]}"))
    assert count_contexts(wider, measure=measure) == 3
    assert count_contexts(wider, measure=measure, most=2) == 2
    assert len(drawn(wider, 5)) == 3


def test_a_space_without_any_factor_has_no_context() -> None:
    space = load_space("convnext_t")
    assert all(factor.missing for factor in factors(space))
    assert drawn(space, 3) == []
    assert count_contexts(space, measure=measure) == 0


def test_every_member_meets_the_constraints() -> None:
    limits = {"macs": (1.2e6, 1.6e6), "params": (20e3, 90e3)}
    bounds = ", ".join(f"{key}: {{min: {low}, max: {high}}}" for key, (low, high) in limits.items())
    text = load_text("default") + f"\nconstraints: {{{bounds}}}\n"
    space = parse_space(text).bound(size=(28, 28), channels=1)
    contexts = drawn(space, 4)
    assert len(contexts) == 4
    for context in contexts:
        for network in members(context, FULL, space, measure=measure):
            for key, (low, high) in limits.items():
                assert low <= measure(network)[key] <= high


def test_a_constraint_that_no_context_meets_leaves_none() -> None:
    space = parse_space(SMALL + "\nconstraints: {macs: {max: 1000}}\n")
    assert drawn(space, 4) == []


def test_a_constraint_on_what_is_not_measured_holds_no_context_back() -> None:
    space = parse_space(SMALL + "\nconstraints: {latency_ms: {max: 0.001}}\n")
    assert len(drawn(space, 4)) == 1
    slow = draw_contexts(
        space,
        4,
        measure=lambda network: {**measure(network), "latency_ms": 1.0},
        rng=np.random.default_rng(0),
    )
    assert slow == []


def load_text(name: str) -> str:
    return (files("search_space") / "spaces" / f"{name}.yaml").read_text("utf-8")


def test_a_context_reads_back_from_json() -> None:
    for space in (shipped("default"), parse_space(SMALL)):
        (context, *_) = drawn(space, 1)
        again = Context.from_dict(json.loads(json.dumps(context.to_dict())))
        assert again == context
        assert members(again, EVEN, space, measure=measure) == members(
            context, EVEN, space, measure=measure
        )


def test_a_context_of_another_space_is_refused() -> None:
    (context, *_) = drawn(shipped("default"), 1)
    space = parse_space(SMALL)
    with pytest.raises(SpaceError, match=r"a context must be one that this space draws, got one"):
        members(context, EVEN, space, measure=measure)


@pytest.mark.parametrize("text", [EXAMPLE, SMALL, ONE_STAGE, "default"])
def test_the_sanity_pair_differs_in_its_kernels_and_costs_the_same(text: str) -> None:
    space = shipped(text) if text == "default" else parse_space(text)
    for context in drawn(space, 3):
        large, small = sanity_pair(context, space, measure=measure)
        low, high = sorted(macs([large, small]))
        assert low >= 0.99 * high
        assert max(k for stage in small.stages for k in stage.kernels) == 3
        assert max(large.stages[-1].kernels) >= 7
        assert {name.split(".")[1] for name in changed(large, small)} <= KEYS["g3"]
        follows = compliance(large)
        assert follows.s1 == pytest.approx(0.8 if text == ONE_STAGE else 1)
        assert follows.s2 == 1


def test_the_sanity_pair_takes_the_largest_kernels_of_the_later_stages() -> None:
    space = shipped("default")
    pairs = [sanity_pair(context, space, measure=measure) for context in drawn(space, 4)]
    assert Counter(large.stages[1].kernel for large, _ in pairs) == {13: 4}
    assert {large.stages[0].kernel for large, _ in pairs} == {3}


def test_the_sanity_pair_of_a_space_without_3x3_lies_outside_or_takes_the_smallest() -> None:
    text = SMALL.replace("kernel: 9,", "kernel: {choice: [5, 9]},")
    space = parse_space(text)
    (context, *_) = drawn(space, 1)
    _, small = sanity_pair(context, space, measure=measure)
    assert [stage.kernel for stage in small.stages] == [3, 5]
    space = parse_space(SMALL)
    (context, *_) = drawn(space, 1)
    _, small = sanity_pair(context, space, measure=measure)
    assert [stage.kernel for stage in small.stages] == [3, 3]


def test_a_space_without_large_kernels_has_no_sanity_pair() -> None:
    space = parse_space(SMALL.replace("kernel: 9", "kernel: 5").replace("[3, 9]", "[3, 5]"))
    assert present(space) == ["g1"]
    (context, *_) = drawn(space, 3)
    with pytest.raises(SpaceError, match=r"kernel: must be 7 or more in some network"):
        sanity_pair(context, space, measure=measure)


def test_dense_networks_have_contexts_too() -> None:
    space = shipped("default").for_task("segmentation")
    contexts = drawn(space, 4)
    assert {context.base.task for context in contexts} == {"segmentation"}
    for context in contexts:
        check_block(context, space)


def test_ranges_of_floats_are_drawn_and_kept_within_a_context() -> None:
    text = SMALL + "  ffn_ratio: {float: [1.5, 4]}\n"
    space = parse_space(text)
    contexts = drawn(space, 6)
    assert len(contexts) == 6
    ratios = {stage.ffn_ratio for context in contexts for stage in context.base.stages}
    assert len(ratios) == 6
    for context in contexts:
        check_block(context, space)
