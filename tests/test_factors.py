"""The four guidelines in the words of a space, and the axis that it lacks for each."""

from __future__ import annotations

import pytest

from evaluators.contexts import factors
from search_space.yaml_io import load_space, parse_space

ALL = """\
input: {channels: 1, size: 32}
block: unireplknet
stem: {stride: 2}
stages:
  - {depth: {choice: [1, 2]}, width: 16, kernel: {choice: [3, 9]}, placement: {choice: [L, LS]}}
  - {depth: {choice: [1, 2]}, width: 32, kernel: {choice: [3, 9]}, placement: {choice: [L, LS]}}
every_stage:
  dilations: {choice: [none, paper]}
shared:
  structure: {choice: [none, se]}
"""
FIRST, SECOND = (f"{line}\n" for line in ALL.splitlines()[4:6])


def missing(text: str) -> dict[str, str]:
    found = factors(parse_space(text))
    assert [factor.guideline for factor in found] == ["g1", "g2", "g3", "g4"]
    assert all(factor.low and factor.high for factor in found)
    return {factor.guideline: factor.missing for factor in found if factor.missing is not None}


def test_a_space_with_every_axis_lacks_nothing() -> None:
    assert missing(ALL) == {}


def test_levels_are_said_in_the_words_of_the_space() -> None:
    g1, g2, g3, g4 = factors(parse_space(ALL))
    assert (g1.low, g1.high) == ("no extra structure in the blocks", "se in every block")
    assert g2.high == "the published dilated branches beside every large kernel"
    assert g3.low == "kernel 9 in stage 1; large ones later too"
    assert g3.high == "kernel 3 in stage 1; large ones later"
    assert "one large block is held to be enough in these shallow networks" in g4.high
    default = load_space("default").bound(size=(28, 28), channels=1)
    low = factors(default)[2].low
    assert low.startswith("kernel 7, 9, 13, 19, 25 or 27 in stage 1, drawn for each context")


def test_a_factor_that_acts_in_some_stages_alone_names_them() -> None:
    text = ALL.replace("shared:\n  structure: {choice: [none, se]}\n", "").replace(
        "width: 32", "structure: {choice: [none, depthwise, pointwise]}, width: 32"
    )
    (g1, *_) = factors(parse_space(text))
    assert (g1.low, g1.high) == (
        "no extra structure in the blocks of stage 2",
        "pointwise in every block of stage 2",
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "structure: {choice: [none, se]}",
            "structure: se",
            {
                "g1": "axis structure: needs none beside se, bottleneck, pointwise or depthwise, "
                "has only se"
            },
        ),
        (
            "structure: {choice: [none, se]}",
            "structure: {choice: [pointwise, se]}",
            {
                "g1": "axis structure: needs none beside se, bottleneck, pointwise or depthwise, "
                "has only pointwise and se"
            },
        ),
        (
            "dilations: {choice: [none, paper]}",
            "dilations: paper",
            {
                "g2": "axis dilations: needs none beside paper or other dilated branches, "
                "has only paper"
            },
        ),
        (
            "  dilations: {choice: [none, paper]}",
            "  ffn_ratio: 2",
            {
                "g2": "axis dilations: needs none beside paper or other dilated branches, "
                "has only paper (the default)"
            },
        ),
        (
            "dilations: {choice: [none, paper]}",
            "dilations: {choice: [none, [[5, 1]]]}",
            {
                "g2": "axis dilations: needs none beside paper or other dilated branches, "
                "has only none and [[5,1]]"
            },
        ),
        (
            FIRST,
            FIRST.replace("kernel: {choice: [3, 9]}", "kernel: {choice: [7, 9]}"),
            {
                "g3": "axis stages[0].kernel: needs 3 beside a large kernel (7 or more), "
                "has only 7 and 9"
            },
        ),
        (
            FIRST,
            FIRST.replace("kernel: {choice: [3, 9]}", "kernel: 3"),
            {"g3": "axis stages[0].kernel: needs 3 beside a large kernel (7 or more), has only 3"},
        ),
        (
            FIRST,
            FIRST.replace("[L, LS]", "[SL, SLL]").replace("[1, 2]", "[2, 3]"),
            {"g3": "axis stages[0].placement: needs one that begins with L, has only SL and SLL"},
        ),
        (
            FIRST,
            "",
            {"g3": "stages: needs a second one, with kernels of its own, has only one"},
        ),
        (
            SECOND,
            SECOND.replace("kernel: {choice: [3, 9]}", "kernel: {choice: [3, 5]}"),
            {
                "g3": "axis kernel: needs 7 or more in a stage after the first, as built on its "
                "map, has only 3 and 5",
                "g4": "axis kernel: needs 7 or more in a stage after the first, as built on its "
                "map, has only 3 and 5",
            },
        ),
        (
            SECOND,
            SECOND.replace("[1, 2]", "[1]"),
            {"g4": "axis depth: needs 2 or more in a stage after the first, has only 1"},
        ),
        (
            SECOND,
            SECOND.replace("[L, LS]", "[LS]"),
            {
                "g4": "axis placement: needs large blocks throughout (L) beside a large first "
                "block with 3x3 after it (LS, LSS) in a stage after the first, has only LS"
            },
        ),
    ],
)
def test_what_is_missing_names_the_axis_and_what_it_has(
    old: str, new: str, said: dict[str, str]
) -> None:
    assert old in ALL
    assert missing(ALL.replace(old, new)) == said


def test_small_maps_leave_no_large_kernel_later() -> None:
    said = missing(ALL.replace("size: 32", "size: 10"))
    assert said["g3"] == (
        "axis kernel: needs 7 or more in a stage after the first, as built on its map, "
        "has only 3 and 5"
    )


def test_an_axis_that_the_stages_share_cannot_differ_between_them() -> None:
    kernel = "kernel: {choice: [3, 9]}"
    text = ALL.replace(f", {kernel}", "") + f"  {kernel}\n"
    assert missing(text) == {
        "g3": "axis kernel: needs a value of its own in each stage to be varied beside g1, g2 and "
        "g4, is shared by the stages; write it under every_stage"
    }
    # A stage 1 of 3x3 blocks is small whatever the shared kernel is.
    assert (
        missing(text.replace("placement: {choice: [L, LS]}", "placement: {choice: [L, LS, S]}"))
        == {}
    )


def test_other_shared_axes_do() -> None:
    placement = "placement: {choice: [L, LS]}"
    text = ALL.replace(f", {placement}", "").replace(
        "every_stage:\n  dilations: {choice: [none, paper]}\n", ""
    )
    assert missing(text + f"  {placement}\n  dilations: {{choice: [none, paper]}}\n") == {}


@pytest.mark.parametrize(
    ("block", "g1", "g2"),
    [
        ("replknet", "replknet", "replknet (its small_kernel is one undilated branch)"),
        ("slak", "slak", "slak (its strips are no dilated branches)"),
        ("convnext", "convnext", "convnext (its kernel has no branches)"),
    ],
)
def test_other_families_lack_axes_of_their_own(block: str, g1: str, g2: str) -> None:
    text = ALL.replace("block: unireplknet", f"block: {block}")
    text = text[: text.index("every_stage")]
    assert missing(text) == {
        "g1": f"axis block: needs unireplknet, whose blocks can hold an extra structure, "
        f"has only {g1}",
        "g2": f"axis block: needs unireplknet, whose large kernels can have dilated branches, "
        f"has only {g2}",
    }


def test_of_several_families_the_one_with_most_factors_counts() -> None:
    text = ALL.replace("block: unireplknet", "block: {choice: [convnext, unireplknet]}")
    assert missing(text) == {}
