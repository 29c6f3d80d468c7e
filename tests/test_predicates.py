"""Questions about a network: what they mean, and that nonsense gives a SpaceError and no more."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_space.architecture import Architecture, Stage, Stem
from search_space.errors import SpaceError
from search_space.predicates import LONGEST, parse_predicate
from tests.family_architectures import FAMILY

NET = Architecture(
    size=(28, 28),
    channels=1,
    stem=Stem(stride=2),
    stages=(
        Stage(depth=2, width=16, kernel=3, placement="SS", structure="se", ffn_ratio=2),
        Stage(
            depth=3,
            width=40,
            kernel=9,
            placement="LSL",
            dilations=((3, 3), (3, 4), (5, 1), (5, 2)),
            structure="se",
            ffn_ratio=2,
        ),
        Stage(
            depth=4, width=40, kernel=13, placement="LLLL", dilations=((3, 2),), structure="none"
        ),
    ),
)
"""Kernels 3, 9, 13; 9 blocks; its second stage has the published branches."""


@pytest.mark.parametrize(
    "text",
    [
        "stages[2].kernel>=9",
        "stages[-1].depth > 3",
        "  stages[0].kernel == 3  ",
        "any(stages.kernel >= 13)",
        "all(stages.width > 15)",
        "all(stages[1:].kernel >= 9)",
        "not any(stages[:2].kernel > 9)",
        "depth > 8 and not shared.structure == 'se'",
        "depth == 9",
        "block == 'unireplknet' or block == 'slak'",
        "block in ['unireplknet', 'slak'] and block not in ('convnext',)",
        "stem.kind == 'unireplknet' and stem.stride == 2",
        "3 < stages[1].kernel <= 9",
        "9 >= stages[1].kernel",
        "-1 < stages[1].kernel",
        "stages[1].width == stages[2].width != stages[0].width",
        "stages[2].kernel > stages[0].kernel",
        "any(stages.kernel > stages[1].kernel)",
        "any(stages.structure == 'none' and stages.kernel == 13)",
        "not all(not stages.kernel == 9)",
        "max(stages.kernel) == 13 and min(stages.kernel) == 3 and sum(stages.depth) == depth",
        "len(stages) == 3 and len(stages[1].dilations) == 4",
        "any(len(stages.dilations) == 1)",
        "stages[1].dilations == 'paper'",
        "stages[0].dilations == 'none'",
        "stages[2].dilations == [[3, 2]]",
        "stages[1].dilations == [[5, 1], [3, 3], [5, 2], [3, 4]]",
        "stages[1].placement == 'LS' and stages[1].placement == 'LSL'",
        "stages[1].placement != 'L' and shared.placement in ['S', 'L', 'LS']",
        "shared.width >= 16 and every_stage.width >= 16",
        "stages[0].strip == 'none' and not stages[0].strip > 3 and not stages[0].strip < 3",
        "stages[0].layer_scale == 'none'",
        "head == 'pool_norm' and transition == 'unireplknet' and width_factor == 1",
        "(any(stages.kernel == 9))",
    ],
)
def test_what_is_true_of_the_network(text: str) -> None:
    predicate = parse_predicate(text, stages=3)
    assert predicate(NET) is True
    assert predicate.text == text
    assert parse_predicate(f"not ({text})")(NET) is False


@pytest.mark.parametrize(
    "text",
    [
        "stages[1].kernel >= 13",
        "all(stages.kernel >= 9)",
        "shared.structure == 'se'",
        "shared.structure != 'se'",
        "stages[1].dilations == 'none'",
        "stages[0].dilations == 'paper'",
        "weights_sparsity > 0",
        "stages[0].se_ratio not in [4]",
        "stages[3].kernel >= 3",
        "stages[3].kernel != 3",
        "any(stages[3:].kernel >= 3)",
        "max(stages[3:].kernel) > 0",
    ],
)
def test_what_is_false_of_the_network(text: str) -> None:
    assert parse_predicate(text)(NET) is False


def test_a_question_is_asked_of_every_family() -> None:
    slak = parse_predicate("any(stages.strip == 3) and weights_sparsity == 0.4")
    assert [block for block, network in FAMILY.items() if slak(network)] == ["slak"]
    ratio = parse_predicate("shared.dw_ratio == 1.5")
    assert [block for block, network in FAMILY.items() if ratio(network)] == ["replknet"]


def test_a_question_about_networks_of_other_depth_in_stages() -> None:
    two = replace(NET, stages=NET.stages[:2])
    last = parse_predicate("stages[-1].kernel == 9")
    assert (last(two), last(NET)) == (True, False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("stages[9].kernel>=9", r"must name stages\[0\] to stages\[2\], got stages\[9\]: "),
        (
            "stages[-4].kernel>=9",
            r".*got stages\[-4\]: the networks have 3 stages, counted from 0; ",
        ),
        ("stages[1].kernal >= 9", r"unknown key 'kernal' of a stage; did you mean 'kernel'\?$"),
        ("stage[1].kernel >= 9", r"unknown name 'stage\[1\]\.kernel'; did you mean 'stages'\?$"),
        ("stagess.kernel >= 9", r"unknown name 'stagess.kernel'; did you mean 'stages'\?$"),
        ("dept > 4", r"unknown name 'dept'; did you mean 'depth'\?$"),
        ("macs > 4", r"unknown name 'macs'; must be one of: stages, shared, .*stem\.kind"),
        ("kernel >= 9", r"'kernel' is a key of a stage: write stages\[0\]\.kernel, any\(stages"),
        ("stem == 'patchify'", r"unknown name 'stem'; did you mean 'stem\.kind'\?$"),
        ("stages[0] >= 9", r"stages\[0\]: must name a key, as in stages\[0\]\.kernel$"),
        ("stages >= 9", r"stages: must name a key, as in stages\.kernel$"),
        ("stages.kernel >= 9", r"must say of which stages: any\(\.\.\.\) or all\(\.\.\.\)$"),
        ("block == 'slack'", r"unknown value 'slack'; did you mean 'slak'\?$"),
        ("block == slak", r"must have a text in quotes: 'slak'$"),
        ("shared.structure > 'se'", r"must compare a text by == or != or in"),
        ("shared.structure == 3", r"unknown value 3; must be one of: none, se,"),
        ("stages[0].kernel == 'big'", r"must compare a number with a number, got 'big'$"),
        ("stages[0].kernel >= 'none'", r"must compare a number with a number, got 'none'$"),
        ("stages[0].placement == 'XL'", r"must compare a placement with letters L and S"),
        ("stages[0].dilations == [[5]]", r"must compare dilations with 'none', 'paper' or"),
        ("stages[0].kernel in 9", r"must have a list after `in`"),
        ("stages[0].kernel is 9", r"must use one of: <, <=,"),
        ("9 in stages.kernel", r"must compare something of the network"),
        ("1 < 2", r"must compare something of the network"),
        ("stages[0].kernel == block", r"must compare like with like, got number and text$"),
        ("any(block == 'slak')", r"any: must hold a question about stages"),
        ("max(3)", r"max: must hold numbers of stages, as in max\(stages\.kernel\)$"),
        ("any(stages.kernel > 3, 1)", r"any: must have one thing in its brackets"),
        ("len(9) > 1", r"len: must hold stages"),
        ("stages[0].kernel", r"'stages\[0\]\.kernel': must be compared with something"),
        ("max(stages.kernel)", r"'max\(stages\.kernel\)': must be compared"),
        ("True", r"'True': must be a name, a number, a text"),
        ("stages[0].kernel > 1e999", r"'1e309': must be a name, a number"),
        ("stages['a'].kernel > 1", r"must have a whole number in the brackets of stages, got 'a'"),
        ("stages[::2].kernel > 1", r"must name stages as in stages\[1:\], without a step$"),
        ("stages[0].kernel + 1 > 3", r"'stages\[0\]\.kernel \+ 1': must be a name"),
        ("stages[0].kernel = 9", r"must be a comparison such as .*; write == for equal$"),
        ("stages[0].kernel => 9", r"must be a comparison such as"),
        ("", r"must be a comparison such as stages\[1\]\.kernel >= 9"),
        ("__import__('os').system('true')", r"unknown function \"__import__\('os'\)\.system\""),
        ("eval('1')", r"unknown function 'eval'; must be one of: any, all, max, min, sum, len$"),
        ("stages[0].__class__ == 1", r"unknown key '__class__' of a stage"),
        ("(lambda: 1)() == 1", r"unknown function 'lambda: 1'"),
        ("depth > 1 " * 40, rf"must have at most {LONGEST} characters, got 400$"),
    ],
)
def test_what_is_wrong_is_said(text: str, why: str) -> None:
    with pytest.raises(SpaceError) as refused:
        parse_predicate(text, stages=3)
    message = str(refused.value)
    assert message.startswith("--compare: ")
    if len(text) <= 80:
        assert message.startswith(f"--compare: {text!r}: ")
        message = message.removeprefix(f"--compare: {text!r}: ")
        assert re.match(why, message), message
    assert re.search(why, message), message
    assert refused.value.exit_code == 2


def test_an_index_is_held_against_four_stages_where_their_number_is_open() -> None:
    assert parse_predicate("stages[3].kernel > 1")(NET) is False
    with pytest.raises(
        SpaceError,
        match=r"got stages\[4\]: a network has at most 4 stages, counted from 0; name one of them$",
    ):
        parse_predicate("stages[4].kernel > 1")


_WORDS = st.sampled_from(
    [
        *("stages", "shared", "kernel", "structure", "dilations", "placement", "depth", "block"),
        *(".", "[", "]", "(", ")", ",", ":", " and ", " or ", "not ", " in ", " if ", " else "),
        *(
            ">=",
            "<",
            "==",
            "!=",
            "=",
            "+",
            "-",
            "*",
            "'",
            "'se'",
            "'paper'",
            "any(",
            "all(",
            "len(",
        ),
        *(
            "max(",
            "0",
            "1",
            "-1",
            "9",
            "1e9",
            "0x1",
            "None",
            "lambda",
            "{",
            "}",
            "f'",
            "stages[0].",
        ),
        *("stages.kernel", "any(stages.kernel>3)", "\n", "\x00", "#", "\\", "@", "\ud800", "1_0j"),
    ]
)


@given(st.one_of(st.text(max_size=40), st.lists(_WORDS, max_size=12).map("".join)))
@settings(max_examples=250, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        predicate = parse_predicate(text)
    except SpaceError as error:
        said = str(error)
    else:
        assert predicate(NET) in (True, False)
        return
    assert said.startswith("--compare: ")
    assert said.isprintable()


@pytest.mark.parametrize("text", ["(" * 250, "-" * 299 + "1", "not " * 74 + "depth>1", "[" * 299])
def test_deep_nesting_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SpaceError):
        assert parse_predicate(text)(NET) in (True, False)
