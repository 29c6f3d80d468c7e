"""What adds depth inside a block: the rows of table 1 of UniRepLKNet (arXiv 2311.15599).

They stand after the depthwise convolution and its norm, before the pointwise pair. The paper gives
SE in full, and of the others the convolutions, parameters and MACs. Ours, within those numbers: an
identity shortcut around them, a batch norm after each convolution (it folds), ReLU between them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from builders.backends import Backends
from builders.dense import DenseConv
from builders.depthwise import DepthwiseConv
from builders.layers import NormedConv, pointwise_conv
from builders.parts import PartCost, Row, same_cost

SQUEEZE = 4
"""Width of a block over that of the 1x1, 3x3, 1x1 or 1x1, 1x1 convolutions inside it."""


class SqueezeExcite(nn.Module):
    """y = x sigmoid(W2 ReLU(W1 mean(x))), the mean over the map.

    Source: Squeeze-and-Excitation Networks, arXiv 1709.01507, section 3.
    """

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.down = DenseConv(width, squeezed, 1)
        self.up = DenseConv(squeezed, width, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Rescale each channel of each image."""
        mean_BC11 = x_BCHW.mean(dim=(2, 3), keepdim=True)
        gate_BC11: Tensor = self.up(F.relu(self.down(mean_BC11))).sigmoid()
        return x_BCHW * gate_BC11


class Shortcut(nn.Module):
    """y = x + f(x), f the layers in turn with ReLU between them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Add what the layers make of x to x."""
        first, *others = self.layers
        y_BCHW: Tensor = first(x_BCHW)
        for layer in others:
            y_BCHW = layer(F.relu(y_BCHW))
        return x_BCHW + y_BCHW


def none(width: int, se_ratio: int, backends: Backends) -> nn.Module:  # noqa: ARG001
    """Add nothing."""
    return nn.Identity()


def none_cost(width: int, se_ratio: int, area: int) -> PartCost:  # noqa: ARG001
    """Count nothing."""
    return same_cost(0, 0, 0)


def se(width: int, se_ratio: int, backends: Backends) -> nn.Module:  # noqa: ARG001
    """Make squeeze-and-excitation with a squeezed width of width // se_ratio, at least 1."""
    return SqueezeExcite(width, max(1, width // se_ratio))


def se_cost(width: int, se_ratio: int, area: int) -> PartCost:  # noqa: ARG001
    """Count `se`: two 1x1 convolutions with bias on a 1 x 1 map."""
    squeezed = max(1, width // se_ratio)
    params = 2 * width * squeezed + squeezed + width
    macs = 2 * width * squeezed
    return same_cost(params, macs, squeezed + width)


def bottleneck(width: int, se_ratio: int, backends: Backends) -> nn.Module:  # noqa: ARG001
    """Make 1x1 to a quarter of the width, depthwise 3x3, 1x1 back."""
    inner = max(1, width // SQUEEZE)
    return Shortcut(
        _pointwise(width, inner),
        NormedConv(DepthwiseConv(inner, 3, backends=backends)),
        _pointwise(inner, width),
    )


def bottleneck_cost(width: int, se_ratio: int, area: int) -> PartCost:  # noqa: ARG001
    """Count `bottleneck`."""
    inner = max(1, width // SQUEEZE)
    return _normed_cost(2 * width * inner + 9 * inner, 2 * inner + width, area)


def pointwise(width: int, se_ratio: int, backends: Backends) -> nn.Module:  # noqa: ARG001
    """Make 1x1 to a quarter of the width, 1x1 back."""
    inner = max(1, width // SQUEEZE)
    return Shortcut(_pointwise(width, inner), _pointwise(inner, width))


def pointwise_cost(width: int, se_ratio: int, area: int) -> PartCost:  # noqa: ARG001
    """Count `pointwise`."""
    inner = max(1, width // SQUEEZE)
    return _normed_cost(2 * width * inner, inner + width, area)


def depthwise(width: int, se_ratio: int, backends: Backends) -> nn.Module:  # noqa: ARG001
    """Make two depthwise 3x3."""
    return Shortcut(*(NormedConv(DepthwiseConv(width, 3, backends=backends)) for _ in range(2)))


def depthwise_cost(width: int, se_ratio: int, area: int) -> PartCost:  # noqa: ARG001
    """Count `depthwise`."""
    return _normed_cost(18 * width, 2 * width, area)


def _pointwise(inputs: int, outputs: int) -> NormedConv:
    return NormedConv(pointwise_conv(inputs, outputs))


def _normed_cost(weights: int, outputs: int, area: int) -> PartCost:
    """Count convolutions at stride 1, each with a norm that folds, on a map of `area` pixels.

    Every one of their `weights` acts once a pixel; `outputs` is the sum of their output widths.
    """
    macs, folded = weights * area, weights + outputs
    return PartCost(folded + outputs, folded, folded, macs, macs, macs, outputs * area)


STRUCTURES = {
    "none": Row(build=none, cost=none_cost),
    "se": Row(build=se, cost=se_cost),
    "bottleneck": Row(build=bottleneck, cost=bottleneck_cost),
    "pointwise": Row(build=pointwise, cost=pointwise_cost),
    "depthwise": Row(build=depthwise, cost=depthwise_cost),
}
"""Structures by their words: build(width, se_ratio, backends), cost(width, se_ratio, pixels)."""
