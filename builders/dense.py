"""Dense convolutions, of which torch computes the gradient of a bias slowly on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from builders.backends import runs_eagerly


class DenseConv(nn.Conv2d):
    """`nn.Conv2d` whose bias costs one sum over the map in training; the same parameters."""

    def forward(self, input: Tensor) -> Tensor:  # torch's name
        """Convolve (B, C, H, W)."""
        assert isinstance(self.padding, tuple)
        stride, padding = self.stride, self.padding
        return dense_conv(input, self.weight, self.bias, stride=stride, padding=padding)


def dense_conv(
    x_BCHW: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
) -> Tensor:
    """Give the convolution of a map.

    oneDNN sums the gradient of the bias beside that of the weight, and takes as long again for it:
    4.2 against 2.4 ms where a plain sum takes 0.6 (64 images of 16 x 16, 32 to 128 channels, 1
    thread of an EPYC, torch 2.13).
    """
    ours = (
        bias is not None
        and x_BCHW.device.type == "cpu"
        and torch.is_grad_enabled()
        and x_BCHW.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and runs_eagerly()
    )
    if not ours:
        return F.conv2d(x_BCHW, weight, bias, stride, padding)
    y_BCHW: Tensor = _DenseConv.apply(  # type: ignore[no-untyped-call]
        x_BCHW, weight, bias, stride, padding
    )
    return y_BCHW


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
