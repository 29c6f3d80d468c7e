"""Dense convolutions: what torch computes slowly on a CPU is computed here in other ways."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from builders.backends import AUTO, Backends, runs_eagerly
from builders.native import Native, loaded

MOST_WEIGHTS = 65536
"""Inputs times outputs up to which the native backend computes 1x1 convolutions.

oneDNN takes 30 to 100 us for a call. Forward and backward, one thread, oneDNN over ours: 3.0 for 8
to 16 channels (32 images of 14 x 14), 2.2 for 32 to 64 (7 x 7), 1.4 for 32 to 128 (64 of 16 x 16),
1.2 for 96 to 384 (14 x 14), 1.3 for 128 to 512 (64 of 4 x 4), 11 for the gates of squeeze and
excitation; but 1.0 for 256 to 1024 (7 x 7), and 0.7 for 512 to 2048 (AVX-512 EPYC, torch 2.13).
So the operators alone; as modules, with what autograd takes, 1.8 to 2.8 for the first, 1.4 to 2.4
for the second, 1.1 to 1.4 for the third, 3.5 to 5 for the gates (without and with bias).
"""


class DenseConv(nn.Conv2d):
    """`nn.Conv2d`, cheaper to train on a CPU (see `dense_conv`); the same parameters."""

    backends: Backends = AUTO

    def forward(self, input: Tensor) -> Tensor:  # torch's name
        """Convolve (B, C, H, W)."""
        assert isinstance(self.padding, tuple)
        return dense_conv(
            input,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            backends=self.backends,
        )


def dense_conv(
    x_BCHW: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    backends: Backends = AUTO,
) -> Tensor:
    """Give the convolution of a map.

    On one thread the native backend computes 1x1 convolutions of few weights (`MOST_WEIGHTS`).

    Of the others oneDNN sums the gradient of the bias beside that of the weight, and takes as long
    again for it: 4.2 against 2.4 ms where a plain sum takes 0.6 (64 images of 16 x 16, 32 to 128
    channels, 1 thread of an EPYC, torch 2.13).
    """
    ours = (
        x_BCHW.device.type == "cpu"
        and torch.is_grad_enabled()
        and x_BCHW.dtype == weight.dtype == torch.float32
        and (bias is None or bias.dtype == torch.float32)
        and not torch.is_autocast_enabled("cpu")
        and runs_eagerly()
    )
    y_BCHW: Tensor
    if ours and _native_is_faster(weight, stride, padding, backends):
        assert backends.library is not None
        y_BCHW = _PointwiseConv.apply(  # type: ignore[no-untyped-call]
            x_BCHW, weight, bias, loaded(backends.library)
        )
    elif ours and bias is not None:
        y_BCHW = _DenseConv.apply(  # type: ignore[no-untyped-call]
            x_BCHW, weight, bias, stride, padding
        )
    else:
        y_BCHW = F.conv2d(x_BCHW, weight, bias, stride, padding)
    return y_BCHW


def _native_is_faster(
    weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...], backends: Backends
) -> bool:
    outputs, inputs, *sides = weight.shape
    return (
        backends.native
        and sides == [1, 1]
        and tuple(stride) == (1, 1)
        and tuple(padding) == (0, 0)
        and inputs * outputs <= MOST_WEIGHTS
        and torch.get_num_threads() == 1
    )


class _PointwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, native: Native
    ) -> Tensor:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        ctx.save_for_backward(x_BCHW, weight)
        ctx.native = native
        return native.pointwise(x_BCHW, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, weight = ctx.saved_tensors
        grad_BCHW = grad_BCHW.contiguous(memory_format=torch.channels_last)
        wanted = ctx.needs_input_grad[:3]
        return *ctx.native.pointwise_back(x_BCHW, weight, grad_BCHW, wanted), None


class _DenseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x_BCHW, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, weight = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:2], False]
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad_BCHW,
            x_BCHW,
            weight,
            None,
            ctx.stride,
            ctx.padding,
            [1, 1],
            False,
            [0, 0],
            1,
            wanted,
        )
        return grad_x, grad_weight, grad_BCHW.sum(dim=(0, 2, 3)), None, None
