"""What the parts of every family share: norms, normed convolutions, drop path, and merging.

Maps are (B, C, H, W) in channels_last memory: (B, H, W, C) is a view for the pointwise layers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from builders.backends import AUTO, Backends
from builders.dense import DenseConv
from builders.depthwise import DepthwiseConv
from builders.merge import absorb_input, fold_norm
from builders.normed_sum import normed_sum
from builders.norms import native_batch_norm, native_layer_norm

EPS = 1e-6
"""What every LayerNorm adds to the variance, in all families that have one."""

_Layer = TypeVar("_Layer", bound=DepthwiseConv | nn.Conv2d | nn.Linear)


class Mergeable(nn.Module):
    """A layer with a smaller equal at inference."""

    @abstractmethod
    def merged(self) -> nn.Module:
        """Give a new layer that equals this one in eval mode; this one stays as it is."""


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel of (B, C, H, W)."""

    backends: Backends = AUTO

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise; no copy where the map is channels_last."""
        y_BCHW = native_layer_norm(x_BCHW, self, self.backends)
        if y_BCHW is None:
            y_BCHW = super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y_BCHW


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, cheaper to train on a CPU; the same parameters and statistics."""

    backends: Backends = AUTO

    def forward(self, input: Tensor) -> Tensor:  # torch's name
        """Normalise, and in training move the running statistics."""
        y_BCHW = native_batch_norm(input, self, self.backends)
        return super().forward(input) if y_BCHW is None else y_BCHW


class NormedConv(Mergeable):
    """y = BN(conv(x))."""

    def __init__(self, conv: nn.Conv2d | DepthwiseConv) -> None:
        super().__init__()
        self.conv = conv
        self.norm = BatchNorm(conv.weight.shape[0])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve and normalise."""
        if isinstance(self.conv, DepthwiseConv):
            return sum_of(x_BCHW, [self])
        y_BCHW: Tensor = self.norm(self.conv(x_BCHW))
        return y_BCHW

    def folded(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the one convolution that equals this, in float64."""
        return fold_after(self.conv.weight, self.conv.bias, self.norm)

    def merged(self) -> nn.Module:
        """Give the convolution with the norm inside."""
        return like(self.conv, *self.folded())


def sum_of(
    x_BCHW: Tensor, branches: Iterable[nn.Module], last: nn.BatchNorm2d | None = None
) -> Tensor:
    """Give last(sum of the branches of x), all depthwise; computed by the backends of the first."""
    summed = [branch for branch in branches if isinstance(branch, NormedConv)]
    convs = [branch.conv for branch in summed if isinstance(branch.conv, DepthwiseConv)]
    y_BCHW = normed_sum(
        x_BCHW,
        [conv.weight for conv in convs],
        [conv.dilation for conv in convs],
        [branch.norm for branch in summed],
        last,
        convs[0].backends,
    )
    if y_BCHW is None:
        first, *others = summed
        y_BCHW = first.norm(first.conv(x_BCHW))
        for branch in others:
            y_BCHW = y_BCHW + branch.norm(branch.conv(x_BCHW))
        y_BCHW = y_BCHW if last is None else last(y_BCHW)
    return y_BCHW


class PreNormedConv(Mergeable):
    """y = BN_1(conv(BN_0(x))), the convolution 1x1."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.before = BatchNorm(conv.in_channels)
        self.conv = conv
        self.norm = BatchNorm(conv.out_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise, convolve and normalise."""
        y_BCHW: Tensor = self.norm(self.conv(self.before(x_BCHW)))
        return y_BCHW

    def merged(self) -> nn.Module:
        """Give the convolution with both norms inside: 1x1 has no padding, so this is exact."""
        weight, bias = fold_before(self.conv.weight, self.conv.bias, self.before)
        return like(self.conv, *fold_after(weight, bias, self.norm))


class DropPath(Mergeable):
    """Drop a block's contribution for a random share of the images, and scale up the rest.

    Source: stochastic depth, arXiv 1603.09382.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Zero whole images in training; change nothing in eval mode."""
        if not self.training or not self.rate:
            return x_BCHW
        kept = 1 - self.rate
        mask = torch.empty(x_BCHW.shape[0], 1, 1, 1, device=x_BCHW.device, dtype=x_BCHW.dtype)
        return x_BCHW * mask.bernoulli_(kept).div_(kept)

    def merged(self) -> nn.Module:
        """Give the identity."""
        return nn.Identity()


def pointwise_conv(inputs: int, outputs: int) -> DenseConv:
    """Make a 1x1 convolution without bias, as a norm that follows wants it."""
    return DenseConv(inputs, outputs, 1, bias=False)


def fold_after(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold the norm behind a layer, in float64: the only rounding is that of the final cast."""
    double = None if bias is None else bias.double()
    mean, var, gamma, beta = _statistics(norm)
    return fold_norm(
        weight.double(), double, mean=mean, var=var, gamma=gamma, beta=beta, eps=norm.eps
    )


def fold_before(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold the norm in front of a layer without padding, in float64."""
    double = None if bias is None else bias.double()
    mean, var, gamma, beta = _statistics(norm)
    scale = gamma / torch.sqrt(var + norm.eps)
    return absorb_input(weight.double(), double, scale=scale, shift=beta - mean * scale)


def like(layer: _Layer, weight: Tensor, bias: Tensor | None) -> _Layer:
    """Give a new layer of this kind and dtype that holds these parameters."""
    sides = (int(weight.shape[-2]), int(weight.shape[-1]))
    with torch.device("meta"):  # the weights are given, none are drawn
        if isinstance(layer, DepthwiseConv):
            new: nn.Module = DepthwiseConv(
                layer.width,
                sides[0] if sides[0] == sides[1] else sides,
                dilation=layer.dilation,
                bias=bias is not None,
                backends=layer.backends,
            )
        elif isinstance(layer, nn.Conv2d):
            new = type(layer)(
                layer.in_channels,
                layer.out_channels,
                sides,
                layer.stride,  # type: ignore[arg-type]  # torch's stubs lose the pair
                layer.padding,  # type: ignore[arg-type]
                groups=layer.groups,
                bias=bias is not None,
            )
        else:
            new = type(layer)(layer.in_features, layer.out_features, bias=bias is not None)
    new.weight = nn.Parameter(weight.detach().to(layer.weight.dtype, copy=True))
    if bias is not None:
        new.bias = nn.Parameter(bias.detach().to(layer.weight.dtype, copy=True))
    assert isinstance(new, type(layer))
    if hasattr(layer, "backends"):
        new.backends = layer.backends
    return new


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    return mean.double(), var.double(), norm.weight.double(), norm.bias.double()
