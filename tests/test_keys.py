"""What a key of a space may hold."""

from __future__ import annotations

from typing import Any

import pytest

from search_space.axes import Axis, Choice, FloatRange, IntRange
from search_space.keys import NETWORK_KEYS, STAGE_KEYS, Unfit, families_of, read_axis

KEYS = STAGE_KEYS | NETWORK_KEYS


@pytest.mark.parametrize(
    ("key", "given", "axis"),
    [
        ("kernel", 13, Choice((13,))),
        ("kernel", 13.0, Choice((13,))),
        ("kernel", {"choice": [13, 3]}, Choice((13, 3))),
        ("kernel", {"int": [3, 31], "step": 2}, IntRange(3, 31, 2)),
        ("kernel", {"int": [3, 31], "step": 4}, IntRange(3, 31, 4)),
        ("kernel", {"int": [7, 7]}, IntRange(7, 7)),
        ("width", {"int": [64, 128], "step": 16}, IntRange(64, 128, 16)),
        ("width", {"int": [8, 64], "log": True}, IntRange(8, 64, log=True)),
        ("width", {"int": [8, 64], "log": False, "step": 8}, IntRange(8, 64, 8)),
        ("ffn_ratio", {"float": [1, 4]}, FloatRange(1.0, 4.0)),
        ("ffn_ratio", {"int": [1, 4]}, IntRange(1, 4)),
        ("ffn_ratio", {"choice": [2, 2.5]}, Choice((2, 2.5))),
        ("layer_scale", {"float": [1e-6, 1], "log": True}, FloatRange(1e-6, 1.0, log=True)),
        ("layer_scale", {"choice": ["none", 1e-6]}, Choice(("none", 1e-6))),
        ("dilations", [[5, 1], [3, 2]], Choice((((3, 2), (5, 1)),))),
        ("dilations", [], Choice(("none",))),
        ("dilations", [[1, 5]], Choice((((1, 1),),))),
        ("dilations", {"choice": ["none", "paper"]}, Choice(("none", "paper"))),
        ("placement", "LSS", Choice(("LSS",))),
        ("block", {"choice": ["slak", "convnext"]}, Choice(("slak", "convnext"))),
        ("stem.stride", {"choice": [1, 2]}, Choice((1, 2))),
        ("weights_sparsity", 0.4, Choice((0.4,))),
        ("small_kernel", "none", Choice(("none",))),
    ],
)
def test_a_value_or_an_axis_is_read(key: str, given: Any, axis: Axis) -> None:
    assert read_axis(KEYS[key], given) == axis


