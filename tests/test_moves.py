"""What a factor changes in a stage, and that nothing that a space could test is called missing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.factors import reason
from evaluators.moves import EXTRAS, Moves, Pattern, combinations
from evaluators.protocol import GUIDELINES
from search_space.architecture import Architecture, Stage, paper_branches
from search_space.space import DesignSpace
from search_space.yaml_io import parse_space
from tests.random_spaces import random_space

TEXT = """\
input: {channels: 1, size: 64}
stem: {stride: 1}
stages:
  - {depth: 2, width: 8, kernel: {choice: [3, 5, 13]}, placement: {choice: [L, SL]}}
  - {depth: 4, width: 16, kernel: {choice: [3, 9, 13]}, placement: {choice: [L, LS, LLS, LSSL]}}
every_stage:
  dilations: {choice: [none, [[5, 1]], [[3, 2]], [[5, 1], [3, 4]], [[5, 2]]]}
  structure: {choice: [none, depthwise, bottleneck]}
"""


def moves_of(text: str) -> Moves:
    space = parse_space(text)
    return Moves(space.plan, space.plan.shells[0])


def pattern(depth: int, kernel: int, letters: str, *branches: tuple[int, int]) -> Pattern:
    return Pattern(depth, kernel, letters, branches, None, None)


def test_the_extra_structure_is_the_one_that_gained_most() -> None:
    assert EXTRAS[0] == "se"
    moves = moves_of(TEXT)
    assert [moves.extra(0), moves.extra(1)] == ["bottleneck", "bottleneck"]
    assert moves_of(TEXT.replace("depthwise,", "se,")).extra(0) == "se"
    assert moves_of(TEXT.replace("none, depthwise,", "depthwise,")).extra(0) is None


def test_branches_are_the_published_ones_or_those_that_reach_furthest() -> None:
    assert moves_of(TEXT).dilated(1, pattern(4, 13, "LLLL", (5, 1))) == ((5, 2),)
    fewer = moves_of(TEXT.replace(", [[5, 2]]", ""))
    assert fewer.dilated(1, pattern(4, 13, "LLLL")) == ((3, 4), (5, 1))
    paper = moves_of(TEXT.replace("[[5, 2]]", "paper"))
    assert paper.dilated(1, pattern(4, 13, "LLLL")) == paper_branches(13)
    assert paper.dilated(0, pattern(2, 5, "LL")) is None


def test_added_blocks_are_those_after_a_large_first_one() -> None:
    moves = moves_of(TEXT)
    assert moves.mixed(1, pattern(4, 13, "LLLL", (5, 1))) == "LSLS"
    assert moves.mixed(0, pattern(2, 13, "LL")) is None
    more = moves_of(TEXT.replace("LSSL]", "LSS]"))
    assert more.mixed(1, pattern(4, 13, "LLLL", (5, 1))) == "LSLS"
    assert moves_of(TEXT.replace("LSSL]", "LSSS]")).mixed(1, pattern(4, 9, "LLLL")) == "LSSS"
    assert moves_of(TEXT.replace("[L, LS, LLS, LSSL]", "[LS, LLS]")).large == [1]


def test_combinations_are_of_what_is_tested_alone() -> None:
    assert len(list(combinations(GUIDELINES))) == 16
    assert list(combinations(["g2"])) == [(1, 0, 1, 1), (1, 1, 1, 1)]


@settings(max_examples=40)
@given(st.integers(0, 500))
def test_no_pair_in_the_space_differs_in_a_factor_that_is_called_missing(seed: int) -> None:
    space = random_space(seed, most=200)
    networks = list(space.census.all())
    paired = {
        guideline
        for guideline in GUIDELINES
        if any(_differ(guideline, one, other) for one, other in _alike(networks))
    }
    found = {guideline for guideline in GUIDELINES if any(_has(space, guideline, networks))}
    assert paired <= found
    # What stages share changes in all of them, stage 1 and kernels of 5 included.
    assert paired == found or {"dilations", "placement"} & set(space.shared)


def _has(space: DesignSpace, guideline: str, networks: list[Architecture]) -> Iterator[bool]:
    """Whether a shell has the axes of a guideline, and its stages do not share them."""
    for shell in space.plan.shells:
        moves = Moves(space.plan, shell)
        if reason(moves, guideline) is None:
            some = frozenset({guideline})
            yield any(
                moves.networks(base, some)
                for base in networks
                if (base.block, base.stem.stride) == (shell.block, shell.stride)
                and _may_be_base(moves, base, some)
            )


def _may_be_base(moves: Moves, base: Architecture, active: frozenset[str]) -> bool:
    return all(
        moves.may_hold(active, index, Pattern.of(stage))
        and ("g1" not in active or moves.extra(index) in (None, stage.structure))
        for index, stage in enumerate(base.stages)
    )


def _alike(networks: list[Architecture]) -> Iterator[tuple[Architecture, Architecture]]:
    """Give all pairs of one family, stem and size of stages."""

    def key(network: Architecture) -> str:
        widths = [
            (s.depth, s.width, s.ffn_ratio, s.layer_scale, s.dw_ratio) for s in network.stages
        ]
        return str((network.block, network.stem, network.weights_sparsity, widths))

    for _, group in itertools.groupby(sorted(networks, key=key), key=key):
        yield from itertools.permutations(group, 2)


def _differ(guideline: str, against: Architecture, follows: Architecture) -> bool:
    """Whether two networks differ in one factor alone, by the words of the guideline."""
    first, *later = zip(against.stages, follows.stages, strict=True)
    pairs = [first, *later]
    same = [a == b for a, b in pairs]
    if all(same):
        return False
    if guideline == "g1":
        return all(s or _structure(a, b) for s, (a, b) in zip(same, pairs, strict=True))
    if guideline == "g2":
        return all(s or _branches(a, b) for s, (a, b) in zip(same, pairs, strict=True))
    if guideline == "g3":
        held = any(max(a.kernels) >= 7 for a, _ in later)
        return bool(later) and all(same[1:]) and held and _small(*first)
    rest = later or pairs
    head = all(same[: len(pairs) - len(rest)])
    return head and all(
        s or _letters(a, b) for s, (a, b) in zip(same[-len(rest) :], rest, strict=True)
    )


def _words(stage: Stage, *but: str) -> dict[str, object]:
    return {key: getattr(stage, key) for key in Stage.__dataclass_fields__ if key not in but}


def _structure(a: Stage, b: Stage) -> bool:
    rest = _words(a, "structure", "se_ratio") == _words(b, "structure", "se_ratio")
    return rest and (a.structure, b.structure != "none") == ("none", True)


def _branches(a: Stage, b: Stage) -> bool:
    rest = _words(a, "dilations") == _words(b, "dilations")
    dilated = any(r > 1 for _, r in b.dilations)
    return rest and a.kernel >= 7 and not a.dilations and dilated


def _small(a: Stage, b: Stage) -> bool:
    keys = ("kernel", "placement", "dilations", "small_kernel", "strip")
    rest = _words(a, *keys) == _words(b, *keys)
    return rest and a.kernel >= 7 and a.placement[0] == "L" and b.kernel == 3


def _letters(a: Stage, b: Stage) -> bool:
    rest = _words(a, "placement") == _words(b, "placement")
    large = a.kernel >= 7 and "S" not in a.placement
    return rest and large and b.placement[0] == "L" and "S" in b.placement
