"""The backend without a compiler: exact by every method, for every shape."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from builders import torch_backend
from builders.backends import Backends, Kernel, SumShape, SumSpec
from builders.depthwise import DepthwiseConv
from builders.kernels import DilatedReparam, ReparamKernel, Strips
from builders.layers import NormedConv
from builders.torch_convolutions import (
    LONGEST_SUM,
    Operand,
    convolve,
    cropped,
    fast_length,
    gradient_method,
    method,
    reach,
    weight_gradient,
)
from tests.normed_sums import PlainSum, computed_by, errors, made, outcome, shapes

TORCH = Backends(rest="torch")
REFERENCE = Backends(rest="reference")
NEAR = 1e-5
CAPABILITIES = ("AVX512", "AVX2", "DEFAULT")

BRANCHES: dict[str, tuple[Kernel, ...]] = {
    "one": ((5, 5, 1),),
    "dilated": ((5, 5, 1), (3, 3, 2), (3, 3, 3)),
    "strips": ((7, 3, 1), (3, 7, 1), (3, 3, 1)),
    "beyond the map": ((13, 13, 1), (3, 3, 5), (5, 5, 2), (3, 1, 9)),
}
NORMS = ((True, True), (True, False), (False, True), (False, False))


@pytest.fixture(params=CAPABILITIES)
def _capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)


# ---- exactness


@given(shape=shapes(pixels=2000))
@settings(max_examples=30)
def test_every_output_and_gradient_is_that_of_float64(shape: SumShape) -> None:
    found = errors(shape, TORCH)

    assert max(found.values()) < NEAR, {name: error for name, error in found.items() if error}


@pytest.mark.usefixtures("_capability")
@pytest.mark.parametrize(
    ("images", "sides", "kernels"),
    [
        (2, (16, 15), ((13, 13, 1), (11, 11, 1), (3, 3, 7), (5, 3, 3), (9, 9, 2), (7, 7, 2))),
        (1, (48, 50), ((29, 31, 1), (15, 15, 2), (3, 3, 14))),
        (1, (33, 31), ((17, 17, 1), (31, 31, 1))),
        (65, (7, 8), ((13, 13, 1), (7, 7, 1), (7, 3, 1), (3, 7, 1), (3, 3, 2))),
        (1, (1, 30), ((1, 31, 1), (31, 1, 1), (3, 3, 10))),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else None,
)
def test_every_method_is_exact_on_every_processor(
    images: int, sides: tuple[int, int], kernels: tuple[Kernel, ...]
) -> None:
    for normed in (True, False):
        shape = SumShape(images, 3, *sides, kernels, normed=normed, last=normed)
        assert max(errors(shape, TORCH).values()) < NEAR


@pytest.mark.parametrize(("images", "side"), [(1, 4), (100, 4), (3, 7), (64, 7), (1, 14), (3, 14)])
def test_the_published_block_is_exact(images: int, side: int) -> None:
    kernels = ((31, 31, 1), (5, 5, 1), (15, 15, 2), (3, 3, 7), (3, 3, 10), (3, 3, 13))
    found = errors(SumShape(images, 3, side, side, kernels, normed=True, last=True), TORCH)

    assert max(found.values()) < NEAR


@pytest.mark.parametrize("computed", ["torch", "by its modules"])
@pytest.mark.parametrize(("normed", "last"), NORMS)
@pytest.mark.parametrize("kernels", BRANCHES.values(), ids=BRANCHES)
def test_gradcheck_in_float64(
    computed: str, kernels: tuple[Kernel, ...], *, normed: bool, last: bool
) -> None:
    plain, x, _ = made(SumShape(2, 2, 4, 3, kernels, normed, last))
    plain = plain.double()
    x = x.double().requires_grad_()
    parameters = list(plain.parameters())
    compute = computed_by(plain, TORCH) if computed == "torch" else plain

    assert torch.autograd.gradcheck(
        lambda x, *_: compute(x), (x, *parameters), fast_mode=True, atol=1e-6
    )


@pytest.mark.parametrize("kernels", [((3, 3, 1),), ((5, 3, 1),), ((3, 3, 2),)])
def test_a_long_sum_keeps_its_digits(kernels: tuple[Kernel, ...]) -> None:
    shape = SumShape(128, 1, 56, 56, kernels, normed=False, last=False)
    assert shape.images * shape.rows * shape.columns > 6 * LONGEST_SUM

    assert max(errors(shape, TORCH).values()) < NEAR / 2


def test_a_variance_survives_a_mean_a_thousand_times_the_deviation() -> None:
    shape = SumShape(8, 4, 9, 9, ((1, 1, 1),), normed=True, last=False)
    plain, x, _ = made(shape)
    x = x + 1000
    spec = SumSpec(kernels=shape.kernels, normed=True, last=False, eps=(1e-5,))
    weight = plain.get_parameter("convs.0.weight")
    scale_RC, offset_RC = torch.ones(1, 4), torch.zeros(1, 4)

    with torch.no_grad():
        _, _, var_RC = torch_backend.forward(x, [weight], scale_RC, offset_RC, spec)

    y_BCHW = x.double() * weight.double().view(-1, 1, 1)
    expected_C = y_BCHW.var(dim=(0, 2, 3), correction=0)
    assert torch.allclose(var_RC[0].double(), expected_C, rtol=1e-3)


def test_the_running_statistics_are_those_of_batch_norm() -> None:
    shape = SumShape(4, 6, 8, 8, ((7, 7, 1), (3, 3, 2)), normed=True, last=True)
    plain, x, grad = made(shape)
    other = copy.deepcopy(plain)
    for _ in range(3):
        expected = outcome(plain, plain, x, grad)
        actual = outcome(other, computed_by(other, TORCH), x, grad)
    names = [name for name in expected if "running" in name]

    assert len(names) == 6
    for name in names:
        assert torch.allclose(actual[name], expected[name], rtol=1e-5, atol=1e-6), name


# ---- taps that never touch the map


def test_dead_taps_have_a_gradient_of_exactly_zero() -> None:
    shape = SumShape(3, 4, 5, 3, ((13, 13, 1), (5, 5, 2)), normed=True, last=True)
    plain, x, grad = made(shape)
    found = outcome(plain, computed_by(plain, TORCH), x, grad)

    dense, dilated = found["convs.0.weight"], found["convs.1.weight"]
    live = torch.zeros(13, 13, dtype=torch.bool)
    live[2:11, 4:9] = True
    assert bool((dense[:, 0, ~live] == 0).all())
    assert bool((dense[:, 0, live] != 0).all())
    assert bool((dilated[..., [0, 4]] == 0).all())
    assert bool((dilated[..., 1:4] != 0).all())


def test_a_kernel_of_dead_taps_is_its_middle_one() -> None:
    x, weight = torch.randn(2, 3, 7, 7), torch.randn(3, 1, 3, 3)

    y_BCHW = convolve(Operand(x), weight, 7)

    assert torch.allclose(y_BCHW, x * weight[:, :, 1, 1].view(-1, 1, 1))


@pytest.mark.parametrize(
    ("kernel", "sides", "dilation", "expected"),
    [
        ((13, 13), (7, 7), 1, (6, 6)),
        ((31, 5), (7, 9), 1, (6, 2)),
        ((3, 3), (7, 7), 7, (0, 0)),
        ((3, 3), (7, 8), 7, (0, 1)),
        ((15, 15), (14, 14), 2, (6, 6)),
    ],
)
def test_only_taps_within_the_map_count(
    kernel: tuple[int, int], sides: tuple[int, int], dilation: int, expected: tuple[int, int]
) -> None:
    assert reach(kernel, sides, dilation) == expected
    weight = torch.arange(kernel[0] * kernel[1]).view(1, 1, *kernel)
    kept = cropped(weight, sides, dilation)
    assert kept.shape[2:] == tuple(2 * taps + 1 for taps in expected)
    assert kept.flatten()[kept.numel() // 2] == weight.numel() // 2


# ---- the table


@pytest.mark.parametrize(
    ("capability", "sides", "kernel", "dilation", "expected"),
    [
        ("AVX512", (16, 16), (13, 13), 1, "widened"),
        ("AVX2", (16, 16), (13, 13), 1, "plain"),
        ("AVX512", (16, 16), (31, 31), 1, "plain"),
        ("AVX512", (56, 56), (31, 31), 1, "transform"),
        ("AVX512", (32, 32), (31, 31), 1, "plain"),
        ("AVX2", (32, 32), (31, 31), 1, "transform"),
        ("AVX512", (56, 56), (51, 5), 1, "plain"),
        ("AVX512", (16, 16), (7, 7), 2, "plain"),
        ("AVX2", (16, 16), (7, 7), 2, "padded"),
        ("AVX512", (16, 16), (3, 3), 7, "padded"),
        ("AVX512", (16, 16), (15, 15), 2, "phases"),
    ],
)
def test_a_shape_has_a_method(
    monkeypatch: pytest.MonkeyPatch,
    capability: str,
    sides: tuple[int, int],
    kernel: tuple[int, int],
    dilation: int,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert method(sides, kernel, dilation) == expected


@pytest.mark.parametrize(
    ("images", "sides", "kernel", "dilation", "expected"),
    [
        (64, (16, 16), (3, 3), 1, "plain"),
        (64, (16, 16), (13, 3), 1, "plain"),
        (64, (16, 16), (3, 13), 1, "swapped"),
        (64, (16, 16), (13, 13), 1, "swapped"),
        (64, (32, 32), (3, 3), 2, "phases"),
        (64, (8, 8), (3, 3), 2, "swapped"),
        (8, (56, 56), (31, 31), 1, "transform"),
        (64, (7, 7), (13, 13), 1, "toeplitz"),
        (16, (7, 7), (13, 13), 1, "swapped"),
    ],
)
def test_a_weight_gradient_has_a_method(
    images: int, sides: tuple[int, int], kernel: tuple[int, int], dilation: int, expected: str
) -> None:
    assert gradient_method(images, sides, kernel, dilation) == expected


@pytest.mark.parametrize(("least", "length"), [(1, 1), (7, 8), (47, 48), (71, 72), (75, 75)])
def test_a_fast_length_has_small_factors(least: int, length: int) -> None:
    assert fast_length(least) == length


def test_the_weight_gradient_is_that_of_torch() -> None:
    x, grad = torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    expected = nn.grad.conv2d_weight(x, (3, 1, 7, 5), grad, 1, (6, 4), 2, 3)

    found = weight_gradient(Operand(x), Operand(grad), (7, 5), 2)

    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-4)


# ---- what is not wanted, and what is not touched


def test_no_weight_gradient_is_computed_where_none_is_wanted() -> None:
    shape = SumShape(2, 4, 6, 6, ((5, 5, 1), (3, 3, 2)), normed=True, last=True)
    plain, x, grad = made(shape)
    every = outcome(plain, computed_by(plain, TORCH), x, grad)
    for conv in plain.convs:
        conv.requires_grad_(requires_grad=False)
    some = outcome(plain, computed_by(plain, TORCH), x, grad)

    assert torch.equal(every["x"], some["x"])
    assert {name for name in every if name not in some} == {"convs.0.weight", "convs.1.weight"}


def test_the_operands_stay_as_they_were() -> None:
    for normed, last in NORMS:
        plain, x, grad = made(SumShape(2, 4, 6, 6, ((5, 5, 1), (3, 3, 1)), normed, last))
        before = x.clone(), grad.clone()
        outcome(plain, computed_by(plain, TORCH), x, grad)
        assert torch.equal(x, before[0])
        assert torch.equal(grad, before[1])


# ---- through the modules


@pytest.mark.parametrize(
    "make",
    [
        lambda backends: ReparamKernel(6, 9, ((5, 1), (3, 3)), backends=backends),
        lambda backends: DilatedReparam(6, 13, ((5, 1), (7, 2), (3, 4)), backends=backends),
        lambda backends: DilatedReparam(6, 7, (), backends=backends),
        lambda backends: Strips(6, 15, 5, backends=backends),
        lambda backends: NormedConv(DepthwiseConv(6, 5, dilation=2, backends=backends)),
        lambda backends: DepthwiseConv(6, 5, bias=True, backends=backends),
    ],
    ids=["reparam", "dilated reparam", "no branches", "strips", "normed conv", "conv"],
)
def test_a_module_has_the_gradients_of_the_reference(make: object) -> None:
    assert callable(make)
    found = [_gradients(make, backends) for backends in (TORCH, REFERENCE)]

    for name, expected in found[1].items():
        scale = max(1.0, float(expected.abs().max()))
        assert torch.allclose(found[0][name], expected, atol=1e-5 * scale), name


def _gradients(make: object, backends: Backends) -> dict[str, Tensor]:
    torch.manual_seed(1)
    assert callable(make)
    module = make(backends)
    assert isinstance(module, nn.Module)
    x = torch.randn(3, 6, 10, 9).requires_grad_()
    y = module(x)
    (y * torch.randn(3, 6, 10, 9)).sum().backward()
    assert x.grad is not None
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {"x": x.grad, "y": y.detach(), **gradients, **dict(module.named_buffers())}


def test_plain_modules_are_the_oracle_of_these_tests() -> None:
    plain = PlainSum(SumShape(1, 2, 4, 4, ((3, 3, 1),), normed=True, last=True))
    assert {type(module) for module in plain.modules()} == {
        PlainSum,
        nn.ModuleList,
        nn.Conv2d,
        nn.BatchNorm2d,
    }
