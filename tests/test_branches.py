"""The words of placement and dilations."""

from __future__ import annotations

from typing import Any

import pytest

from search_space.axes import Value
from search_space.branches import expanded, resolved, span, written_stage
from search_space.keys import STAGE_KEYS

WORDS: dict[str, Any] = {key: rule.default for key, rule in STAGE_KEYS.items()}
WORDS |= {"depth": 2, "width": 8, "kernel": 7}


@pytest.mark.parametrize(
    ("letters", "depth", "blocks"),
    [
        ("L", 3, "LLL"),
        ("LS", 3, "LSL"),
        ("LSS", 4, "LSSL"),
        ("LSS", 1, "L"),
        ("SL", 1, "S"),
        ("LSS", 27, "LSS" * 9),
    ],
)
def test_letters_repeat_over_the_depth(letters: str, depth: int, blocks: str) -> None:
    assert expanded(letters, depth) == blocks


@pytest.mark.parametrize(
    ("branch", "pixels"), [((5, 1), 5), ((3, 5), 11), ((7, 2), 13), ((1, 1), 1)]
)
def test_a_branch_spans_its_dilated_kernel(branch: tuple[int, int], pixels: int) -> None:
    assert span(branch) == pixels


@pytest.mark.parametrize(
    ("word", "kernel", "branches"),
    [
        ("none", 13, ()),
        ("paper", 7, ((3, 2), (3, 3), (5, 1))),
        ("paper", 5, ((3, 1), (3, 2))),
        ("default", 7, ((3, 2), (3, 3), (5, 1))),
        ("default", 5, ()),  # K = 5 is plain unless dilations are given
        (((3, 2), (5, 1)), 5, ((3, 2), (5, 1))),
        (((3, 2), (5, 1)), 3, None),
        (((5, 3),), 13, ((5, 3),)),
        (((5, 3),), 11, None),
    ],
)
def test_a_word_means_branches_that_fit_or_nothing(
    word: Value, kernel: int, branches: object
) -> None:
    assert resolved(word, kernel) == branches


def test_a_stage_is_written_as_its_words_say() -> None:
    stage = written_stage({**WORDS, "placement": "LS", "kernel": 51}, block="unireplknet")
    assert stage is not None
    assert (stage.kernel, stage.placement, stage.structure) == (51, "LS", "se")
    assert len(stage.dilations) == 5


def test_keys_of_another_family_stay_without_effect() -> None:
    stage = written_stage({**WORDS, "dilations": ((3, 9),)}, block="convnext")
    assert stage is not None
    assert (stage.dilations, stage.structure, stage.small_kernel) == ((), "none", None)
    stage = written_stage(WORDS, block="replknet")
    assert stage is not None
    assert (stage.small_kernel, stage.strip, stage.layer_scale) == (5, None, 0.0)


@pytest.mark.parametrize("fits", [{"kernel": 3}, {"placement": "S"}])
def test_a_branch_too_wide_matters_beside_a_large_kernel_alone(fits: dict[str, object]) -> None:
    wide = {**WORDS, "dilations": ((3, 9),)}
    assert written_stage(wide, block="unireplknet") is None
    stage = written_stage({**wide, **fits}, block="unireplknet")
    assert stage is not None
    assert stage.dilations == ()
