"""Depthwise convolution whose gradient is exact and fast on a CPU.

Letters of the shapes: B images, C channels, H and W sides of the map, K side of the kernel,
or Kh and Kw where it is a strip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Impl = Literal["auto", "reference", "torch"]


class DepthwiseConv(nn.Module):
    """One kernel a channel, stride 1, padded so that (B, C, H, W) keeps its shape.

    The parameters have the shapes of `nn.Conv2d`: weight (C, 1, Kh, Kw), bias (C) or None.
    """

    def __init__(
        self,
        width: int,
        kernel: int | tuple[int, int],
        *,
        dilation: int = 1,
        bias: bool = False,
        impl: Impl = "auto",
    ) -> None:
        """Draw the weights from torch's global generator; the bias starts at zero.

        Args:
            width: number of channels.
            kernel: side of the kernel, or its height and width; odd.
            dilation: distance in pixels of neighbouring taps.
            bias: whether to add one number a channel.
            impl: "reference" is torch's own convolution, "torch" the fast gradient below, and
                "auto" the second where it is faster: float32 on a CPU while a gradient is recorded.
        """
        super().__init__()
        self.width = width
        self.kernel = kernel
        self.dilation = dilation
        self.impl: Impl = impl
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.weight = nn.Parameter(torch.empty(width, 1, *sides))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve, and keep the shape."""
        if not _loses(x_BCHW, self.weight, self.dilation):
            return self._convolved(x_BCHW, self.weight, self.bias)
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x_BCHW.dtype
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast("cpu", enabled=False):
            return self._convolved(x_BCHW.float(), self.weight.float(), bias).to(low)

    def _convolved(self, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.impl == "torch" or (self.impl == "auto" and _pays(x_BCHW, weight, self.dilation)):
            y_BCHW: Tensor = _FastDepthwise.apply(  # type: ignore[no-untyped-call]
                x_BCHW, weight, self.dilation
            )
            return y_BCHW if bias is None else y_BCHW + bias.view(1, -1, 1, 1)
        return _convolve(x_BCHW, weight, self.dilation, bias=bias)

    def extra_repr(self) -> str:
        """Say the shape in one line, for whoever shows a network."""
        return f"{self.width}, kernel={self.kernel}, dilation={self.dilation}, impl={self.impl!r}"


class _FastDepthwise(torch.autograd.Function):
    """The convolution with both gradients written as forward convolutions.

    torch computes the weight gradient of a depthwise kernel > 3 on a CPU at a few per cent of the
    speed of a forward pass, and the input gradient of a dilated one likewise (torch 2.13, AVX2 and
    AVX-512). Both are forward convolutions of other operands, so nothing is approximated.
    """

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight: Tensor, dilation: int) -> Tensor:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x_BCHW, weight)
        ctx.dilation = dilation
        return _convolve_by_phases(x_BCHW, weight, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_BCHW, weight = ctx.saved_tensors
        grad_BCHW = grad_BCHW.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _convolve_by_phases(grad_BCHW, weight.flip(2, 3), ctx.dilation)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(x_BCHW, grad_BCHW, weight.shape[2:], ctx.dilation)
        return grad_x, grad_weight, None


def runs_eagerly() -> bool:
    """Say whether torch is neither tracing, compiling nor exporting: these want plain operators."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not tracing and not torch.compiler.is_compiling()


def _recorded(x_BCHW: Tensor, weight: Tensor) -> bool:
    return torch.is_grad_enabled() and (x_BCHW.requires_grad or weight.requires_grad)


def _loses(x_BCHW: Tensor, weight: Tensor, dilation: int) -> bool:
    """Say whether torch would lose the gradient: of a dilated kernel in half precision on a CPU.

    Beyond maps of 28 pixels bfloat16 gives noise, NaN or a crash there (torch 2.13, AVX-512), so
    these few convolutions are trained in float32.
    """
    low = x_BCHW.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled("cpu")
    return dilation > 1 and x_BCHW.device.type == "cpu" and low and _recorded(x_BCHW, weight)


def _pays(x_BCHW: Tensor, weight: Tensor, dilation: int) -> bool:
    return (
        _recorded(x_BCHW, weight)
        and x_BCHW.device.type == "cpu"
        and x_BCHW.dtype == weight.dtype == torch.float32
        and (max(weight.shape[2:]) > 3 or dilation > 1)
        and not torch.is_autocast_enabled("cpu")
        and runs_eagerly()
    )


def _convolve(
    x_BCHW: Tensor, weight: Tensor, dilation: int, *, bias: Tensor | None = None
) -> Tensor:
    padding = _padding(weight.shape[2:], dilation)
    return F.conv2d(x_BCHW, weight, bias, 1, padding, dilation, weight.shape[0])


def _padding(sides: Sequence[int], dilation: int) -> tuple[int, int]:
    height, width = sides
    return dilation * (height // 2), dilation * (width // 2)


def _convolve_by_phases(x_BCHW: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Convolve, splitting the map where oneDNN has no fast kernel for this dilation.

    Pixels whose positions differ by multiples of the dilation r never meet the others, so the map
    falls into r x r smaller maps on which the kernel is dense. oneDNN's fast depthwise kernel wants
    the padding within one register block: 4 pixels with AVX2, 6 with AVX-512. Beyond, a 15 x 15
    kernel at r = 2 on 28 x 28 falls from 5 ms to 230 (32 channels, 64 images, 1 thread of an EPYC).
    """
    limit = 6 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 4
    if dilation == 1 or max(_padding(weight.shape[2:], dilation)) <= limit:
        return _convolve(x_BCHW, weight, dilation)
    images, width, height, length = x_BCHW.shape
    r, rows, columns = dilation, -(-height // dilation), -(-length // dilation)
    padded = F.pad(x_BCHW, (0, columns * r - length, 0, rows * r - height))
    phases = padded.permute(0, 2, 3, 1).reshape(images, rows, r, columns, r, width)
    phases = phases.permute(0, 2, 4, 1, 3, 5).reshape(images * r * r, rows, columns, width)
    y = _convolve(phases.permute(0, 3, 1, 2), weight, 1).permute(0, 2, 3, 1)
    y = y.reshape(images, r, r, rows, columns, width).permute(0, 3, 1, 4, 2, 5)
    y = y.reshape(images, rows * r, columns * r, width)[:, :height, :length]
    return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _weight_gradient(
    x_BCHW: Tensor, grad_BCHW: Tensor, sides: Sequence[int], dilation: int
) -> Tensor:
    """Give dL/dweight, (C, 1, Kh, Kw), by convolving each channel of an image with its gradient.

    The gradient plays the kernel, as large as the map; the dilation of the forward pass becomes the
    stride, because neighbouring taps of the kernel look at pixels that far apart.
    """
    images, width, height, length = x_BCHW.shape
    groups = images * width
    x = x_BCHW.permute(2, 3, 0, 1).reshape(1, height, length, groups).permute(0, 3, 1, 2)
    grad = grad_BCHW.permute(2, 3, 0, 1).reshape(height, length, groups, 1).permute(2, 3, 0, 1)
    each = F.conv2d(x, grad, None, dilation, _padding(sides, dilation), 1, groups)
    return each.view(images, width, *sides).sum(0).unsqueeze(1)
