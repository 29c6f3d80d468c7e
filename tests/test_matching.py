"""Equal MACs through the hidden width: near enough, no more change than needed, or none at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evaluators.cost import cost
from evaluators.matching import matched, with_hidden
from search_space.architecture import Architecture, Stage, Stem


def network(kernel: int, *, width: int = 24, depth: int = 2, **settings: object) -> Architecture:
    letter = "L" if kernel > 3 else "S"
    stages = tuple(
        Stage(depth=depth, width=width * (1 + i), kernel=kernel, placement=letter * depth)
        for i in range(2)
    )
    plain = Architecture(size=(32, 32), stem=Stem(stride=2), stages=stages)
    return replace(plain, **settings).canonical  # type: ignore[arg-type]


def measure(architecture: Architecture) -> dict[str, float]:
    return {"macs": cost(architecture, 10).macs_inference}


def macs(*networks: Architecture) -> list[float]:
    return [measure(one)["macs"] for one in networks]


@pytest.mark.parametrize("kernels", [(3, 13), (7, 9, 13), (13, 3, 5)])
def test_all_come_to_within_a_per_cent_below_the_largest(kernels: tuple[int, ...]) -> None:
    before = [network(kernel) for kernel in kernels]
    after = matched(before, measure)
    assert after is not None
    assert [one.stages[0].kernel for one in after] == list(kernels)
    assert after[kernels.index(13)] == network(13)
    assert 0.995 * macs(network(13))[0] <= min(macs(*after))
    assert max(macs(*after)) == macs(network(13))[0]


def test_ffns_of_all_stages_grow_by_one_factor() -> None:
    grown = matched([network(3), network(13)], measure)
    assert grown is not None
    growth = [
        after.ffn_width / before.ffn_width
        for after, before in zip(grown[0].built_stages, network(3).built_stages, strict=True)
    ]
    assert growth[0] > 1.1
    assert growth[0] == pytest.approx(growth[1], rel=0.02)


def test_networks_within_a_per_cent_stay_as_they_are() -> None:
    one = network(13)
    near = with_hidden(one, [stage.ffn_width - 1 for stage in one.built_stages])
    assert 0.99 < macs(near)[0] / macs(one)[0] < 1
    assert matched([near, one, near], measure) == [near, one, near]


def test_more_than_four_times_the_ffn_is_no_match() -> None:
    assert matched([network(3, width=8), network(31, width=8)], measure) is None


@pytest.mark.parametrize(("lacking", "hidden"), [(40, 20), (1000, None), (2000, 19)])
def test_a_unit_beyond_the_largest_is_taken_only_where_it_is_near(
    lacking: int, hidden: int | None
) -> None:
    stage = Stage(depth=1, width=4, kernel=3, placement="S", ffn_ratio=4)
    small = replace(network(3), stages=(stage,)).canonical
    scaled = replace(small, stages=(replace(small.stages[0], layer_scale=1),))
    large = with_hidden(scaled, [20])  # Another network of as many units.
    unit = macs(with_hidden(small, [17]))[0] - macs(small)[0]

    def measure_less(architecture: Architecture) -> dict[str, float]:
        less = lacking if architecture == large else 0
        return {"macs": measure(architecture)["macs"] - less}

    # One unit is more than twice a per cent: only one that just fits is near enough.
    assert unit == 2048 > 0.02 * macs(large)[0]
    found = matched([large, small], measure_less)
    assert (found is None) == (hidden is None)
    if found is not None:
        assert found[1].built_stages[0].ffn_width == hidden


def test_a_width_factor_multiplies_what_is_built() -> None:
    slak = {"block": "slak", "stem": Stem(kind="patchify", stride=2), "transition": "convnext"}
    small, large = (network(kernel, width_factor=1.3, **slak) for kernel in (3, 13))
    found = matched([small, large], measure)
    assert found is not None
    low, high = macs(*found)
    assert 0.995 * high <= low <= high
    assert found[0].built_stages[0].ffn_width > small.built_stages[0].ffn_width


def test_what_grows_is_canonical_and_a_whole_ratio_is_written_as_one() -> None:
    one = network(13)
    doubled = with_hidden(one, [2 * stage.ffn_width for stage in one.built_stages])
    assert [stage.ffn_ratio for stage in doubled.stages] == [8, 8]
    assert [stage.ffn_hidden for stage in doubled.stages] == [None, None]
    assert doubled == doubled.canonical
