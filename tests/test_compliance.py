"""Compliance with the four guidelines: the published networks score as their authors meant it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evaluators.compliance import Compliance, branch_credit, compliance, saturating_depth
from search_space.architecture import Architecture, Branches, Stage, Stem, paper_branches
from search_space.errors import SpaceError


def stage(depth: int, kernel: int, pattern: str = "L", **settings: object) -> Stage:
    placement = (pattern * depth)[:depth]
    plain = {"dilations": paper_branches(kernel), "structure": "se"} | settings
    return Stage(depth=depth, width=40, kernel=kernel, placement=placement, **plain)  # type: ignore[arg-type]


def unireplknet(depths: tuple[int, ...], third: str, *, size: int = 224) -> Architecture:
    kernels, patterns = (3, 13, 13, 13), ("S", "L", third, "L")
    rows = tuple(stage(d, k, p) for d, k, p in zip(depths, kernels, patterns, strict=True))
    return Architecture(size=(size, size), stem=Stem(), stages=rows)


A = unireplknet((2, 2, 6, 2), "L")
T = unireplknet((3, 3, 18, 3), "LS")
S = unireplknet((3, 3, 27, 3), "LSS")

CONVNEXT_T = Architecture(
    size=(224, 224),
    block="convnext",
    stem=Stem(kind="patchify"),
    transition="convnext",
    stages=tuple(Stage(depth=d, width=96, kernel=7, placement="L" * d) for d in (3, 3, 9, 3)),
)
REPLKNET_31B = Architecture(
    size=(224, 224),
    block="replknet",
    stem=Stem(kind="replknet"),
    transition="replknet",
    head="norm_pool",
    stages=tuple(
        Stage(depth=d, width=128, kernel=k, placement="L" * d, small_kernel=5)
        for d, k in ((2, 31), (2, 29), (18, 27), (2, 13))
    ),
)


@pytest.mark.parametrize("head", ["last", "all"])
@pytest.mark.parametrize("network", [T, S], ids=["T", "S"])
def test_unireplknet_follows_all_four_guidelines(network: Architecture, head: str) -> None:
    assert compliance(network, head=head) == Compliance(s1=1, s2=1, s3=1, s4=1)  # type: ignore[arg-type]


def test_s4_does_not_apply_to_unireplknet_a_which_added_no_depth() -> None:
    assert compliance(A) == Compliance(s1=1, s2=1, s3=1, s4=None)


def test_s4_of_fourteen_large_and_thirteen_small_blocks_is_13_of_18() -> None:
    mixed = replace(S.stages[2], placement="LS" * 13 + "L")
    network = replace(S, stages=(*S.stages[:2], mixed, S.stages[3]))
    assert compliance(network).s4 == pytest.approx(0.72, abs=0.005)


def test_s4_of_27_large_blocks_is_nothing() -> None:
    assert compliance(unireplknet((3, 3, 27, 3), "L")).s4 == 0


def test_convnext_t_scores_zero_zero_and_its_kernel() -> None:
    last, every = compliance(CONVNEXT_T), compliance(CONVNEXT_T, head="all")
    assert (last.s1, last.s2, last.s4) == (0, 0, None)
    assert last.s3 == pytest.approx(0.54, abs=0.005)
    assert every.s3 == pytest.approx(0.35, abs=0.005)


def test_replknet_31b_has_one_small_kernel_and_pays_for_large_ones_only_where_they_are_read() -> (
    None
):
    last, every = compliance(REPLKNET_31B), compliance(REPLKNET_31B, head="all")
    assert (last.s1, last.s2, last.s3, last.s4) == (0, 0.5, 1, 0)
    assert every.s3 == pytest.approx(0.20, abs=0.005)


@pytest.mark.parametrize(
    ("structure", "credit"),
    [("none", 0), ("se", 1), ("bottleneck", 0.8), ("pointwise", 0.5), ("depthwise", 0.25)],
)
def test_s1_credits_each_structure(structure: str, credit: float) -> None:
    stages = tuple(replace(row, structure=structure) for row in A.stages)
    assert compliance(replace(A, stages=stages)).s1 == pytest.approx(credit)


def test_s1_is_weighted_by_blocks() -> None:
    stages = (*A.stages[:3], replace(A.stages[3], structure="none"))
    assert compliance(replace(A, stages=stages)).s1 == pytest.approx(10 / 12)


@pytest.mark.parametrize(
    ("branches", "credit"),
    [
        ((), 0),
        (paper_branches(13), 1),
        (((3, 3), (5, 1)), 7 / 13),
        (((3, 1), (5, 1), (7, 1)), 0.55),
        (((5, 1), (7, 1), (9, 1), (11, 1), (13, 1)), 0.7),
        (((5, 1),), 0.5),
    ],
)
def test_s2_credits_what_the_branches_are(branches: Branches, credit: float) -> None:
    assert branch_credit(stage(2, 13, dilations=branches)) == pytest.approx(credit)


def test_s2_does_not_apply_without_large_kernels() -> None:
    stages = tuple(stage(2, 3, "S") for _ in range(4))
    assert compliance(replace(A, stages=stages)).s2 is None


def test_a_branch_wider_than_its_kernel_is_refused() -> None:
    with pytest.raises(
        SpaceError, match=r"^dilations: a branch must fit into the kernel of 7, got"
    ):
        branch_credit(stage(2, 7, dilations=((5, 2),)))


@pytest.mark.parametrize(("kernel", "side", "blocks"), [(13, 14, 7), (13, 8, 3), (7, 14, 25)])
def test_blocks_until_the_receptive_field_reaches_half_the_map(
    kernel: int, side: int, blocks: int
) -> None:
    assert saturating_depth(kernel, side) == blocks


def small(stem: int, *rows: Stage) -> Architecture:
    return Architecture(size=(32, 32), stem=Stem(stride=stem), stages=rows)


def test_s3_at_32_pixels_wants_a_seven_where_the_map_is_four_sevenths() -> None:
    # Stem stride 1: maps 32, 16, 8, so K* = odd(13 x 16 / 28) = odd(13 x 8 / 14) = 7 in both.
    network = small(1, stage(1, 3, "S"), stage(1, 7), stage(1, 3, "S"))
    assert compliance(network).s3 == pytest.approx((1 + 3 / 7) / 2)


def test_s3_does_not_apply_where_the_wanted_kernel_is_small() -> None:
    network = small(2, stage(1, 3, "S"), stage(1, 7), stage(1, 7))
    assert compliance(network).s3 is None


def test_s3_of_a_head_that_reads_all_stages_wants_a_small_first_kernel() -> None:
    network = small(1, stage(1, 13), stage(1, 7))
    assert compliance(network, head="last").s3 == 1
    assert compliance(network, head="all").s3 == pytest.approx((3 / 13) ** 0.5)


def test_without_a_head_the_task_decides_which_stages_are_read() -> None:
    for network in (REPLKNET_31B, T):
        dense = replace(network, head="dense")
        assert compliance(network) == compliance(network, head="last")
        assert compliance(dense) == compliance(network, head="all")
        assert compliance(dense, head="last") == compliance(network)
    assert compliance(replace(REPLKNET_31B, head="dense")) != compliance(REPLKNET_31B)


def test_s4_counts_three_by_threes_beyond_the_depth_that_saturates_a_small_map() -> None:
    # Map of 8, K = 13: N = 3, so four blocks suffice and two of six were added, one of them small.
    network = small(2, stage(1, 3, "S"), stage(6, 13, "LLLLLS"))
    assert compliance(network).s4 == pytest.approx(0.5)


def test_compliance_is_of_the_effective_network() -> None:
    # On a map of 4 pixels a 13 x 13 kernel has 7 x 7 live taps.
    wide = small(4, stage(1, 3, "S"), stage(2, 13))
    assert compliance(wide) == compliance(wide.canonical)
    assert compliance(wide).s2 == 1