UNFIT: list[tuple[str, Any, str]] = [
    ("kernel", 12, "must be odd to keep the map size, got 12; nearest: 11 or 13"),
    ("kernel", 1, "must be from 3 to 151, got 1; nearest: 3"),
    ("kernel", 153, "must be from 3 to 151, got 153; nearest: 151"),
    ("kernel", 7.5, "must be a whole number, got 7.5"),
    ("kernel", "7", "must be a whole number, got '7'"),
    ("kernel", True, "must be a whole number, got True"),
    ("kernel", None, "must be a whole number, got None"),
    (
        "kernel",
        [3, 7],
        "must be a whole number, got [3, 7]; for several values write {choice: [...]}",
    ),
    ("kernel", {"choice": [3, 12]}, "must be odd to keep the map size, got 12; nearest: 11 or 13"),
    ("kernel", {"choice": []}, "choice must be a list of at least one value, got []"),
    ("kernel", {"choice": 7}, "choice must be a list of at least one value, got 7"),
    ("kernel", {"choice": [7, 7]}, "choice must hold each value once, got 7 twice; remove one"),
    ("ffn_ratio", {"choice": [4, 4.0]}, "choice must hold each value once, got 4.0 twice"),
    ("kernel", {"choice": [{"choice": [7]}]}, "choice must hold plain values, got another axis"),
    ("kernel", {}, "must be a value or one axis: {choice: [...]}, {int: [low, high]} or"),
    ("kernel", {"choise": [7]}, "must be a value or one axis: {choice: [...]}"),
    ("kernel", {"choice": [7], "int": [3, 7]}, "must be a value or one axis"),
    ("kernel", {"choice": [7], "step": 2}, "unknown key 'step' beside choice; remove it"),
    ("width", {"int": [8, 16], "stp": 8}, "unknown key 'stp' beside int; did you mean 'step'?"),
    ("kernel", {"float": [3, 7]}, "must be a value or a choice, got a range of float; write {choi"),
    ("placement", {"int": [1, 3]}, "must be a value or a choice, got a range of int; write {choi"),
    (
        "kernel",
        {"int": [3, 31], "step": 3},
        "step must divide high - low = 28, got 3; nearest high: 30 or 33",
    ),
    (
        "width",
        {"int": [8, 12], "step": 9},
        "step must divide high - low = 4, got 9; nearest high: 17",
    ),
    (
        "kernel",
        {"int": [3, 30], "step": 3},
        "must be odd to keep the map size, got 6; nearest: 5 or 7; {int: [3, 30], step: 3} holds 6",
    ),
    (
        "kernel",
        {"int": [3, 9]},
        "must be odd to keep the map size, got 4; nearest: 3 or 5; {int: [3, 9]} holds 4",
    ),
    ("kernel", {"int": [1, 7], "step": 2}, "must be from 3 to 151, got 1; nearest: 3; {int:"),
    ("width", {"int": [16, 8]}, "int needs low <= high, got low 16, high 8"),
    ("width", {"int": [8]}, "int must be [low, high], got [8]"),
    ("width", {"int": 8}, "int must be [low, high], got 8"),
    ("width", {"int": [8, 16.5]}, "int must be two whole numbers, got [8, 16.5]"),
    ("width", {"int": [8, "16"]}, "int must be two whole numbers, got [8, '16']"),
    ("width", {"int": [8, 16], "step": 0}, "step must be a whole number of at least 1, got 0"),
    ("width", {"int": [8, 16], "step": 2.0}, "step must be a whole number of at least 1, got 2.0"),
    ("width", {"int": [8, 16], "step": 8, "log": True}, "must have step or log, got both; remove"),
    ("width", {"int": [8, 16], "log": 1}, "log must be true or false, got 1"),
    ("width", {"int": [0, 16]}, "must be from 1 to 16384, got 0; nearest: 1; {int: [0, 16]}"),
    ("width", 10**12, "must be from 1 to 16384, got 1000000000000; nearest: 16384"),
    ("ffn_ratio", {"float": [4, 1]}, "float needs low < high, got low 4, high 1"),
    ("ffn_ratio", {"float": [1, 1]}, "float needs low < high"),
    ("ffn_ratio", {"float": [1, "4"]}, "float must be two numbers, got '4'"),
    ("ffn_ratio", {"float": [0, 4]}, "must be above 0 and at most 64, got 0"),
    ("ffn_hidden", 0, "must be from 1 to 1048576, got 0; nearest: 1"),
    ("ffn_hidden", 37.5, "must be a whole number, got 37.5"),
    ("ffn_hidden", "wide", "must be none or a number, got 'wide'"),
    ("ffn_hidden", {"choice": [37]}, "must be one value, not an axis, got {'choice': [37]}; for"),
    ("ffn_hidden", {"int": [1, 9]}, "must be one value, not an axis, got {'int': [1, 9]}; for"),
    ("ffn_hidden", [37, 38], "must be one value, not an axis, got [37, 38]; for several widths"),
    ("ffn_ratio", 0, "must be above 0 and at most 64, got 0"),
    ("ffn_ratio", "large", "must be a number, got 'large'"),
    ("layer_scale", True, "must be none or a number, got True"),
    ("layer_scale", "nope", "must be none or a number, got 'nope'"),
    ("layer_scale", {"float": ["none", 1]}, "float must be two numbers, got 'none'"),
    ("depth", 0, "must be from 1 to 512, got 0; nearest: 1"),
    ("depth", -2, "must be from 1 to 512, got -2; nearest: 1"),
    ("placement", "LX", "must be letters L (large kernel) and S (depthwise 3x3), got 'LX'; for"),
    ("placement", "", "must be letters L (large kernel) and S (depthwise 3x3), got ''"),
    ("placement", "ls", "must be letters L (large kernel) and S (depthwise 3x3), got 'ls'"),
    ("placement", ["L", "S"], "must be letters L (large kernel) and S (depthwise 3x3), got ['L'"),
    ("dilations", "papr", "must be one of: none, paper, got 'papr'; did you mean 'paper'?"),
    ("dilations", 3, "must be none, paper or a list of [kernel, dilation] pairs, got 3"),
    ("dilations", [5, 1], "must hold [kernel, dilation] pairs of whole numbers, got 5; for exam"),
    (
        "dilations",
        [[5, 1, 2]],
        "must hold [kernel, dilation] pairs of whole numbers, got [5, 1, 2]",
    ),
    ("dilations", [[5, 1.5]], "must hold [kernel, dilation] pairs of whole numbers, got [5, 1.5]"),
    ("dilations", [[4, 1]], "must hold branches of an odd kernel from 1 to 151, got [4, 1]"),
    ("dilations", [[5, 0]], "must hold branches of a dilation from 1 to 75, got [5, 0]"),
    (
        "structure",
        "botleneck",
        "must be one of: none, se, bottleneck, pointwise, depthwise, got 'botleneck'; "
        "did you mean 'bottleneck'?",
    ),
    ("structure", False, "must be one of: none, se, bottleneck, pointwise, depthwise, got False"),
    ("block", "resnet", "must be one of: unireplknet, replknet, slak, convnext, got 'resnet'"),
    ("stem.stride", 3, "must be 1, 2 or 4, got 3"),
    ("stem.stride", True, "must be 1, 2 or 4, got True"),
    ("stem.kind", "patch", "must be one of: unireplknet, replknet, patchify, got 'patch'"),
    ("stem.kind", "default", "must be one of: unireplknet, replknet, patchify, got 'default'"),
    ("weights_sparsity", 1, "must be at least 0 and at most 0.99, got 1"),
]


