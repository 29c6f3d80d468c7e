"""What every row of every table must hold."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builders.backends import AUTO
from builders.blocks import BLOCKS
from builders.heads import HEADS
from builders.layers import Mergeable
from builders.network import inference_network, merge_network
from builders.parts import PartCost, Row
from builders.stems import STEMS
from builders.structures import STRUCTURES
from builders.transitions import TRANSITIONS
from evaluators.counting import count
from search_space.architecture import Stage, Stem
from search_space.families import FAMILIES, HEAD_KINDS, STEM_KINDS, TRANSITION_KINDS, transition_map
from search_space.families import STRUCTURES as STRUCTURE_WORDS
from tests.random_architectures import randomise

SIZE = (9, 7)
WIDTH = 8
HEAD_WIDTHS = (WIDTH, 6)
HEAD_MAPS = (SIZE, (5, 4))


class Case:
    """A part, the channels that it takes, and what its row says that it costs on `SIZE`."""

    def __init__(self, part: nn.Module, channels: int, cost: PartCost, *, keeps: bool) -> None:
        self.part = part
        self.channels = channels
        self.cost = cost
        self.keeps_shape = keeps


class HeadOnMaps(nn.Module):
    """A head behind two maps, the second half as large, of an image twice the size of the first."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        second = F.avg_pool2d(x, 2, ceil_mode=True)[:, : HEAD_WIDTHS[1]]
        size = 2 * x.shape[-2], 2 * x.shape[-1]
        y: Tensor = self.head([x, second], size)
        return y


def _block(row: Row, kernel: int, structure: str = "se") -> Case:
    stage = Stage(
        depth=1,
        width=WIDTH,
        kernel=kernel,
        placement="L",
        dilations=((3, 1), (3, 2)) if kernel > 3 else (),
        structure=structure,
        layer_scale=0.1,
        small_kernel=min(kernel, 5),
        dw_ratio=1.5,
        strip=5,
    )
    cost = row.cost(stage, kernel, SIZE[0] * SIZE[1])
    return Case(row.build(stage, kernel), WIDTH, cost, keeps=True)


def _stem(row: Row, kind: str, stride: int) -> Case:
    stem = Stem(kind=kind, stride=stride)
    return Case(row.build(stem, 3, WIDTH), 3, row.cost(stem, 3, WIDTH, SIZE), keeps=False)


def _cases() -> dict[str, Case]:
    cases = {
        f"block {kind} K{kernel}": _block(row, kernel)
        for kind, row in BLOCKS.items()
        for kernel in (3, 5, 7, 13)
    }
    block = BLOCKS["unireplknet"]
    cases |= {f"block with {name}": _block(block, 7, name) for name in STRUCTURES}
    for name, row in STRUCTURES.items():
        cost = row.cost(WIDTH, 4, SIZE[0] * SIZE[1])
        cases[f"structure {name}"] = Case(row.build(WIDTH, 4, AUTO), WIDTH, cost, keeps=True)
    for kind, row in STEMS.items():
        cases |= {f"stem {kind} {stride}": _stem(row, kind, stride) for stride in (1, 2, 4)}
    for kind, row in TRANSITIONS.items():
        made = [transition_map(kind, side) for side in SIZE]
        cost = row.cost(WIDTH, 10, SIZE[0] * SIZE[1], made[0] * made[1])
        cases[f"transition {kind}"] = Case(row.build(WIDTH, 10), WIDTH, cost, keeps=False)
    for kind, row in HEADS.items():
        cost = row.cost(HEAD_WIDTHS, 3, HEAD_MAPS)
        part = HeadOnMaps(row.build(HEAD_WIDTHS, 3))
        cases[f"head {kind}"] = Case(part, WIDTH, cost, keeps=False)
    return cases


CASES = sorted(_cases())


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    # Built for each test: a test must not see what another has trained.
    return _cases()[request.param]


def _images(case: Case, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, case.channels, *SIZE, dtype=dtype)


def test_every_word_of_the_yaml_has_a_row() -> None:
    assert set(BLOCKS) == set(FAMILIES)
    assert set(STEMS) == set(STEM_KINDS)
    assert set(TRANSITIONS) == set(TRANSITION_KINDS)
    assert set(HEADS) == set(HEAD_KINDS)
    assert set(STRUCTURES) == set(STRUCTURE_WORDS)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_it_keeps_the_shape_where_it_should(case: Case) -> None:
    x = _images(case)

    assert (case.part(x).shape == x.shape) is case.keeps_shape


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_every_parameter_gets_a_gradient(case: Case) -> None:
    randomise(case.part)
    y = case.part(_images(case).requires_grad_())
    (y * torch.randn_like(y)).sum().backward()

    without = [
        name
        for name, parameter in case.part.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_merged_equals_original(case: Case) -> None:
    part = case.part.double().eval()
    randomise(part)
    x = _images(case, torch.float64)

    torch.testing.assert_close(merge_network(part)(x), part(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_no_norm_over_the_batch_is_left_when_merged(case: Case) -> None:
    kinds = {type(module) for module in merge_network(case.part).modules()}

    assert not any(issubclass(kind, Mergeable | nn.BatchNorm2d) for kind in kinds)


@pytest.mark.parametrize("case", CASES, indirect=True)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_merges_and_runs(case: Case, dtype: torch.dtype) -> None:
    part = case.part.to(dtype).eval()

    y = merge_network(part)(_images(case, dtype))

    assert y.dtype == dtype
    assert y.isfinite().all()


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_its_cost_is_what_is_counted(case: Case) -> None:
    merged = inference_network(case.part)
    train, after = (count(part, SIZE, case.channels) for part in (case.part, merged))

    given = case.cost
    assert (train.params, train.macs) == (given.params_train, given.macs_train)
    assert (after.params, after.macs) == (given.params_inference, given.macs_inference)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_it_copies_and_pickles(case: Case) -> None:
    part = case.part.eval()
    x = _images(case)

    assert torch.equal(copy.deepcopy(part)(x), part(x))
    assert torch.equal(pickle.loads(pickle.dumps(part))(x), part(x))
