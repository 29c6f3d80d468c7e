"""Drawings of networks: valid, complete, to scale, and the same in words."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from runs.page.drawing import PIXEL, SIGNS, drawing
from runs.page.network_words import beside, groups, network_words
from runs.page.svg import px
from search_space.architecture import Architecture, Stage, paper_branches
from search_space.yaml_io import load_architecture
from tests.family_architectures import EVERY, FAMILY

SVG = "{http://www.w3.org/2000/svg}"
PUBLISHED = ("unireplknet_s", "unireplknet_xl", "replknet_31b", "slak_t", "convnext_t")


def drawn(architecture: Architecture, name: str = "it") -> ElementTree.Element:
    return ElementTree.fromstring(drawing(architecture, name=name).svg)


def tiles(root: ElementTree.Element) -> list[float]:
    """Widths of the square tiles, in the order they are drawn."""
    return [
        float(rect.attrib["width"])
        for rect in root.iter(f"{SVG}rect")
        if rect.get("class") in ("large", "small") and rect.get("x") is rect.get("y") is None
    ]


def texts(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def one_stage(**changes: Any) -> Architecture:
    stage = replace(FAMILY["unireplknet"].stages[1], dilations=(), structure="none")
    return replace(FAMILY["unireplknet"], stages=(replace(stage, **changes),))


@pytest.mark.parametrize("name", [*EVERY, *PUBLISHED])
def test_every_family_is_drawn_stage_by_stage(name: str) -> None:
    architecture = EVERY.get(name) or load_architecture(name)
    root = drawn(architecture)
    words = texts(root)
    assert [word for word in words if word.startswith("stage ")] == [
        f"stage {number}" for number in range(1, len(architecture.stages) + 1)
    ]
    for stage, (height, width) in zip(architecture.built_stages, architecture.maps, strict=True):
        assert f"{height}x{width}, {stage.width} ch" in words
    steps = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert sum(step.startswith("to stage") for step in steps) == len(architecture.stages) - 1
    assert {"image", "stem", "head"} <= set(words)


@pytest.mark.parametrize("name", [*EVERY, *PUBLISHED])
def test_nothing_is_drawn_outside_the_picture(name: str) -> None:
    root = drawn(EVERY.get(name) or load_architecture(name))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])

    def check(element: ElementTree.Element, x: float, y: float) -> None:
        moved = element.get("transform", "translate(0 0)").removeprefix("translate(")
        right, down = map(float, moved.removesuffix(")").split())
        x, y = x + right, y + down
        if element.tag in (f"{SVG}rect", f"{SVG}text") and element.get("class") != "ground":
            left, top = float(element.get("x", 0)) + x, float(element.get("y", 0)) + y
            assert left >= 0
            assert top >= 0
            assert left + float(element.get("width", 0)) <= width
            assert top + float(element.get("height", 0)) <= height
        for child in element:
            check(child, x, y)

    check(root, 0, 0)


def test_a_tile_is_as_wide_as_its_kernel_on_one_scale() -> None:
    kernels = range(3, 53, 2)
    widths = []
    for kernel in kernels:
        letter = "S" if kernel == 3 else "L"
        (width,) = tiles(drawn(one_stage(depth=1, kernel=kernel, placement=letter)))
        widths.append(width)
    assert all(before < after for before, after in pairwise(widths))
    assert widths == [pytest.approx(PIXEL * kernel) for kernel in kernels]


def test_twenty_seven_blocks_are_one_pattern_and_its_count() -> None:
    root = drawn(one_stage(depth=27, kernel=13, placement="LSS" * 9))
    assert tiles(root) == pytest.approx([13 * PIXEL, 3 * PIXEL, 3 * PIXEL])
    assert "\N{MULTIPLICATION SIGN}9" in texts(root)


def test_blocks_without_a_pattern_are_all_there_and_stay_on_the_page() -> None:
    placement = "LSSLSLLSSSLSLSLLLSSLSSSSLSL"
    stage = one_stage(depth=27, kernel=31, placement=placement).stages[0]
    root = drawn(one_stage(depth=27, kernel=31, placement=placement))
    assert sum(len(kernels) * times for kernels, times in groups(stage.kernels)) == 27
    assert float(root.attrib["height"]) < 600


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("LSSLSSLSS", [((9, 3, 3), 3)]),
        ("SSSS", [((3,), 4)]),
        ("L", [((9,), 1)]),
        ("LSLSLSS", [((9, 3), 3), ((3,), 1)]),
        ("LSS", [((9,), 1), ((3,), 2)]),
    ],
)
def test_rows_of_blocks_are_written_as_patterns(
    placement: str, expected: list[tuple[tuple[int, ...], int]]
) -> None:
    kernels = [9 if letter == "L" else 3 for letter in placement]
    assert groups(kernels) == expected


def test_dots_of_a_branch_stand_where_its_taps_are() -> None:
    branches = paper_branches(13)
    root = drawn(one_stage(depth=1, kernel=13, placement="L", dilations=branches))
    dotted = [p for p in root.iter(f"{SVG}path") if p.get("class") == "taps"]
    # The last one is the legend's.
    found = [(p.attrib["stroke-dasharray"], p.attrib["d"]) for p in dotted[:-1]]
    dilated = [(k, r) for k, r in branches if r > 1]
    assert len(found) == len(dilated)
    for (dashes, path), (k, r) in zip(found, dilated, strict=True):
        assert dashes == f"0 {px(r * PIXEL)}"
        start, length = (13 - 1 - (k - 1) * r) / 2 + 0.5, (k - 1) * r
        assert path.startswith(f"M{px(start * PIXEL)} {px(start * PIXEL)}h{px(length * PIXEL)}")


@pytest.mark.parametrize("structure", SIGNS)
def test_a_structure_has_a_letter_a_shape_and_a_legend(structure: str) -> None:
    root = drawn(one_stage(structure=structure))
    letter, outline = SIGNS[structure]
    signs = [p for p in root.iter(f"{SVG}path") if p.get("class") == "sign"]
    assert {sign.attrib["d"] for sign in signs} == {outline}
    assert len(signs) == 3  # two blocks and the legend
    assert texts(root).count(letter) == 3


def test_letters_and_shapes_differ() -> None:
    letters, outlines = zip(*SIGNS.values(), strict=True)
    assert len(set(letters)) == len(set(outlines)) == len(SIGNS)


def test_strips_are_drawn_as_a_cross() -> None:
    stage = replace(FAMILY["slak"].stages[2], kernel=21, strip=5)
    root = drawn(replace(FAMILY["slak"], stages=(stage,)))
    sides = [
        (float(rect.attrib["width"]), float(rect.attrib["height"]))
        for rect in root.iter(f"{SVG}rect")
        if rect.get("class") == "large"
    ]
    assert sides == [
        pytest.approx((5 * PIXEL, 21 * PIXEL)),
        pytest.approx((21 * PIXEL, 5 * PIXEL)),
    ]
    assert beside(stage, 21, "slak") == ((5, 1),)
    assert "21x5 and 5x21 beside 5x5" in " ".join(
        network_words(replace(FAMILY["slak"], stages=(stage,)))
    )


def test_words_say_what_the_drawing_shows() -> None:
    words = drawing(load_architecture("unireplknet_s"), name="it").alt
    assert "27 blocks (13x13 then 2 of 3x3, 9 times)" in words
    assert "3x3 with taps 4 apart" in words
    assert "each with squeeze-and-excitation" in words
    assert "14x14 map, 384 channels" in words


def test_three_by_three_blocks_have_no_branches() -> None:
    stage = Stage(depth=1, width=4, kernel=9, placement="S", dilations=paper_branches(9))
    assert beside(stage, 3, "unireplknet") == ()


def test_names_are_escaped() -> None:
    evil = "\"><script>alert('1')</script>&"
    root = drawn(FAMILY["convnext"], name=evil)
    assert root.attrib["aria-label"] == evil
    assert "<script" not in drawing(FAMILY["convnext"], name=evil).svg


def test_a_drawing_stands_alone_and_takes_the_colours_of_a_page() -> None:
    found = drawing(FAMILY["unireplknet"], name="it", key="networks/it")
    assert found.key == "networks/it"
    assert "http" not in found.svg.replace("http://www.w3.org/2000/svg", "")
    for part in found.svg.split("var(--")[1:]:
        assert ",#" in part.split(")")[0], "a colour needs a value outside a page"
