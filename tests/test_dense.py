"""Dense convolutions: torch's numbers and gradients, the bias' by a plain sum."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from builders.backends import AUTO, Backends, use_backends
from builders.dense import MOST_WEIGHTS, DenseConv, dense_conv
from builders.feed_forward import PixelLinear
from builders.layers import like, pointwise_conv
from builders.native import FLAGS, NoCompiler, compiled

NARROW = (*FLAGS, "-mno-avx512f")
"""Vectors of 8 numbers where the processor has some of 16."""


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(1, 1, 0, (5, 4)), (3, 1, 1, (7, 6)), (3, 2, 1, (7, 8)), (2, 2, 0, (6, 9)), (4, 4, 0, (8, 8))],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_torchs_convolution(
    kernel: int,
    stride: int,
    padding: int,
    size: tuple[int, int],
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    ours = DenseConv(3, 6, kernel, stride, padding)
    theirs = nn.Conv2d(3, 6, kernel, stride, padding)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, *size).contiguous(memory_format=layout)
    results = []
    for conv in (ours, theirs):
        own = x.clone().requires_grad_()
        y = conv(own)
        weights = torch.linspace(-1, 1, y.numel()).view_as(y)
        y.backward(weights)
        results.append((y.detach(), own.grad, conv.weight.grad, conv.bias.grad))

    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert "DenseConv" in type(ours(x).grad_fn).__name__


def test_the_first_convolution_asks_for_no_gradient_of_the_images() -> None:
    conv = DenseConv(3, 4, 3, 2, 1)
    x = torch.randn(2, 3, 8, 8)

    conv(x).sum().backward()

    assert x.grad is None
    assert conv.weight.grad is not None


def test_a_frozen_convolution_passes_the_gradient_on() -> None:
    conv = DenseConv(3, 4, 1).requires_grad_(requires_grad=False)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)

    conv(x).sum().backward()

    assert x.grad is not None
    assert conv.bias is not None
    assert conv.bias.grad is None


def test_float64_half_precision_and_graphs_take_torchs_own_operator() -> None:
    conv = DenseConv(3, 4, 3, 2, 1)
    x = torch.randn(1, 3, 8, 8)

    assert "Convolution" in type(copy.deepcopy(conv).double()(x.double()).grad_fn).__name__
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "DenseConv" not in type(conv(x).grad_fn).__name__
    exported = torch.export.export(conv, (x,))
    operators = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert operators == {"aten.conv2d.default"}


def test_a_convolution_without_bias_is_torchs_own() -> None:
    weight = torch.randn(4, 3, 1, 1, requires_grad=True)

    y = dense_conv(torch.randn(1, 3, 2, 2), weight, None)

    assert "Convolution" in type(y.grad_fn).__name__


# ---- 1x1 convolutions in C


@pytest.fixture(scope="module", params=[FLAGS, NARROW], ids=["widest", "narrow"])
def native(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Backends:
    if request.param is NARROW and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has vectors of one width")
    try:
        library = compiled(tmp_path_factory.mktemp("native"), flags=request.param)
    except NoCompiler as error:
        pytest.skip(str(error))
    return Backends(library=str(library))


@pytest.fixture
def conv(native: Backends) -> DenseConv:
    conv = DenseConv(5, 7, 1)
    use_backends(conv, native)
    return conv


def operands(pixels: tuple[int, int, int], inputs: int, outputs: int) -> list[Tensor]:
    images, rows, columns = pixels
    return [
        torch.randn(images, inputs, rows, columns).contiguous(memory_format=torch.channels_last),
        torch.randn(outputs, inputs, 1, 1),
        torch.randn(outputs),
    ]


def values_and_gradients(
    given: list[Tensor], grad: Tensor, backends: Backends = AUTO, *, bias: bool = True
) -> list[Tensor]:
    x, weight, offset = (operand.detach().requires_grad_() for operand in given)
    y = dense_conv(x, weight, offset if bias else None, backends=backends)
    assert ("PointwiseConv" in type(y.grad_fn).__name__) == backends.native
    y.backward(grad)
    grads = [x.grad, weight.grad, *([offset.grad] if bias else [])]
    return [y.detach(), *(grad for grad in grads if grad is not None)]


@pytest.mark.parametrize("inputs", [1, 3, 8, 17, 33, 100])
@pytest.mark.parametrize("outputs", [1, 3, 8, 17, 33, 100])
@pytest.mark.parametrize("pixels", [(1, 1, 1), (1, 7, 1), (32, 14, 14)])
def test_pointwise_products_are_those_of_float64(
    native: Backends, inputs: int, outputs: int, pixels: tuple[int, int, int]
) -> None:
    given = operands(pixels, inputs, outputs)
    grad = torch.randn(pixels[0], outputs, *pixels[1:])
    bias = (inputs + outputs) % 2 == 0

    found = values_and_gradients(given, grad, native, bias=bias)
    double = [operand.double() for operand in given]
    expected = values_and_gradients(double, grad.double(), bias=bias)

    assert len(found) == len(expected) == 3 + bias
    for actual, right in zip(found, expected, strict=True):
        assert actual.shape == right.shape
        assert (actual.double() - right).abs().max() < 1e-5 * right.abs().max()


@pytest.mark.parametrize("sides", [(128, 512), (65, 49), (16, 48)])
def test_tiles_of_every_width_are_exact(native: Backends, sides: tuple[int, int]) -> None:
    for inputs, outputs in (sides, sides[::-1]):
        given, grad = operands((3, 9, 5), inputs, outputs), torch.randn(3, outputs, 9, 5)

        found = values_and_gradients(given, grad, native)
        expected = values_and_gradients([one.double() for one in given], grad.double())

        for actual, right in zip(found, expected, strict=True):
            assert (actual.double() - right).abs().max() < 1e-5 * right.abs().max()


def test_a_layout_of_the_map_or_the_gradient_changes_nothing(native: Backends) -> None:
    given, grad = operands((2, 5, 4), 6, 9), torch.randn(2, 9, 5, 4)
    other = [given[0].contiguous(), given[1].transpose(0, 1).contiguous().transpose(0, 1), given[2]]

    found = values_and_gradients(given, grad, native)
    again = values_and_gradients(other, grad.contiguous(memory_format=torch.channels_last), native)

    for first, second in zip(found, again, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("wanted", range(1, 8))
def test_only_the_gradients_that_are_wanted_are_given(native: Backends, wanted: int) -> None:
    given, grad = operands((2, 3, 3), 4, 6), torch.randn(2, 6, 3, 3)
    right = values_and_gradients(given, grad, native)[1:]
    needs = [bool(wanted >> place & 1) for place in range(3)]
    leaves = [one.clone().requires_grad_(need) for one, need in zip(given, needs, strict=True)]

    dense_conv(*leaves, backends=native).backward(grad)

    for leaf, need, expected in zip(leaves, needs, right, strict=True):
        assert (leaf.grad is not None) == need
        assert leaf.grad is None or torch.equal(leaf.grad, expected)


def test_no_image_at_all_is_no_access(native: Backends) -> None:
    given = operands((0, 3, 3), 4, 6)

    y, grad_x, grad_weight, grad_bias = values_and_gradients(given, torch.randn(0, 6, 3, 3), native)

    assert y.shape == (0, 6, 3, 3)
    assert grad_x.shape == (0, 4, 3, 3)
    assert not grad_weight.any()
    assert not grad_bias.any()


def test_a_map_that_is_not_finite_spoils_its_own_pixel_only(native: Backends) -> None:
    x, weight, bias = operands((1, 4, 5), 3, 5)
    x[0, 1, 2, 3] = torch.nan
    weight.requires_grad_()

    y = dense_conv(x, weight, bias, backends=native)

    assert y.isnan().any(dim=1).sum() == 1
    assert y[0, :, 2, 3].isnan().all()


def test_modules_of_the_families_use_it(native: Backends) -> None:
    x = torch.randn(2, 4, 3, 3)
    for module in (PixelLinear(4, 6), DenseConv(4, 6, 1), pointwise_conv(4, 6)):
        plain = module(x)
        use_backends(module, native)
        y = module(x)

        assert "PointwiseConv" in type(y.grad_fn).__name__
        torch.testing.assert_close(y, plain, rtol=1e-5, atol=1e-5)
        twin = like(module, module.weight, module.bias)
        assert torch.equal(twin(x), y)
        assert "PointwiseConv" in type(twin(x).grad_fn).__name__


def test_where_it_does_not_run_torch_computes(conv: DenseConv) -> None:
    x = torch.randn(2, 5, 4, 4)

    assert "PointwiseConv" in type(conv(x).grad_fn).__name__
    assert "PointwiseConv" not in type(copy.deepcopy(conv).double()(x.double()).grad_fn).__name__
    with torch.no_grad():
        assert torch.equal(conv.eval()(x), nn.Conv2d.forward(conv, x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "PointwiseConv" not in type(conv(x).grad_fn).__name__
    exported = torch.export.export(conv, (x,))
    operators = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert operators == {"aten.conv2d.default"}


def test_convolutions_it_is_not_made_for_are_torchs(native: Backends) -> None:
    many = MOST_WEIGHTS // 256 + 1
    others = (DenseConv(4, 6, 3), DenseConv(4, 6, 1, 2), DenseConv(4, 6, 1, padding=1))
    for module in (*others, DenseConv(256, many, 1)):
        use_backends(module, native)
        y = module(torch.randn(1, module.in_channels, 4, 4))
        assert "PointwiseConv" not in type(y.grad_fn).__name__


def test_more_threads_are_torchs(conv: DenseConv) -> None:
    torch.set_num_threads(2)
    try:
        y = conv(torch.randn(2, 5, 4, 4))
    finally:
        torch.set_num_threads(1)

    assert "PointwiseConv" not in type(y.grad_fn).__name__
