"""Downsampling between two stages, each kind with its cost below it; ends in `TRANSITIONS`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from builders.dense import DenseConv
from builders.layers import MapNorm, NormedConv, pointwise_conv
from builders.parts import PartCost, Row, same_cost, torch_default


class UniRepLKNetTransition(nn.Module):
    """y = LN(conv3x3 at stride 2 (x)): (B, C, H, W) to (B, width, H / 2, W / 2), rounded up."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv = DenseConv(before, width, 3, 2, 1)
        self.norm = MapNorm(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Halve the map."""
        y_BCHW: Tensor = self.norm(self.conv(x_BCHW))
        return y_BCHW


def unireplknet_transition_cost(
    before: int,
    width: int,
    area_before: int,  # noqa: ARG001
    area: int,
) -> PartCost:
    """Count `UniRepLKNetTransition`, `area` the pixels of the map that it makes."""
    weights = 9 * before * width
    return same_cost(weights + 3 * width, weights * area, width * area)


class RepLKNetTransition(nn.Module):
    """1x1 to the new width, then depthwise 3x3 at stride 2, each with batch norm and ReLU.

    (B, C, H, W) to (B, width, H / 2, W / 2), rounded up. Source: RepLKNet, arXiv 2203.06717,
    section 4.1.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.expand = NormedConv(pointwise_conv(before, width))
        self.halve = NormedConv(nn.Conv2d(width, width, 3, 2, 1, groups=width, bias=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Halve the map."""
        return F.relu(self.halve(F.relu(self.expand(x_BCHW))))


def replknet_transition_cost(before: int, width: int, area_before: int, area: int) -> PartCost:
    """Count `RepLKNetTransition`. Published: with its batch norms.

    Args:
        before: width of the map that it takes.
        width: width of the map that it makes.
        area_before: pixels of the map that it takes.
        area: pixels of the map that it makes.
    """
    dense, taps = before * width, 9 * width
    params = dense + taps + 2 * 2 * width
    macs = dense * area_before + taps * area
    activations = width * (area_before + area)
    return PartCost(params, params, params - 2 * width, macs, macs, macs, activations)


class ConvNeXtTransition(nn.Module):
    """y = conv2x2 at stride 2 (LN(x)): (B, C, H, W) to (B, width, H / 2, W / 2), rounded down.

    Source: ConvNeXt, arXiv 2201.03545, section 2.6.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.norm = MapNorm(before)
        self.conv = DenseConv(before, width, 2, 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Halve the map."""
        y_BCHW: Tensor = self.conv(self.norm(x_BCHW))
        return y_BCHW


def convnext_transition_cost(
    before: int,
    width: int,
    area_before: int,  # noqa: ARG001
    area: int,
) -> PartCost:
    """Count `ConvNeXtTransition`, `area` the pixels of the map that it makes."""
    weights = 4 * before * width
    return same_cost(weights + width + 2 * before, weights * area, width * area)


TRANSITIONS = {
    "unireplknet": Row(build=UniRepLKNetTransition, cost=unireplknet_transition_cost),
    "replknet": Row(build=RepLKNetTransition, cost=replknet_transition_cost, draw=torch_default),
    "convnext": Row(build=ConvNeXtTransition, cost=convnext_transition_cost),
}
"""Kinds of downsampling: build(before, width), cost(before, width, pixels before, pixels made)."""
