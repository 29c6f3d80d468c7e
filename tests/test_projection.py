from __future__ import annotations

from dataclasses import replace

import pytest

from search_space.architecture import Architecture
from search_space.projection import Projection, Scale
from search_space.published import published_networks
from search_space.space import DesignSpace
from search_space.yaml_io import load_space, parse_space

NETWORKS = {network.name: network.architecture for network in published_networks()}

MIXED = """\
name: mixed
block: {choice: [unireplknet, replknet, slak]}
stem: {stride: {choice: [1, 2]}}
stages:
  - {depth: {choice: [1, 2]}, width: {choice: [8, 16, 32]}, kernel: {choice: [3, 7, 31]}}
  - depth: {choice: [2, 4]}
    width: {choice: [16, 32, 64]}
    kernel: {choice: [3, 7, 13, 51]}
    placement: {choice: [L, LS, LSS]}
shared:
  structure: {choice: [none, se]}
  small_kernel: {choice: [none, 3, 5]}
  layer_scale: {float: [1e-5, 1.0], log: true}
"""


def projection(text: str, side: int = 32) -> Projection:
    space = parse_space(text).bound(size=(side, side), channels=3)
    return Projection(space, list(NETWORKS.values()))


def nearest(name: str, text: str = MIXED, side: int = 32) -> Architecture:
    return projection(text, side).nearest(NETWORKS[name])


