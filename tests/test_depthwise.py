"""The depthwise convolution: the same numbers as torch's own, and the right gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from builders.backends import AUTO, Backends
from builders.depthwise import DepthwiseConv


def _gradients(conv: DepthwiseConv, x_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x_BCHW = x_BCHW.detach().requires_grad_()
    y_BCHW = conv(x_BCHW)
    # A gradient that is different at every pixel: of a plain sum a shifted kernel would pass.
    y_BCHW.backward(torch.linspace(-1, 1, y_BCHW.numel(), dtype=x_BCHW.dtype).view_as(y_BCHW))
    assert x_BCHW.grad is not None
    assert conv.weight.grad is not None
    return y_BCHW.detach(), x_BCHW.grad, conv.weight.grad


@pytest.mark.parametrize(
    ("kernel", "dilation", "size"),
    [
        (1, 1, (3, 3)),
        (3, 1, (4, 5)),
        (3, 2, (5, 4)),
        (3, 7, (9, 8)),  # beyond the register block: by phases, on a map that r does not divide
        (3, 9, (4, 4)),  # every tap but the middle one outside
        (5, 4, (6, 3)),
        (13, 1, (3, 4)),  # kernel beyond 2H - 1
    ],
)
def test_the_fast_gradient_is_the_gradient(
    kernel: int, dilation: int, size: tuple[int, int]
) -> None:
    conv = DepthwiseConv(
        2, kernel, dilation=dilation, bias=True, backends=Backends(rest="torch")
    ).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        named = {"weight": weight, "bias": bias}
        return torch.func.functional_call(conv, named, (x,))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(convolve, (x, *conv.parameters()))


@pytest.mark.parametrize(
    ("kernel", "dilation"),
    [(1, 1), (3, 1), (3, 3), (3, 8), (5, 1), (7, 2), (9, 2), (13, 1), (31, 1)],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_implementations_agree_in_float32(
    kernel: int, dilation: int, layout: torch.memory_format
) -> None:
    fast = DepthwiseConv(8, kernel, dilation=dilation, backends=AUTO)
    slow = DepthwiseConv(8, kernel, dilation=dilation, backends=Backends(rest="reference"))
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(3, 8, 14, 11).contiguous(memory_format=layout)

    for actual, expected in zip(_gradients(fast, x), _gradients(slow, x), strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=0, atol=2e-6 * scale)


def test_parameters_have_the_names_and_shapes_of_a_grouped_conv2d() -> None:
    ours = DepthwiseConv(6, 5, bias=True).state_dict()
    theirs = torch.nn.Conv2d(6, 6, 5, groups=6).state_dict()

    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_a_map_in_channels_last_stays_so() -> None:
    x = torch.randn(2, 8, 9, 9).contiguous(memory_format=torch.channels_last)

    for kernel, dilation in ((3, 1), (13, 1), (3, 8)):
        y = DepthwiseConv(8, kernel, dilation=dilation)(x)
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_only_a_recorded_gradient_takes_the_fast_path() -> None:
    conv = DepthwiseConv(4, 7)
    x = torch.randn(1, 4, 8, 8)

    assert "NormedSum" in type(conv(x).grad_fn).__name__
    with torch.no_grad():
        assert conv(x).grad_fn is None


def test_a_frozen_kernel_still_passes_the_gradient_on() -> None:
    conv = DepthwiseConv(4, 7)
    conv.weight.requires_grad_(requires_grad=False)
    x = torch.randn(1, 4, 8, 8, requires_grad=True)

    conv(x).sum().backward()

    assert conv.weight.grad is None
    assert x.grad is not None


def test_an_exported_convolution_is_torchs_own() -> None:
    conv = DepthwiseConv(4, 7, bias=True)
    x = torch.randn(1, 4, 8, 8)

    exported = torch.export.export(conv, (x,))

    operators = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert operators == {"aten.conv2d.default"}
    torch.testing.assert_close(exported.module()(x), conv(x))


def test_autocast_to_half_precision_runs() -> None:
    conv = DepthwiseConv(4, 7)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(torch.randn(1, 4, 8, 8))
    y.float().sum().backward()

    assert y.dtype == torch.bfloat16
    assert conv.weight.grad is not None


@pytest.mark.parametrize("side", [28, 32])
def test_a_dilated_kernel_trains_in_half_precision_on_large_maps(side: int) -> None:
    # torch's own gradient is noise there from a side of 29 on (2.13, AVX-512).
    torch.manual_seed(0)
    conv = DepthwiseConv(4, 3, dilation=3)
    x = torch.randn(2, 4, side, side)
    conv(x).square().sum().backward()
    assert conv.weight.grad is not None
    expected, conv.weight.grad = conv.weight.grad, None

    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(x)
    y.float().square().sum().backward()

    assert y.dtype == torch.bfloat16
    alike = torch.cosine_similarity(conv.weight.grad.flatten(), expected.flatten(), dim=0)
    assert alike > 0.999


def test_a_strip_has_the_gradients_of_torchs_convolution() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64, requires_grad=True)
    gradients = []
    for name in ("reference", "torch"):
        torch.manual_seed(1)
        conv = DepthwiseConv(3, (11, 5), bias=True, backends=Backends(rest=name)).double()  # type: ignore[arg-type]
        y = conv(x)
        assert y.shape == x.shape
        gradients.append(torch.autograd.grad(y.square().sum(), [x, *conv.parameters()]))

    for expected, actual in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