@pytest.mark.parametrize(("key", "given", "said"), UNFIT)
def test_what_cannot_be_is_refused_with_what_can(key: str, given: Any, said: str) -> None:
    with pytest.raises(Unfit) as unfit:
        read_axis(KEYS[key], given)
    assert str(unfit.value).startswith(said)


@pytest.mark.parametrize(
    ("given", "at"),
    [
        (12, ()),
        ({"choice": [3, 12]}, ("choice", 1)),
        ({"int": [3, 30], "step": 2}, ("step",)),
        ({"choice": [3], "x": 1}, ("x", "<key>")),
    ],
)
def test_the_culprit_inside_an_axis_is_pointed_at(given: Any, at: tuple[object, ...]) -> None:
    with pytest.raises(Unfit) as unfit:
        read_axis(KEYS["kernel"], given)
    assert unfit.value.at == at


def test_a_key_knows_the_families_in_which_it_acts() -> None:
    assert families_of("strip") == {"slak"}
    assert families_of("dilations") == {"unireplknet"}
    assert families_of("layer_scale") == {"unireplknet", "slak", "convnext"}
    assert families_of("width") == {"unireplknet", "replknet", "slak", "convnext"}


@pytest.mark.parametrize("name", KEYS)
def test_what_holds_where_the_yaml_is_silent_can_be_written_too(name: str) -> None:
    default = KEYS[name].default
    if default not in (None, "default"):
        assert read_axis(KEYS[name], default) == Choice((default,))
