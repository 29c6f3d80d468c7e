"""Spaces and networks from YAML: the example of the contract, and every mistake in one sentence."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search_space.architecture import Architecture, Stage, Stem
from search_space.axes import Choice, FloatRange, IntRange
from search_space.errors import SpaceError
from search_space.space import Constraint, DesignSpace
from search_space.yaml_io import (
    dump_architecture,
    load_architecture,
    load_space,
    parse_space,
    shipped_names,
)
from tests.random_spaces import EXAMPLE, random_space

STAGE = "{depth: 1, width: 8, kernel: 7}"


def test_the_example_of_the_contract_is_read() -> None:
    space = parse_space(EXAMPLE)
    assert (space.name, space.size, space.channels) == ("tiny32", (32, 32), 3)
    assert space.network["stem.stride"] == Choice((2,))
    assert space.stages[1]["kernel"] == Choice((3, 7, 9, 13))
    assert space.stages[2]["width"] == IntRange(64, 128, 16)
    assert space.stages[0]["dilations"] == Choice(("none", "paper", ((3, 2), (5, 1))))
    assert space.stages[0]["placement"] == Choice(("L",))
    assert space.shared == {
        "structure": Choice(("none", "se", "bottleneck")),
        "ffn_ratio": Choice((2, 4)),
    }
    assert space.constraints == (
        Constraint(name="params", low=None, high=2e6, where="space.yaml:18: constraints.params"),
        Constraint(name="macs", low=1e6, high=60e6, where="space.yaml:19: constraints.macs"),
    )
    assert space.document["constraints"]["params"] == {"max": 2_000_000.0}


def test_input_may_be_left_to_the_data_or_have_two_sides() -> None:
    assert parse_space(f"stages: [{STAGE}]").size is None
    assert parse_space(f"input: {{size: [20, 30]}}\nstages: [{STAGE}]").size == (20, 30)
    assert parse_space(f"input: {{channels: 4}}\nstages: [{STAGE}]").channels == 4


def test_silence_means_the_defaults_of_the_family() -> None:
    space = parse_space(f"input: {{channels: 1, size: 224}}\nblock: convnext\nstages: [{STAGE}]")
    (network,) = space.census.all()
    assert network == Architecture(
        size=(224, 224),
        channels=1,
        block="convnext",
        stem=Stem(kind="patchify", stride=4),
        transition="convnext",
        head="pool_norm",
        stages=(Stage(depth=1, width=8, kernel=7, placement="L"),),
    )


def test_a_shared_value_that_is_fixed_is_no_axis() -> None:
    space = parse_space(f"stages: [{STAGE}, {STAGE}]\nshared: {{structure: none}}")
    assert space.shared == {}
    assert space.stages[1]["structure"] == Choice(("none",))


def test_axes_of_floats_are_read() -> None:
    space = parse_space(f"stages: [{STAGE}]\nshared: {{ffn_ratio: {{float: [1, 4], log: true}}}}")
    assert space.shared["ffn_ratio"] == FloatRange(1.0, 4.0, log=True)


# A mistake, and the start of the sentence that it must get.
MALFORMED: dict[str, tuple[str, str]] = {
    "even kernel of the contract": (
        EXAMPLE.replace("[3, 7, 9, 13]}}", "[3, 7, 9, 12]}}"),
        "7: stages[1].kernel: must be odd to keep the map size, got 12; nearest: 11 or 13",
    ),
    "even kernel": (
        "stages:\n  - {depth: 1, width: 8,\n     kernel: 12}",
        "3: stages[0].kernel: must be odd to keep the map size, got 12; nearest: 11 or 13",
    ),
    "even kernel on a line of its own": (
        "stages:\n- depth: 1\n  width: 8\n  kernel:\n    choice:\n    - 3\n    - 8\n",
        "7: stages[0].kernel: must be odd to keep the map size, got 8; nearest: 7 or 9",
    ),
    "kernel too large": (
        "stages: [{depth: 1, width: 8, kernel: 201}]",
        "1: stages[0].kernel: must be from 3 to 151, got 201; nearest: 151",
    ),
    "kernel range of step 3": (
        "stages: [{depth: 1, width: 8, kernel: {int: [3, 31], step: 3}}]",
        "1: stages[0].kernel: step must divide high - low = 28, got 3; nearest high: 30 or 33",
    ),
    "kernel range over even numbers": (
        "stages: [{depth: 1, width: 8, kernel: {int: [3, 31]}}]",
        "1: stages[0].kernel: must be odd to keep the map size, got 4; nearest: 3 or 5; {int: [3, ",
    ),
    "kernel range of floats": (
        "stages: [{depth: 1, width: 8, kernel: {float: [3, 31]}}]",
        "1: stages[0].kernel: must be a value or a choice, got a range of float",
    ),
    "step with log": (
        "stages: [{depth: 1, width: {int: [8, 64], step: 8, log: true}, kernel: 3}]",
        "1: stages[0].width: must have step or log, got both; remove one",
    ),
    "step that does not divide": (
        "stages: [{depth: 1, width: {int: [64, 128], step: 24}, kernel: 3}]",
        "1: stages[0].width: step must divide high - low = 64, got 24; nearest high: 112 or 136",
    ),
    "width as text": (
        "stages: [{depth: 1, width: wide, kernel: 3}]",
        "1: stages[0].width: must be a whole number, got 'wide'",
    ),
    "width missing": (
        "stages:\n  - {depth: 1, width: 8, kernel: 3}\n  - {depth: 1, kernel: 3}",
        "3: stages[1]: width must be given, got none; add it here, in every_stage or in shared",
    ),
    "depth zero": (
        "stages: [{depth: 0, width: 8, kernel: 3}]",
        "1: stages[0].depth: must be from 1 to 512, got 0; nearest: 1",
    ),
    "depth as yes": (
        "stages: [{depth: yes, width: 8, kernel: 3}]",
        "1: stages[0].depth: must be a whole number, got 'yes'",
    ),
    "depth as true": (
        "stages: [{depth: true, width: 8, kernel: 3}]",
        "1: stages[0].depth: must be a whole number, got True",
    ),
    "empty choice": (
        "stages: [{depth: {choice: []}, width: 8, kernel: 3}]",
        "1: stages[0].depth: choice must be a list of at least one value, got []",
    ),
    "choice of one thing twice": (
        "stages: [{depth: {choice: [1, 1.0]}, width: 8, kernel: 3}]",
        "1: stages[0].depth: choice must hold each value once, got 1.0 twice; remove one",
    ),
    "axis inside an axis": (
        "stages: [{depth: {choice: [{int: [1, 2]}]}, width: 8, kernel: 3}]",
        "1: stages[0].depth: choice must hold plain values, got another axis inside it",
    ),
    "misspelt kind of axis": (
        "stages: [{depth: {choise: [1]}, width: 8, kernel: 3}]",
        "1: stages[0].depth: must be a value or one axis: {choice: [...]}",
    ),
    "low above high": (
        "stages: [{depth: {int: [4, 2]}, width: 8, kernel: 3}]",
        "1: stages[0].depth: int needs low <= high, got low 4, high 2",
    ),
    "placement of other letters": (
        "stages: [{depth: 1, width: 8, kernel: 7, placement: LX}]",
        "1: stages[0].placement: must be letters L (large kernel) and S (depthwise 3x3), got 'LX'",
    ),
    "placement as number": (
        "stages: [{depth: 1, width: 8, kernel: 7, placement: 1}]",
        "1: stages[0].placement: must be letters L (large kernel) and S (depthwise 3x3), got 1",
    ),
    "branch wider than its kernel": (
        "stages: [{depth: 1, width: 8, kernel: 7, dilations: [[5, 2]]}]",
        "1: stages[0].dilations: every branch must lie inside the kernel, (k - 1) r + 1 <= K, "
        "got a branch of 9 pixels beside kernel 7 of stages[0]",
    ),
    "branches too wide for every kernel of a later stage": (
        f"stages:\n  - {{depth: 1, width: 8, kernel: 13}}\n  - {STAGE}\n"
        "every_stage:\n  dilations: {choice: [[[5, 2]], [[3, 4]]]}",
        "5: every_stage.dilations: every branch must lie inside the kernel, (k - 1) r + 1 <= K, "
        "got a branch of 9 pixels beside kernel 7 of stages[1]",
    ),
    "branches too wide, shared": (
        f"stages: [{STAGE}]\nshared: {{dilations: [[9, 1]]}}",
        "2: shared.dilations: every branch must lie inside the kernel",
    ),
    "branch of an even kernel": (
        "stages: [{depth: 1, width: 8, kernel: 7, dilations: [[4, 1]]}]",
        "1: stages[0].dilations: must hold branches of an odd kernel from 1 to 151, got [4, 1]",
    ),
    "branch that is no pair": (
        "stages: [{depth: 1, width: 8, kernel: 7, dilations: [5, 1]}]",
        "1: stages[0].dilations: must hold [kernel, dilation] pairs of whole numbers, got 5",
    ),
    "dilations of an unknown word": (
        "stages: [{depth: 1, width: 8, kernel: 7, dilations: papers}]",
        "1: stages[0].dilations: must be one of: none, paper, got 'papers'; did you mean 'paper'?",
    ),
    "unknown structure": (
        f"stages: [{STAGE}]\nshared:\n  structure: {{choice: [none, botleneck]}}",
        "3: shared.structure: must be one of: none, se, bottleneck, pointwise, depthwise, "
        "got 'botleneck'; did you mean 'bottleneck'?",
    ),
    "unknown block": (
        f"block: unireplnet\nstages: [{STAGE}]",
        "1: block: must be one of: unireplknet, replknet, slak, convnext, got 'unireplnet'; "
        "did you mean 'unireplknet'?",
    ),
    "unknown key at the top": (
        f"blok: convnext\nstages: [{STAGE}]",
        "1: blok: unknown key; did you mean 'block'?",
    ),
    "unknown key of a stage": (
        "stages:\n  - depth: 1\n    width: 8\n    kernl: 3",
        "4: stages[0].kernl: unknown key; did you mean 'kernel'?",
    ),
    "unknown key like none": (
        f"stages: [{STAGE}]\nzzz: 1",
        "2: zzz: unknown key; must be one of: name, input, stem, stages, every_stage, shared,",
    ),
    "unknown key of every_stage": (
        f"stages: [{STAGE}]\nevery_stage: {{dilation: none}}",
        "2: every_stage.dilation: unknown key; did you mean 'dilations'?",
    ),
    "unknown key of shared": (
        f"stages: [{STAGE}]\nshared: {{structur: se}}",
        "2: shared.structur: unknown key; did you mean 'structure'?",
    ),
    "unknown key of input": (
        f"input: {{chanels: 3}}\nstages: [{STAGE}]",
        "1: input.chanels: unknown key; did you mean 'channels'?",
    ),
    "unknown key of stem": (
        f"stem: {{strid: 2}}\nstages: [{STAGE}]",
        "1: stem.strid: unknown key; did you mean 'stride'?",
    ),
    "unknown constraint": (
        f"stages: [{STAGE}]\nconstraints:\n  parms: {{max: 1}}",
        "3: constraints.parms: unknown key; did you mean 'params'?",
    ),
    "unknown bound": (
        f"stages: [{STAGE}]\nconstraints: {{params: {{maximum: 1}}}}",
        "2: constraints.params.maximum: unknown key",
    ),
    "key of no axis": (
        "stages: [{depth: 1, width: {int: [8, 16], setp: 8}, kernel: 3}]",
        "1: stages[0].width: unknown key 'setp' beside int; did you mean 'step'?",
    ),
    "stem stride 3": (
        f"stem: {{stride: 3}}\nstages: [{STAGE}]",
        "1: stem.stride: must be 1, 2 or 4, got 3",
    ),
    "stem as word": (
        f"stem: unireplknet\nstages: [{STAGE}]",
        "1: stem: must be a mapping, got 'unireplknet'; keys: kind, stride",
    ),
    "no stages": ("name: a\n", "1: stages: must be given, got none; add a list of one to four"),
    "empty stages": ("stages: []", "1: stages: must be a list of one to 4 stages, got 0"),
    "five stages": (
        f"stages: [{', '.join([STAGE] * 5)}]",
        "1: stages: must be a list of one to 4 stages, got 5",
    ),
    "stages as mapping": (
        "stages: {depth: 1}",
        "1: stages: must be a list of one to 4 stages, got {'depth': 1}",
    ),
    "a stage that is no mapping": (
        f"stages:\n  - {STAGE}\n  - 7",
        "3: stages[1]: must be a mapping, got 7; keys: depth, width",
    ),
    "an empty every_stage": (
        f"stages: [{STAGE}]\nevery_stage:\n",
        "2: every_stage: must be a mapping, got None; keys: depth,",
    ),
    "key in every_stage and shared": (
        f"stages: [{STAGE}]\nevery_stage: {{structure: se}}\nshared:\n  structure: none",
        "4: shared.structure: must stand in one place, also in every_stage; remove one",
    ),
    "shared key that every stage has": (
        f"stages: [{STAGE}]\nshared: {{kernel: {{choice: [3, 7]}}}}",
        "2: shared.kernel: has no effect, every stage has its own; remove one",
    ),
    "key of another family": (
        "block: convnext\nstages:\n  - {depth: 1, width: 8, kernel: 7, structure: se}",
        "3: stages[0].structure: must stand with block unireplknet, got block convnext, where it",
    ),
    "sparsity without slak": (
        f"weights_sparsity: 0.4\nstages: [{STAGE}]",
        "1: weights_sparsity: must stand with block slak, got block unireplknet, where it has no",
    ),
    "image of no pixels": (
        f"input: {{size: 0}}\nstages: [{STAGE}]",
        "1: input.size: must be from 1 to 8192, got 0; nearest: 1",
    ),
    "image of three sides": (
        f"input: {{size: [3, 32, 32]}}\nstages: [{STAGE}]",
        "1: input.size: must be one side or [height, width] in pixels, got [3, 32, 32]",
    ),
    "image side as text": (
        f"input: {{size: [32, '32']}}\nstages: [{STAGE}]",
        "1: input.size[1]: must be a whole number, got '32'",
    ),
    "no channels": (
        f"input: {{channels: 0}}\nstages: [{STAGE}]",
        "1: input.channels: must be from 1 to 1024, got 0; nearest: 1",
    ),
    "image too small for convnext": (
        f"input: {{channels: 3, size: 16}}\nblock: convnext\nstages: [{', '.join([STAGE] * 4)}]",
        "1: input.size: must be at least 32 pixels wide and high for stem stride 4 and 4 stages, "
        "got 16x16",
    ),
    "image too flat for convnext": (
        f"input: {{channels: 3, size: [32, 4]}}\nblock: slak\nstages: [{STAGE}, {STAGE}]",
        "1: input.size: must be at least 8 pixels wide and high for stem stride 4 and 2 stages, "
        "got 32x4",
    ),
    "bound as text": (
        f"stages: [{STAGE}]\nconstraints:\n  params: {{max: 2M}}",
        "3: constraints.params.max: must be a number of at least 0, got '2M'",
    ),
    "negative bound": (
        f"stages: [{STAGE}]\nconstraints: {{macs: {{min: -1}}}}",
        "2: constraints.macs.min: must be a number of at least 0, got -1",
    ),
    "bounds crossed": (
        f"stages: [{STAGE}]\nconstraints: {{macs: {{min: 2e6, max: 1e6}}}}",
        "2: constraints.macs: min <= max must hold, got min 2e+06, max 1e+06",
    ),
    "constraint without bounds": (
        f"stages: [{STAGE}]\nconstraints: {{macs: {{}}}}",
        "2: constraints.macs: must have min, max or both, got neither",
    ),
    "constraint as number": (
        f"stages: [{STAGE}]\nconstraints: {{macs: 1e6}}",
        "2: constraints.macs: must be a mapping, got 1000000.0; keys: min, max",
    ),
    "infinite bound": (
        f"stages: [{STAGE}]\nconstraints: {{macs: {{max: .inf}}}}",
        "2: constraints.macs.max: must be a finite number, got .inf",
    ),
    "bound out of range": (
        f"stages: [{STAGE}]\nconstraints: {{macs: {{max: 1e999}}}}",
        "2: constraints.macs.max: must be a finite number, got 1e999",
    ),
    "name as number": (f"name: 7\nstages: [{STAGE}]", "1: name: must be text, got 7"),
    "empty name": (f"name: ''\nstages: [{STAGE}]", "1: name: must be text, got ''"),
    "duplicate key": (
        f"stages: [{STAGE}]\nname: a\nstages: [{STAGE}]",
        "3: stages: must stand once, also on line 1; keep one",
    ),
    "ratio of nothing": (
        f"stages: [{STAGE}]\nshared: {{ffn_ratio: 0}}",
        "2: shared.ffn_ratio: must be above 0 and at most 64, got 0",
    ),
    "layer scale as text": (
        f"stages: [{STAGE}]\nshared: {{layer_scale: off}}",
        "2: shared.layer_scale: must be none or a number, got 'off'",
    ),
    "axis of hidden widths": (
        "stages:\n  - {depth: 1, width: 8, kernel: 3, ffn_hidden: {choice: [30, 37]}}",
        "2: stages[0].ffn_hidden: must be one value, not an axis, got {'choice': [30, 37]}; "
        "for several widths write ffn_ratio: {choice: [...]}",
    ),
    "range of hidden widths for all": (
        f"stages: [{STAGE}]\nshared: {{ffn_hidden: {{int: [30, 37]}}}}",
        "2: shared.ffn_hidden: must be one value, not an axis, got {'int': [30, 37]}; for",
    ),
    "axis of ratios beside a hidden width": (
        "stages:\n  - depth: 1\n    width: 8\n    kernel: 3\n    ffn_hidden: 37\n"
        "    ffn_ratio: {choice: [2, 4]}",
        "6: stages[0].ffn_ratio: must be one value or be left out beside ffn_hidden, got "
        "{choice: [2, 4]}, which has no effect there; remove one",
    ),
    "ratios for all beside hidden widths for all": (
        f"stages: [{STAGE}]\nevery_stage:\n  ffn_hidden: 37\n  ffn_ratio: {{choice: [2, 4]}}",
        "4: every_stage.ffn_ratio: has no effect beside ffn_hidden; remove one",
    ),
    "shared ratios beside hidden widths": (
        f"stages: [{STAGE}]\nevery_stage: {{ffn_hidden: 37}}\n"
        "shared: {ffn_ratio: {choice: [2, 4]}}",
        "3: shared.ffn_ratio: has no effect, every stage has its own; remove one",
    ),
    "default written out": (
        f"head: default\nstages: [{STAGE}]",
        "1: head: must be one of: pool_norm, norm_pool, dense, got 'default'",
    ),
    "list at the top": ("- a", "1: must be a mapping of keys such as 'stages:', got a list"),
    "long junk": (
        f"stages: [{STAGE}]\nname: {[['x'] * 200]}",
        "2: name: must be text, got [['x', 'x',",
    ),
    "key over two lines": (f'stages: [{STAGE}]\n"a\\nb": 1', r"2: 'a\nb': unknown key;"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_space_is_one_sentence_with_file_line_and_path(case: str) -> None:
    text, said = MALFORMED[case]
    with pytest.raises(SpaceError) as refused:
        parse_space(text, name="space.yaml")
    assert str(refused.value).startswith(f"space.yaml:{said}")
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 400


def test_there_are_at_least_sixty_malformed_spaces() -> None:
    assert len(MALFORMED) >= 60


@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-4, 200),
            st.floats(allow_nan=False, allow_infinity=False),
            st.sampled_from(["none", "paper", "se", "L", "LS", "slak", "x", ""]),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(
                st.sampled_from(["choice", "int", "float", "step", "log", "min", "max", "kind"]),
                inner,
                max_size=3,
            ),
        ),
        max_leaves=6,
    ),
    st.sampled_from(
        [
            "name", "input", "stem", "stages", "every_stage", "shared", "constraints", "block",
            "head", "kernel", "width", "depth", "dilations", "placement", "structure", "ffn_ratio",
            "layer_scale", "channels", "size", "stride", "params",
        ]
    ),
)  # fmt: skip
def test_any_value_anywhere_is_read_or_refused(value: object, key: str) -> None:
    top: dict[str, object] = {"stages": [{"depth": 1, "width": 8, "kernel": 7}]}
    places = {
        "stage": {"stages": [{"depth": 1, "width": 8, "kernel": 7, key: value}]},
        "top": {**top, key: value},
        "every_stage": {**top, "every_stage": {key: value}},
        "shared": {**top, "shared": {key: value}},
        "input": {**top, "input": {key: value}},
        "stem": {**top, "stem": {key: value}},
        "constraints": {**top, "constraints": {key: value}},
    }
    for plain in places.values():
        with contextlib.suppress(SpaceError):
            assert isinstance(parse_space(yaml.safe_dump(plain)), DesignSpace)


@given(st.data())
def test_a_changed_character_is_read_or_refused(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(EXAMPLE) - 1))
    other = data.draw(st.characters(codec="utf-8"))
    with contextlib.suppress(SpaceError):
        space = parse_space(EXAMPLE[:place] + other + EXAMPLE[place + 1 :])
        space.bound(size=(28, 28), channels=1).count()


NETWORK = "input: {channels: 1, size: 8}\nstem: {stride: 1}\nstages: [{depth: 1, width: 8, %s}]\n"


def written(folder: Path, keys: str) -> Architecture:
    """Read the network of one stage with these keys."""
    path = folder / "net.yaml"
    path.write_text(NETWORK % keys)
    return load_architecture(path)


def test_a_network_file_is_built_as_written(tmp_path: Path) -> None:
    network = written(tmp_path, "kernel: 31, dilations: paper")
    assert network.stages[0].kernel == 31
    assert network.stages[0].dilations == ((3, 7), (3, 10), (3, 13), (5, 1), (15, 2))
    assert network.dead_taps > 0


@pytest.mark.parametrize(
    ("keys", "same"),
    [
        ("kernel: 31, dilations: paper", "kernel: 15, dilations: paper"),
        ("kernel: 31, dilations: [[5, 4]]", "kernel: 15, dilations: [[3, 4]]"),
        ("kernel: 3, placement: L", "kernel: 13, placement: S"),
        ("kernel: 7, placement: LS", "kernel: 7, placement: L"),
        ("kernel: 7, structure: none, se_ratio: 2", "kernel: 7, structure: none"),
    ],
)
def test_the_id_of_a_network_file_is_that_of_its_canonical_form(
    tmp_path: Path, keys: str, same: str
) -> None:
    assert written(tmp_path, keys).id == written(tmp_path, same).id


@pytest.mark.parametrize("keys", ["kernel: 31, dilations: paper", "kernel: 5", "kernel: 13"])
def test_a_network_file_is_also_a_space_of_size_one(tmp_path: Path, keys: str) -> None:
    network = written(tmp_path, keys)
    space = load_space(tmp_path / "net.yaml")
    (only,) = space.census.all()
    assert (space.count(), only.id) == (1, network.id)
    assert space.contains(network)


@pytest.mark.parametrize("seed", range(12))
def test_a_dumped_network_is_read_back_by_both_readers(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.yaml"
    for network in list(random_space(seed, most=200).census.all())[::7]:
        path.write_text(dump_architecture(network, name="best"))
        assert load_architecture(path) == network
        space = load_space(path)
        assert (space.name, space.count()) == ("best", 1)
        assert next(space.census.all()).id == network.id


@given(
    hidden=st.lists(st.none() | st.integers(1, 200), min_size=1, max_size=3),
    ratio=st.sampled_from([0.5, 2, 2.5, 4]),
    block=st.sampled_from(["unireplknet", "replknet", "slak", "convnext"]),
    factor=st.sampled_from([1, 1.3]),
)
def test_a_hidden_width_goes_through_yaml(
    hidden: list[int | None], ratio: float, block: str, factor: float
) -> None:
    stages = tuple(
        Stage(depth=1, width=10 * n, placement="S", ffn_ratio=ratio, ffn_hidden=h)
        for n, h in enumerate(hidden, start=1)
    )
    network = Architecture(
        size=(16, 16),
        block=block,
        stem=Stem(kind="patchify", stride=2),
        transition="convnext",
        width_factor=factor if block == "slak" else 1,
        stages=stages,
    )
    text = dump_architecture(network, name="a")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.yaml"
        path.write_text(text)
        assert load_architecture(path) == network
        space = load_space(path)
    (only,) = space.census.all()
    assert only == network.canonical
    assert space.contains(network)
    assert space.answers(network) == {}
    assert space.neighbours(network) == []


def test_beside_a_hidden_width_the_ratio_of_other_stages_is_no_axis() -> None:
    row = "{depth: 1, width: {choice: [24, 48]}, kernel: 3%s}"
    text = f"""\
