"""The layers that blocks are made of, and how each of them merges.

Maps are (B, C, H, W) in channels_last memory: (B, H, W, C) is a view for the pointwise layers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builders.depthwise import DepthwiseConv, Impl
from builders.merge import (
    dilated_to_dense,
    fold_norm,
    place_kernel,
    push_bias,
    scale_output,
)
from builders.response import respond

_Layer = TypeVar("_Layer", bound=nn.Module)


class Mergeable(nn.Module):
    """A layer with a smaller equal at inference."""

    @abstractmethod
    def merged(self) -> nn.Module:
        """Give a new layer that equals this one in eval mode; this one stays as it is."""


class NormedConv(Mergeable):
    """y = BN(conv(x))."""

    def __init__(self, conv: nn.Conv2d | DepthwiseConv) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.weight.shape[0])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve and normalise."""
        y_BCHW: Tensor = self.norm(self.conv(x_BCHW))
        return y_BCHW

    def folded(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the one convolution that equals this, in float64."""
        return _fold(self.conv.weight, self.conv.bias, self.norm)

    def merged(self) -> nn.Module:
        """Give the convolution with the norm inside."""
        weight, bias = self.folded()
        conv = self.conv
        if isinstance(conv, DepthwiseConv):
            merged = DepthwiseConv(
                conv.width, conv.kernel, dilation=conv.dilation, bias=True, impl=conv.impl
            )
            return _set(merged, weight, bias, like=conv.weight)
        outputs, inputs, side, _ = weight.shape
        dense = nn.Conv2d(inputs * conv.groups, outputs, side, groups=conv.groups)
        return _set(dense, weight, bias, like=conv.weight)


class DilatedReparam(Mergeable):
    """y = BN(BN_0(conv_K(x)) + sum over branches (k, r) of BN_kr(conv_kr(x))).

    conv_kr is a depthwise k x k convolution at dilation r. This is the Dilated Reparam Block with
    the norm that follows it; without branches a K x K convolution and two norms. Merged it is one
    K x K convolution.

    Source: UniRepLKNet, arXiv 2311.15599, section 3.1. Ours: any odd K, any branches within it.
    """

    def __init__(
        self, width: int, kernel: int, branches: Iterable[tuple[int, int]], *, impl: Impl = "auto"
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.branches = nn.ModuleList(
            NormedConv(DepthwiseConv(width, k, dilation=r, impl=impl))
            for k, r in ((kernel, 1), *branches)
        )
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Sum the branches and normalise."""
        first, *others = self.branches
        y_BCHW: Tensor = first(x_BCHW)
        for branch in others:
            y_BCHW = y_BCHW + branch(x_BCHW)
        normed_BCHW: Tensor = self.norm(y_BCHW)
        return normed_BCHW

    def merged(self) -> nn.Module:
        """Give the K x K convolution in which branches and norms are folded."""
        first, *others = (branch for branch in self.branches if isinstance(branch, NormedConv))
        weight, bias = first.folded()
        for branch in others:
            small, offset = branch.folded()
            dilation = branch.conv.dilation
            assert isinstance(dilation, int)  # branches are DepthwiseConv
            weight = weight + place_kernel(dilated_to_dense(small, dilation), self.kernel)
            bias = bias + offset
        weight, bias = _fold(weight, bias, self.norm)
        assert isinstance(first.conv, DepthwiseConv)
        conv = DepthwiseConv(first.conv.width, self.kernel, bias=True, impl=first.conv.impl)
        return _set(conv, weight, bias, like=first.conv.weight)


class ResponseNorm(nn.Module):
    """Global response normalisation: y = x (1 + gamma n) + beta, n_c = |x_c| / mean_c |x_c|.

    |x_c| is the Euclidean norm of channel c over the map of one image.

    Source: ConvNeXt V2, arXiv 2301.00808, section 3. gamma and beta keep the four dimensions of the
    official code, where this decides that weight decay acts on them.
    """

    def __init__(self, width: int, *, bias: bool = True) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width)) if bias else None

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Rescale the channels of (B, H, W, C)."""
        return respond(x_BHWC, self.gamma, self.beta)


class Mlp(nn.Module):
    """y = W2 GRN(GELU(W1 x + b1)) [+ b2], the same at every pixel but for the norm."""

    def __init__(self, width: int, hidden: int, *, merged: bool = False) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.response = ResponseNorm(hidden, bias=not merged)
        self.project = nn.Linear(hidden, width, bias=merged)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        hidden_BHWC = self.response(F.gelu(self.expand(x_BCHW.permute(0, 2, 3, 1))))
        y_BHWC: Tensor = self.project(hidden_BHWC)
        return y_BHWC.permute(0, 3, 1, 2)


class FeedForward(Mergeable):
    """y = s BN(W2 GRN(GELU(W1 x + b1))), s the layer scale, one number a channel, or 1."""

    def __init__(self, width: int, hidden: int, *, layer_scale: float = 0.0) -> None:
        super().__init__()
        self.mlp = Mlp(width, hidden)
        self.norm = nn.BatchNorm2d(width)
        self.scale = nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix the channels of (B, C, H, W)."""
        y_BCHW: Tensor = self.norm(self.mlp(x_BCHW))
        return y_BCHW if self.scale is None else y_BCHW * self.scale.view(1, -1, 1, 1)

    def merged(self) -> nn.Module:
        """Give the two layers with norm, layer scale and GRN's beta folded into the second."""
        expand, response, project = self.mlp.expand, self.mlp.response, self.mlp.project
        weight = project.weight.double()
        bias = None
        if response.beta is not None:
            bias = push_bias(weight, None, response.beta.double().flatten())
        weight, bias = _fold(weight, bias, self.norm)
        if self.scale is not None:
            scale = self.scale.double()
            weight, bias = scale_output(weight, scale), bias * scale
        with torch.device("meta"):  # the weights come from here, none are drawn
            mlp = Mlp(expand.in_features, expand.out_features, merged=True)
        assert expand.bias is not None
        _set(mlp.expand, expand.weight, expand.bias, like=expand.weight)
        mlp.response.gamma = nn.Parameter(response.gamma.detach().clone())
        _set(mlp.project, weight, bias, like=project.weight)
        return mlp


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


def _fold(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Fold in float64, whatever the weights are: the only rounding is that of the final cast."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return fold_norm(
        weight.double(),
        None if bias is None else bias.double(),
        mean=norm.running_mean.double(),
        var=norm.running_var.double(),
        gamma=norm.weight.double(),
        beta=norm.bias.double(),
        eps=norm.eps,
    )


def _set(layer: _Layer, weight: Tensor, bias: Tensor, *, like: Tensor) -> _Layer:
    """Give the layer these parameters, with the dtype of `like`."""
    layer.weight = nn.Parameter(weight.detach().to(like.dtype, copy=True))
    layer.bias = nn.Parameter(bias.detach().to(like.dtype, copy=True))
    return layer
