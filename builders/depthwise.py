"""Depthwise convolution whose gradient is exact and fast on a CPU.

Letters of the shapes: B images, C channels, H and W sides of the map, K side of the kernel,
or Kh and Kw where it is a strip.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builders.backends import AUTO, Backends
from builders.normed_sum import normed_sum


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
        backends: Backends = AUTO,
    ) -> None:
        """Draw the weights from torch's global generator; the bias starts at zero.

        Args:
            width: number of channels.
            kernel: side of the kernel, or its height and width; odd.
            dilation: distance in pixels of neighbouring taps.
            bias: whether to add one number a channel.
            backends: what computes it while a gradient is recorded.
        """
        super().__init__()
        self.width = width
        self.kernel = kernel
        self.dilation = dilation
        self.backends = backends
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
        y_BCHW = normed_sum(x_BCHW, [weight], [self.dilation], [], None, self.backends)
        if y_BCHW is None:
            padding = [self.dilation * (side // 2) for side in weight.shape[2:]]
            return F.conv2d(x_BCHW, weight, bias, 1, padding, self.dilation, weight.shape[0])
        return y_BCHW if bias is None else y_BCHW + bias.view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        """Say the shape in one line, for whoever shows a network."""
        return f"{self.width}, kernel={self.kernel}, dilation={self.dilation}"


def _loses(x_BCHW: Tensor, weight: Tensor, dilation: int) -> bool:
    """Say whether torch would lose the gradient: of a dilated kernel in half precision on a CPU.

    Beyond maps of 28 pixels bfloat16 gives noise, NaN or a crash there (torch 2.13, AVX-512), so
    these few convolutions are trained in float32.
    """
    low = x_BCHW.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled("cpu")
    recorded = torch.is_grad_enabled() and (x_BCHW.requires_grad or weight.requires_grad)
    return dilation > 1 and x_BCHW.device.type == "cpu" and low and recorded