input: {{channels: 1, size: 28}}
stages: [{row % ", ffn_hidden: 96"}, {row % ""}]
shared: {{ffn_ratio: {{choice: [2, 4]}}}}
"""
    space = parse_space(text)
    networks = list(space.census.all())
    assert space.count() == len({network.id for network in networks}) == 2 * 2 * 2
    for network in networks:
        assert network == network.canonical
        assert network.stages[0].ffn_width == 96
        assert set(space.answers(network)) == {
            "stages[0].width",
            "stages[1].width",
            "shared.ffn_ratio",
        }
        assert len(space.neighbours(network)) == 3
    stage = replace(networks[0].stages[0], ffn_hidden=97)
    assert not space.contains(replace(networks[0], stages=(stage, networks[0].stages[1])))


def test_a_dumped_network_as_written_keeps_its_dead_taps(tmp_path: Path) -> None:
    network = written(tmp_path, "kernel: 31, dilations: paper")
    path = tmp_path / "a.yaml"
    path.write_text(dump_architecture(network, name="a"))
    assert load_architecture(path) == network


def test_an_open_axis_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    said = "must be one value in a network, got an axis"
    with pytest.raises(SpaceError, match=rf"net\.yaml:3: stages\[0\]\.kernel: {said}"):
        written(tmp_path, "kernel: {choice: [3, 7]}")
    for part in ("shared", "every_stage"):
        path.write_text(NETWORK.replace(", %s", "") + f"{part}: {{kernel: {{choice: [3, 7]}}}}")
        with pytest.raises(SpaceError, match=rf"net\.yaml:4: {part}\.kernel: {said}"):
            load_architecture(path)


def test_a_network_without_input_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(f"stages: [{STAGE}]")
    with pytest.raises(
        SpaceError, match=r"net\.yaml:1: input: must be given in a network, got none"
    ):
        load_architecture(path)


@pytest.mark.parametrize("name", shipped_names())
def test_what_is_shipped_can_be_read_by_name(name: str) -> None:
    space = load_space(name)
    assert space.where == f"{name}.yaml"
    assert space.bound(size=(28, 28), channels=1).count() >= 1
    assert load_space(name.upper()).name == space.name


def test_unknown_names_suggest_the_nearest_shipped_one() -> None:
    with pytest.raises(
        SpaceError,
        match=r"^unireplknet_q: must be a YAML file or a shipped name, got neither; did you",
    ):
        load_architecture("unireplknet_q")


@pytest.mark.parametrize("source", ["missing.yaml", "a/b", "a\0", "x" * 5000, "", ".."])
def test_a_source_that_is_no_file_is_refused(source: str) -> None:
    with pytest.raises(
        SpaceError, match=r": must be a (file that can be read|YAML file or a ship)"
    ):
        load_space(source)


def test_a_file_goes_before_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").write_text(f"name: mine\nstages: [{STAGE}]")
    monkeypatch.chdir(tmp_path)
    assert load_space("tiny").name == "mine"


@pytest.mark.parametrize("part", ["every_stage", "shared"])
def test_a_small_kernel_beyond_the_kernel_of_a_network_is_refused_with_its_line(
    part: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(
        "input: {channels: 3, size: 32}\nblock: replknet\n"
        f"stages: [{{depth: 1, width: 8, kernel: 7}}]\n{part}: {{small_kernel: 9}}\n"
    )
    with pytest.raises(
        SpaceError, match=rf"net.yaml:4: {part}.small_kernel: must be at most the kernel, got 9 bes"
    ):
        load_architecture(path)
