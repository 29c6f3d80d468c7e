"""What the families fix, and the maps that their padding makes."""

from __future__ import annotations

import pytest

from search_space.families import (
    CLASSIFIERS,
    FAMILIES,
    STEM_KINDS,
    TRANSITION_KINDS,
    stage_maps,
    stem_map,
    transition_map,
)
from search_space.keys import NETWORK_KEYS, STAGE_KEYS


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_names_known_parts_and_keys(name: str) -> None:
    family = FAMILIES[name]
    assert family.stem in STEM_KINDS
    assert family.transition in TRANSITION_KINDS
    assert family.head in CLASSIFIERS
    assert family.stage_keys <= set(STAGE_KEYS)
    assert family.network_keys <= set(NETWORK_KEYS)


@pytest.mark.parametrize(
    ("kind", "stride", "side", "map_side"),
    [
        ("unireplknet", 4, 224, 56),
        ("unireplknet", 4, 225, 57),
        ("unireplknet", 2, 225, 113),
        ("unireplknet", 1, 225, 225),
        ("replknet", 4, 225, 57),
        ("patchify", 4, 225, 56),
        ("patchify", 2, 225, 112),
        ("patchify", 1, 225, 225),
    ],
)
def test_a_stem_rounds_as_its_padding_does(
    kind: str, stride: int, side: int, map_side: int
) -> None:
    assert stem_map(kind, stride, side) == map_side


@pytest.mark.parametrize(
    ("kind", "side", "half"),
    [("unireplknet", 57, 29), ("replknet", 57, 29), ("convnext", 57, 28), ("convnext", 56, 28)],
)
def test_a_transition_halves_and_rounds_as_its_family_does(kind: str, side: int, half: int) -> None:
    assert transition_map(kind, side) == half


@pytest.mark.parametrize(
    ("stem", "transition", "maps"),
    [("unireplknet", "unireplknet", (57, 29, 15, 8)), ("patchify", "convnext", (56, 28, 14, 7))],
)
def test_maps_of_an_odd_image_are_those_of_the_official_networks(
    stem: str, transition: str, maps: tuple[int, ...]
) -> None:
    found = stage_maps((225, 225), 4, stem=stem, stride=4, transition=transition)
    assert found == tuple((side, side) for side in maps)


def test_height_and_width_are_halved_apart() -> None:
    found = stage_maps((28, 33), 3, stem="unireplknet", stride=2, transition="unireplknet")
    assert found == ((14, 17), (7, 9), (4, 5))