def spaces() -> list[DesignSpace]:
    return [
        load_space("default").bound(size=(28, 28), channels=1),
        load_space("tiny").bound(size=(28, 28), channels=1),
        parse_space(MIXED).bound(size=(32, 32), channels=3),
        parse_space(MIXED).bound(size=(4, 4), channels=3),
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_in_its_own_space_a_network_is_itself(name: str) -> None:
    own = Projection(load_space(name), list(NETWORKS.values()))
    assert own.nearest(NETWORKS[name]).id == NETWORKS[name].id


@pytest.mark.parametrize("index", range(4))
def test_what_is_found_is_a_canonical_network_of_the_space(index: int) -> None:
    space = spaces()[index]
    made = Projection(space, list(NETWORKS.values()))
    found = [made.nearest(net) for net in NETWORKS.values() if made.misfit(net) is None]
    assert len(found) >= 26
    assert all(space.contains(network) and network == network.canonical for network in found)


def test_a_network_fits_where_the_space_has_its_block_stem_transition_and_head() -> None:
    mixed = projection(MIXED)
    assert mixed.misfit(NETWORKS["replknet_xl"]) is None
    assert mixed.misfit(NETWORKS["convnext_t"]) == "block convnext"
    for line, name, said in (
        ("stem: {kind: unireplknet}", "replknet_31b", "stem replknet"),
        ("transition: convnext", "unireplknet_t", "transition unireplknet"),
        ("head: pool_norm", "replknet_31b", "head norm_pool"),
    ):
        other = projection(MIXED.replace("stem: {stride: {choice: [1, 2]}}", line))
        assert other.misfit(NETWORKS[name]) == said
    assert other.misfit(NETWORKS["slak_t"]) is None


def test_kernels_are_compared_as_they_are_built_on_the_maps_of_the_space() -> None:
    # Maps of 16 and 8 pixels, where 31 and 15 are the most that acts: 51 stands for 15 there.
    assert [s.kernel for s in nearest("replknet_31b").stages] == [31, 15]
    assert [s.kernel for s in nearest("unireplknet_t").stages] == [3, 13]
    assert [s.kernel for s in nearest("replknet_b_7").stages] == [7, 7]
    assert [s.kernel for s in nearest("unireplknet_ablation_kernel_3_11_11_11").stages] == [3, 13]


def test_the_stride_and_whatever_else_a_stage_has_become_the_nearest() -> None:
    found = nearest("unireplknet_s")
    assert found.stem.stride == 2
    assert [stage.structure for stage in found.stages] == ["se", "se"]
    assert [stage.layer_scale for stage in found.stages] == [1e-5, 1e-5]
    assert found.stages[1].placement == "LSSL"
    assert found.stages[1].dilations == ((3, 3), (3, 4), (3, 5), (5, 1), (7, 2))
    assert [stage.small_kernel for stage in nearest("replknet_31b").stages] == [5, 5]
    assert [stage.small_kernel for stage in nearest("replknet_xl").stages] == [None, None]
    assert nearest("slak_t").stages[1].strip == 5


def test_a_structure_that_the_space_lacks_becomes_none() -> None:
    found = nearest("unireplknet_ablation_bottleneck")
    assert [stage.structure for stage in found.stages] == ["none", "none"]


def test_branches_are_looked_for_beside_the_kernel_that_is_built() -> None:
    text = (
        "block: unireplknet\nstages:\n"
        "  - {depth: 1, width: 8, kernel: {choice: [7, 13]},"
        " dilations: {choice: [none, paper, [[5, 1], [7, 1]]]}}\n"
    )
    found = {name: nearest(name, text, 64).stages[0] for name in NETWORKS if name[0] == "u"}
    assert found["unireplknet_t"].dilations == ((3, 3), (3, 4), (3, 5), (5, 1), (7, 2))
    assert found["unireplknet_ablation_reparam_none"].dilations == ()
    assert found["unireplknet_ablation_reparam_sizes"].dilations == ((5, 1), (7, 1))


def test_small_widths_and_depths_keep_the_order_of_the_published_ones() -> None:
    names = [f"unireplknet_{letter}" for letter in ("a", "p", "s", "xl")]
    found = [nearest(name) for name in names]
    assert [network.widths for network in found] == [(8, 16), (16, 32), (16, 32), (32, 64)]
    assert [network.stages[1].depth for network in found] == [2, 2, 4, 4]


def test_widths_that_the_space_has_stay_as_they_are() -> None:
    text = (
        "stages:\n"
        "  - {depth: 3, width: {choice: [40, 80, 96, 256]}, kernel: 3}\n"
        "  - {depth: 9, width: {choice: [160, 320, 384, 1024]}, kernel: 13}\n"
    )
    for name, widths in (
        ("unireplknet_a", (40, 160)),
        ("unireplknet_t", (80, 320)),
        ("unireplknet_s", (96, 384)),
        ("unireplknet_l", (256, 1024)),
    ):
        assert nearest(name, text, 224).widths == widths


def test_a_width_factor_is_reckoned_with() -> None:
    text = (
        "block: slak\nwidth_factor: {choice: [1, 1.3]}\n"
        "stages:\n  - {depth: 9, width: {choice: [384, 499, 512, 666]}, kernel: 47}\n"
    )
    found = nearest("slak_t", text, 224)
    assert found.width_factor == 1.3
    assert found.widths == (499,)
    fixed = text.replace("{choice: [1, 1.3]}", "1")
    assert nearest("slak_t", fixed, 224).widths == (499,)


def test_a_scale_keeps_the_ends_and_the_logarithm_between() -> None:
    scale = Scale(published=(40, 160), own=(8, 32), kept=False)
    assert [scale.scaled(number) for number in (40, 80, 160)] == pytest.approx([8, 16, 32])
    assert Scale(published=(9, 9), own=(1, 2), kept=False).scaled(9) == 9
    assert Scale(published=(40, 160), own=(8, 100), kept=True).scaled(80) == 80


def test_shared_axes_take_what_is_nearest_over_all_stages() -> None:
    text = (
        "stages:\n  - {depth: 1, width: 8}\n  - {depth: 1, width: 8}\n  - {depth: 1, width: 8}\n"
        "shared: {kernel: {choice: [3, 13]}}\n"
    )
    assert [s.kernel for s in nearest("unireplknet_t", text, 128).stages] == [13, 13, 13]
    name = "unireplknet_ablation_kernel_3_3_13_13"
    assert [s.kernel for s in nearest(name, text, 128).stages] == [3, 3, 3]


def test_every_network_takes_the_dense_head() -> None:
    space = parse_space(MIXED).bound(size=(32, 32), channels=3)
    plain = Projection(space, list(NETWORKS.values()))
    dense = Projection(space.for_task("segmentation"), list(NETWORKS.values()))
    assert len(dense.networks) == len(plain.networks)
    for network in dense.networks:
        found = dense.nearest(network)
        assert found == replace(plain.nearest(network), head="dense")
    assert dense.misfit(NETWORKS["convnext_t"]) == "block convnext"


def test_hidden_widths_are_kept_by_the_space_and_compared_by_their_ratio() -> None:
    own = MIXED.replace("kernel: {choice: [3, 7, 31]}", "kernel: 3, ffn_hidden: 50")
    own = own.replace("shared:", "shared:\n  ffn_ratio: {choice: [1, 2, 4]}")
    made = projection(own)
    network = NETWORKS["unireplknet_t"]
    assert made.nearest(network).stages[0].ffn_width == 50
    assert made.nearest(network).stages[1].ffn_ratio == 4
    narrow = tuple(replace(s, ffn_hidden=2 * s.width - 1) for s in network.stages)
    found = made.nearest(replace(network, stages=narrow))
    assert found.stages[0].ffn_width == 50
    assert found.stages[1].ffn_ratio == 2
    assert made.plan.space.contains(found)
