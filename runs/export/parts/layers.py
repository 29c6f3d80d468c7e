"""What the parts share: convolutions, norms and folding."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DropPath(nn.Module):
    """Leave out what a block adds for a random share of the images, and scale up the rest.

    Acts in training only. Source: stochastic depth, arXiv 1603.09382.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Zero whole images of (B, C, H, W)."""
        if not self.training or not self.rate:
            return x
        kept = 1 - self.rate
        return x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(kept) / kept

    def merged(self) -> nn.Module:
        """Give the identity."""
        return nn.Identity()


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel of (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    """Make a 1x1 convolution without bias, as a norm that follows wants it."""
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def depthwise(
    width: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    dilation: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Make a convolution with one odd kernel a channel, padded so that stride 1 keeps the map."""
    height, breadth = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(
        width,
        width,
        (height, breadth),
        stride,
        (dilation * (height // 2), dilation * (breadth // 2)),
        dilation,
        groups=width,
        bias=bias,
    )


class NormedConv(nn.Module):
    """y = BN(conv(x))."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise."""
        y: Tensor = self.norm(self.conv(x))
        return y

    def folded(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the one convolution that equals this."""
        return fold_after(self.conv.weight, self.conv.bias, self.norm)

    def merged(self) -> nn.Module:
        """Give the convolution with the norm inside."""
        return with_weights(self.conv, *self.folded())


class PreNormedConv(nn.Module):
    """y = BN_1(conv(BN_0(x))), the convolution 1x1."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(conv.in_channels)
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, convolve and normalise."""
        y: Tensor = self.norm(self.conv(self.before(x)))
        return y

    def merged(self) -> nn.Module:
        """Give the convolution with both norms inside."""
        weight, bias = fold_before(self.conv.weight, self.conv.bias, self.before)
        return with_weights(self.conv, *fold_after(weight, bias, self.norm))


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Give s and t of a batch norm in eval mode, which is s x + t, in float64."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = norm.weight.double() / torch.sqrt(var.double() + norm.eps)
    return scale, norm.bias.double() - mean.double() * scale


def fold_after(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold the norm behind a convolution: s (W x + b) + t = (s W) x + (s b + t)."""
    scale, shift = scale_and_shift(norm)
    if bias is not None:
        shift = shift + scale * bias.double()
    return weight.double() * scale.view(-1, 1, 1, 1), shift


def fold_before(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold the norm in front of a 1x1 convolution: W (s x + t) + b = (W s) x + (W t + b)."""
    scale, shift = scale_and_shift(norm)
    pushed = weight.double().flatten(1) @ shift
    if bias is not None:
        pushed = pushed + bias.double()
    return weight.double() * scale.view(1, -1, 1, 1), pushed


def with_weights(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Give a copy of a convolution that holds this weight and bias in the dtype of the old."""
    new, dtype = copy.deepcopy(conv), conv.weight.dtype
    new.weight = nn.Parameter(weight.detach().to(dtype))
    new.bias = None if bias is None else nn.Parameter(bias.detach().to(dtype))
    return new


def enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a map to this height and width, bilinearly."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
