"""Dense convolutions: torch's numbers and gradients, the bias' by a plain sum."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from builders.dense import DenseConv, dense_conv


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
