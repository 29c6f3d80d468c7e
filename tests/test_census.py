"""The census against brute force, on small random spaces and on spaces made to trip it."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from search_space.architecture import Architecture
from search_space.axes import text_key
from search_space.space import DesignSpace
from search_space.traits import below, undominated
from search_space.yaml_io import load_space, parse_space
from tests.random_spaces import assignments, made_by, random_space

SEEDS = range(60)
MOST = 800

TWO_STAGES = """
input: {channels: 1, size: 8}
stem: {stride: 2}
stages:
  - {depth: 1, width: 8, kernel: {choice: [3, 5]}, dilations: {choice: [none, [[3, 2]]]}}
  - {depth: {choice: [1, 2]}, width: {choice: [8, 16]}, kernel: 13, dilations: none}
shared:
  structure: {choice: [none, se]}
"""


def ids(space: DesignSpace) -> set[str]:
    return {a.id for raw in assignments(space, most=MOST) if (a := made_by(space, raw))}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_census_is_the_set_of_distinct_networks_of_all_assignments(seed: int) -> None:
    space = random_space(seed, most=MOST)
    listed = [network.id for network in space.census.all()]
    assert len(listed) == len(set(listed)) == space.count()
    assert set(listed) == ids(space)


def test_networks_are_counted_once_by_hand() -> None:
    # Stage 0, map of 4: 3x3, K = 5 plain, K = 5 with (3, 2). Stage 1: K = 13 is 3 on a map of 2.
    assert parse_space(TWO_STAGES).count() == 3 * (2 * 2) * 2


def test_a_space_of_fixed_values_has_one_network() -> None:
    text = "input: {channels: 3, size: 32}\nstages: [{depth: 1, width: 8, kernel: 7}]"
    assert parse_space(text).count() == 1


def test_counts_are_exact_integers_beyond_what_a_float_holds() -> None:
    stage = "{depth: {int: [1, 7]}, width: {int: [1, 16384]}, kernel: 3, ffn_ratio: {int: [1, 64]}}"
    text = f"input: {{channels: 3, size: 32}}\nstages: [{', '.join([stage] * 4)}]"
    space = parse_space(text)
    assert space.count() == (7 * 16384 * 64) ** 4
    assert isinstance(space.count(), int)
    assert space.contains(space.sample(np.random.default_rng(0)))


def test_an_axis_of_floats_makes_the_space_infinite() -> None:
    space = parse_space(TWO_STAGES + "  ffn_ratio: {float: [1, 4]}")
    assert space.count() == math.inf
    drawn = [space.sample(np.random.default_rng(seed)) for seed in range(20)]
    assert len({network.stages[0].ffn_ratio for network in drawn}) == 20
    for network in drawn:
        assert network.stages[0].ffn_ratio == network.stages[1].ffn_ratio
        assert 1 <= network.stages[0].ffn_ratio <= 4
        assert space.contains(network)


def test_the_order_of_networks_is_always_the_same() -> None:
    one, other = (parse_space(TWO_STAGES) for _ in range(2))
    assert [a.id for a in one.census.all()] == [a.id for a in other.census.all()]
    drawn = [[s.sample(np.random.default_rng(3)).id for _ in range(5)] for s in (one, other)]
    assert drawn[0] == drawn[1]


def test_even_draws_are_even_over_distinct_networks() -> None:
    # Chi-square with 23 degrees of freedom; 41.6 is its 99 per cent point. The seed is fixed.
    space, rng = parse_space(TWO_STAGES), np.random.default_rng(0)
    counts = Counter(space.sample(rng).id for _ in range(4800))
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 41.6


def test_even_draws_are_even_where_shared_assignments_overlap() -> None:
    space = parse_space("""
        input: {channels: 1, size: 16}
        block: {choice: [unireplknet, convnext]}
        stages:
          - {depth: {choice: [1, 2]}, width: 8, placement: {choice: [L, S]}}
          - {depth: 1, width: 8, kernel: 3}
        shared: {kernel: {choice: [3, 5, 7, 13]}, dilations: {choice: [none, [[5, 1]]]}}
        """)
    rng, size = np.random.default_rng(1), int(space.count())
    counts = Counter(space.sample(rng).id for _ in range(200 * size))
    assert len(counts) == size
    # Mean n - 1 and variance 2 (n - 1) of the chi-square distribution: three deviations.
    square = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert square < size - 1 + 3 * math.sqrt(2 * (size - 1))


def test_every_even_draw_is_a_canonical_member() -> None:
    space = load_space("default").bound(size=(28, 28), channels=1)
    rng = np.random.default_rng(0)
    for _ in range(200):
        network = space.sample(rng)
        assert network == network.canonical
        assert space.contains(network)


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_a_space_contains_its_networks_and_no_others(seed: int) -> None:
    space, other = random_space(seed, most=MOST), random_space(seed + 1, most=MOST)
    mine = {network.id: network for network in space.census.all()}
    others = {network.id: network for network in other.census.all()}
    assert all(space.contains(network) for network in mine.values())
    assert {i for i, network in others.items() if space.contains(network)} == others.keys() & mine


@pytest.mark.parametrize(
    "change",
    [
        {"size": (9, 9)},
        {"channels": 3},
        {"block": "convnext"},
        {"head": "norm_pool"},
        {"stages": ()},
    ],
)
def test_a_network_of_another_kind_is_no_member(change: dict[str, object]) -> None:
    space = parse_space(TWO_STAGES)
    network = next(space.census.all())
    plain = network.to_dict()
    assert space.contains(Architecture.from_dict(plain))
    fields = {name: getattr(network, name) for name in network.__dataclass_fields__}
    stages = change.get("stages", network.stages)
    other = Architecture(**{**fields, **change, "stages": stages})
    if stages == ():
        other = Architecture(**{**fields, "stages": network.stages[:1]})
    assert not space.contains(other)


def test_members_are_told_by_their_canonical_form() -> None:
    space = parse_space(TWO_STAGES)
    plain = next(space.census.all()).to_dict()
    plain["stages"][1]["kernel"] = 31
    assert space.contains(Architecture.from_dict(plain))


def test_pairs_that_cannot_exist_are_counted_and_never_made() -> None:
    space = parse_space("""
        input: {channels: 1, size: 32}
        stages:
          - {depth: 1, width: 8, kernel: {choice: [5, 7, 9]}, dilations: {choice: [none, [[5, 2]]]}}
        """)
    # A branch (5, 2) spans 9 pixels: not beside 5, not beside 7.
    assert space.census.impossible == 2
    assert space.count() == 4


@pytest.mark.parametrize(
    ("stages", "wasted"),
    [
        (
            "{depth: 1, width: 8, kernel: {choice: [7, 13, 31]}, dilations: paper}",
            # On a map of 4 pixels only 7 taps can touch one.
            ["stages[0].kernel: 13 makes only", "stages[0].kernel: 31 makes only"],
        ),
        (
            "{depth: 1, width: 8, kernel: 7, placement: {choice: [L, LS]}}",
            ["stages[0].placement: LS makes only"],
        ),
        (
            "{depth: 2, width: 8, kernel: 3, se_ratio: {choice: [2, 4]}, structure: none}",
            ["stages[0].se_ratio: 4 makes only"],
        ),
        (
            "{depth: 1, width: 8, kernel: 5, dilations: {choice: [none, [[5, 2]]]}}",
            ["stages[0].dilations: [[5,2]] can never be drawn"],
        ),
        ("{depth: {choice: [1, 2]}, width: 8, kernel: {choice: [3, 7]}}", []),
    ],
)
def test_choices_that_bring_nothing_are_named(stages: str, wasted: list[str]) -> None:
    text = f"input: {{channels: 1, size: 8}}\nstem: {{stride: 2}}\nstages: [{stages}]"
    lines = parse_space(text).census.wasted()
    assert len(lines) == len(wasted)
    assert all(line.startswith(start) for line, start in zip(lines, wasted, strict=True))


def test_wasted_choices_of_shared_and_network_axes_are_named() -> None:
    space = parse_space("""
        input: {channels: 1, size: 8}
        block: {choice: [unireplknet, slak]}
        stem: {stride: 2}
        stages: [{depth: 1, width: 8}, {depth: 1, width: 8}]
        shared: {kernel: {choice: [7, 9, 3]}, strip: {choice: [none, 9, 5]}}
        """)
    assert space.census.wasted() == [
        "shared.kernel: 9 makes only networks that the values before it make",
        "shared.strip: 9 makes only networks that the values before it make",
    ]


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_a_wasted_choice_can_go_and_leaves_the_same_networks(seed: int) -> None:
    space = random_space(seed, most=MOST)
    everything = ids(space)
    for line in space.census.wasted():
        name, _, rest = line.partition(": ")
        left = {
            network.id
            for raw in assignments(space, most=MOST)
            if not rest.startswith(f"{text_key(dict(raw)[name])} ")
            and (network := made_by(space, raw))
        }
        assert left == everything


def test_below_is_exact_for_numbers_of_any_length() -> None:
    rng = np.random.default_rng(0)
    huge = 3 * 10**30
    drawn = [below(rng, huge) for _ in range(300)]
    assert all(0 <= number < huge for number in drawn)
    assert 0.4 < sum(number > huge // 2 for number in drawn) / 300 < 0.6
    assert {below(rng, 3) for _ in range(50)} == {0, 1, 2}


def test_a_profile_that_another_covers_is_dropped_and_of_equals_the_first_stays() -> None:
    a, ab = frozenset({("a",)}), frozenset({("a",), ("b",)})
    assert undominated({0: (a, ab), 1: (ab, ab), 2: (ab, ab), 3: (ab, a)}) == {1}
    assert undominated({0: (a, ab), 1: (ab, a)}) == {0, 1}
    assert undominated({0: (frozenset(), frozenset()), 1: (a, a)}) == {1}
    assert undominated({}) == frozenset()


def test_thousands_of_shared_assignments_are_counted_and_searched_for_waste() -> None:
    # 15 kernels x 4 placements x 4 sets of branches x 20 depths, all shared.
    space = parse_space(
        "input: {channels: 1, size: 32}\nstem: {stride: 1}\nstages: [{width: 8}, {width: 8}]\n"
        "shared:\n  depth: {int: [1, 20]}\n  kernel: {int: [3, 31], step: 2}\n"
        "  placement: {choice: [L, LS, LSS, S]}\n"
        "  dilations: {choice: [none, paper, [[5, 1]], [[3, 2]]]}"
    )
    listed = {network.id for network in space.census.all()}
    assert len(listed) == space.count() == 3212
    # All of S is also what the 3x3 kernel makes.
    (wasted,) = space.census.wasted()
    assert wasted == "shared.placement: S makes only networks that the values before it make"
