"""The canonical form and the id: one for every effective network, and never changed by accident."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space.architecture import (
    PAPER_BRANCHES,
    Architecture,
    Stage,
    Stem,
    cropped_branches,
    cropped_kernel,
    paper_branches,
)
from search_space.families import FAMILIES
from search_space.yaml_io import load_architecture, load_space
from tests.random_spaces import random_space

GOLDEN = Architecture(
    size=(28, 28),
    channels=1,
    stem=Stem(stride=2),
    stages=(
        Stage(depth=1, width=8, placement="S"),
        Stage(
            depth=2,
            width=16,
            kernel=13,
            placement="LS",
            dilations=((3, 3), (3, 4), (3, 5), (5, 1), (7, 2)),
            structure="se",
            ffn_ratio=2,
        ),
    ),
)

GOLDEN_JSON = (
    '{"block":"unireplknet","head":"pool_norm","input":{"channels":1,"size":[28,28]},"stages":['
    '{"depth":1,"ffn_ratio":4,"kernel":3,"layer_scale":"none","placement":"S",'
    '"structure":"none","width":8},'
    '{"depth":2,"dilations":[[3,3],[3,4],[3,5],[5,1],[7,2]],"ffn_ratio":2,"kernel":13,'
    '"layer_scale":"none","placement":"LS","se_ratio":4,"structure":"se","width":16}],'
    '"stem":{"kind":"unireplknet","stride":2},"transition":"unireplknet"}'
)


def one_stage(**changes: object) -> Architecture:
    """Give a network of one stage on a map of 16 pixels."""
    plain: dict[str, object] = {"depth": 2, "width": 8, "kernel": 7, "placement": "LL"}
    stage = Stage(**{**plain, **changes})  # type: ignore[arg-type]
    return Architecture(size=(16, 16), stem=Stem(stride=1), stages=(stage,))


def test_the_canonical_json_and_its_id_are_frozen() -> None:
    # Records of runs are keyed by these: a change here makes every old run unreadable.
    assert GOLDEN.to_json() == GOLDEN_JSON
    assert GOLDEN.id == "65a7f15fc3bb"
    assert hashlib.sha256(GOLDEN_JSON.encode()).hexdigest().startswith("65a7f15fc3bb")
    assert load_architecture("unireplknet_a").id == "f826c9aa0207"
    assert load_architecture("unireplknet_t").id == "84b7f40aaa43"


@pytest.mark.parametrize("name", ["unireplknet_a", "unireplknet_s", "unireplknet_xl"])
def test_published_networks_have_no_dead_taps_at_224(name: str) -> None:
    network = load_architecture(name)
    assert network.dead_taps == 0
    assert network.canonical == network


def test_an_id_is_twelve_hex_digits() -> None:
    assert len(GOLDEN.id) == 12
    assert int(GOLDEN.id, 16) > 0


@pytest.mark.parametrize("seed", range(12))
def test_json_gives_every_drawn_network_back(seed: int) -> None:
    for network in random_space(seed, most=200).census.all():
        again = Architecture.from_json(network.to_json())
        assert again == network
        assert again.to_json() == network.to_json()
        assert again.id == network.id
        assert Architecture.from_dict(network.to_dict()) == network


@pytest.mark.parametrize("seed", range(12))
def test_distinct_ids_are_distinct_canonical_json(seed: int) -> None:
    networks = list(random_space(seed, most=200).census.all())
    assert len({network.to_json() for network in networks}) == len(networks)


def test_json_of_a_network_as_written_keeps_its_dead_taps() -> None:
    written = one_stage(kernel=51)
    again = Architecture.from_json(written.to_json())
    assert again.stages[0].kernel == 51
    assert again == written
    assert again.id == written.id


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"input":{}}', '{"depth":1}'])
def test_damaged_json_is_a_plain_error(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Architecture.from_json(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"ffn_ratio": 4}, {"ffn_ratio": 4.0}),
        ({"layer_scale": 1}, {"layer_scale": 1.0}),
        ({"kernel": 31}, {"kernel": 51}),  # both 31 on 16 pixels
        ({"se_ratio": 4}, {"se_ratio": 8}),  # without SE
        ({"kernel": 3}, {"placement": "SS"}),
        ({"kernel": 3}, {"kernel": 3, "dilations": ((3, 1),)}),
        ({"kernel": 9, "placement": "SS"}, {"kernel": 13, "placement": "SS"}),
        ({"placement": "SS", "dilations": ((5, 1),)}, {"placement": "SS"}),
        ({"dilations": ((5, 1), (3, 2))}, {"dilations": ((3, 2), (5, 1))}),
        ({"small_kernel": 5}, {}),  # of another family
        ({"dw_ratio": 1.5}, {}),
        ({"strip": 5}, {}),
    ],
)
def test_what_has_no_effect_does_not_change_the_id(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert one_stage(**one).id == one_stage(**other).id


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": 9},
        {"width": 16},
        {"depth": 1, "placement": "L"},
        {"placement": "LS"},
        {"placement": "SL"},
        {"dilations": ((5, 1),)},
        {"structure": "se"},
        {"structure": "bottleneck"},
        {"ffn_ratio": 2},
        {"layer_scale": 1e-6},
    ],
)
def test_what_has_an_effect_changes_the_id(change: dict[str, object]) -> None:
    assert one_stage(**change).id != one_stage().id


def test_the_order_of_paper_branches_does_not_hide_that_they_are_those_of_the_paper() -> None:
    # On 4 pixels 13 becomes 7, and `paper` is looked up for 7.
    stage = GOLDEN.stages[1]
    for branches in (stage.dilations, stage.dilations[::-1]):
        small = replace(GOLDEN, size=(4, 4), stages=(replace(stage, dilations=branches),))
        small = replace(small, stem=Stem(stride=1))
        assert small.canonical.stages[0].kernel == 7
        assert small.canonical.stages[0].dilations == ((3, 2), (3, 3), (5, 1))


def test_classes_are_no_part_of_a_network_but_size_and_channels_are() -> None:
    ids = {GOLDEN.id, replace(GOLDEN, size=(28, 32)).id, replace(GOLDEN, channels=3).id}
    assert len(ids) == 3
    assert "classes" not in GOLDEN.to_json()


def test_settings_of_another_family_change_nothing() -> None:
    slak = {"width_factor": 1.3, "weights_sparsity": 0.4}
    assert replace(GOLDEN, **slak).id == GOLDEN.id  # type: ignore[arg-type]
    convnext = replace(GOLDEN, block="convnext")
    plain = replace(convnext.stages[1], dilations=(), structure="none")
    assert convnext.id == replace(convnext, stages=(convnext.stages[0], plain)).id


@pytest.mark.parametrize("strip", [5, None])
def test_strips_and_sparsity_are_settings_of_slak(strip: int | None) -> None:
    stage = Stage(depth=1, width=8, kernel=51, placement="L", strip=strip)
    network = Architecture(size=(224, 224), block="slak", stem=Stem(), stages=(stage,))
    assert replace(network, weights_sparsity=0.4).id != network.id
    assert network.canonical.stages[0].strip == strip
    assert network.to_dict()["stages"][0]["strip"] == (strip or "none")
    assert Architecture.from_json(network.to_json()).id == network.id


def test_the_canonical_form_is_its_own() -> None:
    written = one_stage(kernel=51, dilations=((5, 20), (3, 1)))
    assert written.canonical.canonical == written.canonical
    assert written.canonical.id == written.id


@pytest.mark.parametrize(
    ("kernel", "side", "cropped"),
    [(13, 7, 13), (13, 6, 11), (31, 7, 13), (31, 14, 27), (5, 2, 3), (151, 1, 3), (3, 1, 3)],
)
def test_a_kernel_is_cropped_to_the_taps_that_touch_the_map(
    kernel: int, side: int, cropped: int
) -> None:
    assert cropped_kernel(kernel, side) == cropped


@pytest.mark.parametrize(
    ("branch", "side", "cropped"),
    [
        ((5, 1), 7, (5, 1)),
        ((5, 3), 7, (5, 3)),  # offsets 3 and 6: the map's edge
        ((5, 4), 7, (3, 4)),  # offset 8 is beyond
        ((3, 7), 7, (1, 1)),  # the tap in the middle is left
        ((7, 2), 4, (3, 2)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_branch_taps_beyond_the_map_are_dropped(
    branch: tuple[int, int], side: int, cropped: tuple[int, int]
) -> None:
    assert cropped_branches([branch], side) == (cropped,)


def test_a_branch_with_one_tap_left_still_counts_as_a_branch() -> None:
    branches = {"kernel": 31, "dilations": ((3, 15),)}
    small = replace(one_stage(**branches), size=(15, 15))
    assert small.canonical.stages[0].dilations == ((1, 1),)
    assert small.id != replace(one_stage(kernel=31), size=(15, 15)).id


@pytest.mark.parametrize(
    ("size", "kernels"),
    [((16, 16), 31), ((8, 16), 31), ((16, 8), 31), ((8, 8), 15)],
)
def test_the_longer_side_of_a_map_decides(size: tuple[int, int], kernels: int) -> None:
    assert replace(one_stage(kernel=51), size=size).canonical.stages[0].kernel == kernels


def test_the_paper_table_is_that_of_the_official_code() -> None:
    # UniRepLKNet, arXiv 2311.15599, and unireplknet.py; the offsets lie inside the kernel.
    assert paper_branches(13) == ((3, 3), (3, 4), (3, 5), (5, 1), (7, 2))
    assert paper_branches(9) == ((3, 3), (3, 4), (5, 1), (5, 2))
    assert paper_branches(3) == ()
    assert set(PAPER_BRANCHES) == {5, 7, 9, 11, 13, 15, 17}


def test_the_table_goes_on_above_17_as_the_contract_says() -> None:
    assert paper_branches(19) == ((3, 4), (3, 6), (3, 7), (5, 1), (9, 2))
    assert paper_branches(31) == ((3, 7), (3, 10), (3, 13), (5, 1), (15, 2))
    assert paper_branches(51) == ((3, 12), (3, 16), (3, 21), (5, 1), (25, 2))


@pytest.mark.parametrize("kernel", range(5, 152, 2))
def test_paper_branches_lie_inside_their_kernel_and_are_sorted(kernel: int) -> None:
    branches = paper_branches(kernel)
    assert list(branches) == sorted(branches)
    assert all(k % 2 == 1 and (k - 1) * r + 1 <= kernel for k, r in branches)


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({"kernel": 31}, 0),
        ({"kernel": 33}, 2 * (33**2 - 31**2)),
        ({"kernel": 33, "placement": "LS"}, 33**2 - 31**2),
        ({"kernel": 51, "placement": "SS"}, 0),
        # (5, 8): offsets 8 and 16; 16 is beyond 15, so 9 of 25 taps live.
        ({"kernel": 33, "dilations": ((5, 8),)}, 2 * (33**2 - 31**2 + 25 - 9)),
    ],
)
def test_dead_taps_are_those_beyond_the_map(changes: dict[str, object], dead: int) -> None:
    assert one_stage(**changes).dead_taps == dead


def test_a_3x3_on_one_pixel_has_eight_dead_taps() -> None:
    stage = Stage(depth=1, width=8, placement="S")
    assert Architecture(size=(1, 1), stem=Stem(stride=1), stages=(stage,)).dead_taps == 8


def test_dead_taps_of_strips_and_small_kernels_count() -> None:
    stage = Stage(depth=1, width=8, kernel=9, placement="L", strip=5)
    network = Architecture(size=(4, 4), block="slak", stem=Stem(stride=1), stages=(stage,))
    # Two strips of 9 x 5, of which 7 x 5 live.
    assert network.dead_taps == 2 * (9 * 5 - 7 * 5)
    stage = replace(stage, strip=None, small_kernel=5)
    network = Architecture(size=(2, 2), block="replknet", stem=Stem(stride=1), stages=(stage,))
    assert network.dead_taps == (81 - 9) + (25 - 9)


def test_kernels_of_blocks_follow_the_placement() -> None:
    assert GOLDEN.stages[1].kernels == (13, 3)
    assert GOLDEN.depth == 3
    assert GOLDEN.stages[1].ffn_width == 32
    assert GOLDEN.maps == ((14, 14), (7, 7))


def test_a_pointwise_pair_has_at_least_one_hidden_channel() -> None:
    assert Stage(depth=1, width=8, placement="S", ffn_ratio=0.01).ffn_width == 1
    assert Stage(depth=1, width=9, placement="S", ffn_ratio=3.5).ffn_width == 31


@st.composite
def networks_with_hidden_widths(draw: st.DrawFn) -> Architecture:
    """Draw a network of any family whose stages name hidden widths, or leave them to the ratio."""
    block = draw(st.sampled_from(sorted(FAMILIES)))
    stages = tuple(
        Stage(
            depth=1,
            width=draw(st.integers(1, 40)),
            placement="S",
            ffn_ratio=draw(st.sampled_from([0.01, 1, 1.5, 2, 3.3, 4, 4.0])),
            ffn_hidden=draw(st.none() | st.integers(1, 170)),
        )
        for _ in range(draw(st.integers(1, 3)))
    )
    factor = draw(st.sampled_from([1, 1.3, 0.7])) if block == "slak" else 1
    return Architecture(
        size=(16, 16), block=block, stem=Stem(stride=1), width_factor=factor, stages=stages
    )


@given(networks_with_hidden_widths())
def test_a_hidden_width_is_kept_and_written_in_one_way(network: Architecture) -> None:
    canonical = network.canonical
    assert canonical.canonical == canonical
    assert canonical.id == network.id
    for built, written, stage in zip(
        network.built_stages, network.stages, canonical.stages, strict=True
    ):
        if written.ffn_hidden is not None:
            assert built.ffn_width == written.ffn_hidden
        if stage.ffn_hidden is not None:
            assert stage.ffn_ratio == 4
            assert stage.ffn_hidden % built.width > 0
    assert [s.ffn_width for s in canonical.built_stages] == [
        s.ffn_width for s in network.built_stages
    ]
    for form in (network, canonical):
        assert Architecture.from_json(form.to_json()) == form
        assert [s.get("ffn_hidden") for s in form.to_dict()["stages"]] == [
            s.ffn_hidden for s in form.stages
        ]


@given(networks_with_hidden_widths(), st.integers(1, 4), st.sampled_from([1, 2, 4]))
def test_what_a_ratio_gives_has_the_id_of_the_ratio(
    network: Architecture, whole: int, beside: float
) -> None:
    by_ratio = replace(
        network,
        stages=tuple(replace(s, ffn_ratio=whole, ffn_hidden=None) for s in network.stages),
    )
    named = tuple(
        replace(stage, ffn_ratio=beside, ffn_hidden=whole * width)
        for stage, width in zip(network.stages, network.widths, strict=True)
    )
    assert replace(network, stages=named).id == by_ratio.id
    assert "ffn_hidden" not in replace(network, stages=named).canonical.to_json()


def test_a_hidden_width_that_the_ratio_gives_leaves_the_ratio() -> None:
    assert one_stage(ffn_ratio=2.5, ffn_hidden=20).id == one_stage(ffn_ratio=2.5).id
    assert one_stage(ffn_ratio=2.5, ffn_hidden=21).id == one_stage(ffn_hidden=21).id
    assert one_stage(ffn_hidden=21).id != one_stage(ffn_hidden=22).id


def test_the_hidden_width_of_slak_is_as_built() -> None:
    stage = Stage(depth=1, width=10, placement="S", ffn_hidden=52)
    network = Architecture(size=(8, 8), block="slak", stem=Stem(stride=1), stages=(stage,))
    assert network.canonical.stages[0].ffn_hidden == 52
    wide = replace(network, width_factor=1.3)
    assert wide.widths == (13,)
    assert wide.built_stages[0].ffn_width == 52
    assert wide.canonical.stages[0].ffn_hidden is None  # 4 x 13


def test_the_head_tells_the_task() -> None:
    assert GOLDEN.task == "classification"
    assert replace(GOLDEN, head="norm_pool").task == "classification"
    assert replace(GOLDEN, head="dense").task == "segmentation"
    assert replace(GOLDEN, head="dense").id != GOLDEN.id


def test_to_dict_holds_plain_values_and_only_keys_that_act() -> None:
    plain = GOLDEN.to_dict()
    assert plain == json.loads(json.dumps(plain))
    assert "dilations" not in plain["stages"][0]
    assert "se_ratio" not in plain["stages"][0]
    assert "small_kernel" not in plain["stages"][1]
    assert "weights_sparsity" not in plain


def test_every_network_of_the_shipped_space_has_an_id_of_its_own() -> None:
    space = load_space("tiny").bound(size=(28, 28), channels=1)
    networks = list(space.census.all())
    assert len({network.id for network in networks}) == len(networks) == space.count()
