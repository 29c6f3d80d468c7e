"""Stems, each with its cost function below it; ends in the table `STEMS`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from builders.dense import DenseConv
from builders.layers import MapNorm, NormedConv, pointwise_conv
from builders.parts import PartCost, Row, same_cost, torch_default
from search_space.architecture import Stem
from search_space.families import stem_map


class UniRepLKNetStem(nn.Module):
    """y = LN(conv3x3(GELU(LN(conv3x3(x))))), the first convolution to half the width, rounded down.

    (B, channels, H, W) to (B, width, H / stride, W / stride), rounded up at each halving. Stride 4
    is published; at stride 2 the second convolution has stride 1, at stride 1 both.

    Source: UniRepLKNet, official code.
    """

    def __init__(self, stem: Stem, channels: int, width: int) -> None:
        super().__init__()
        half = half_width(width)
        first, second = strides(stem)
        self.first = DenseConv(channels, half, 3, first, 1)
        self.first_norm = MapNorm(half)
        self.second = DenseConv(half, width, 3, second, 1)
        self.second_norm = MapNorm(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Make the first map of the image."""
        y_BCHW: Tensor = self.second(F.gelu(self.first_norm(self.first(x_BCHW))))
        normed_BCHW: Tensor = self.second_norm(y_BCHW)
        return normed_BCHW


def unireplknet_stem_cost(stem: Stem, channels: int, width: int, size: tuple[int, int]) -> PartCost:
    """Count `UniRepLKNetStem` for images of `size` (height, width) pixels."""
    half = half_width(width)
    weights_first, weights_second = 9 * channels * half, 9 * half * width
    area_first, area = _areas(stem, size)
    return same_cost(
        weights_first + weights_second + 3 * (half + width),
        weights_first * area_first + weights_second * area,
        half * area_first + width * area,
    )


class RepLKNetStem(nn.Module):
    """Convolutions 3x3, depthwise 3x3, 1x1, depthwise 3x3, each with batch norm and ReLU.

    (B, channels, H, W) to (B, width, H / stride, W / stride), rounded up at each halving. Stride 4
    is published, in the first and the last convolution; at stride 2 the last has stride 1, at
    stride 1 the first too.

    Source: RepLKNet, arXiv 2203.06717, section 4.1.
    """

    def __init__(self, stem: Stem, channels: int, width: int) -> None:
        super().__init__()
        first, last = strides(stem)
        self.layers = nn.ModuleList(
            (
                NormedConv(nn.Conv2d(channels, width, 3, first, 1, bias=False)),
                NormedConv(nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)),
                NormedConv(pointwise_conv(width, width)),
                NormedConv(nn.Conv2d(width, width, 3, last, 1, groups=width, bias=False)),
            )
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Make the first map of the image."""
        for layer in self.layers:
            x_BCHW = F.relu(layer(x_BCHW))
        return x_BCHW


def replknet_stem_cost(stem: Stem, channels: int, width: int, size: tuple[int, int]) -> PartCost:
    """Count `RepLKNetStem` for images of `size` pixels. Published: with its batch norms."""
    area_first, area = _areas(stem, size)
    early, late = 9 * channels * width + 9 * width + width * width, 9 * width
    macs = early * area_first + late * area
    params = early + late + 2 * 4 * width
    activations = 3 * width * area_first + width * area
    return PartCost(params, params, params - 4 * width, macs, macs, macs, activations)


class PatchifyStem(nn.Module):
    """y = LN(conv(x)), the side of the kernel its stride; at stride 1 it is 3x3.

    (B, channels, H, W) to (B, width, H / stride, W / stride), rounded down. Stride 4 is published.

    Source: ConvNeXt, arXiv 2201.03545, section 2.2.
    """

    def __init__(self, stem: Stem, channels: int, width: int) -> None:
        super().__init__()
        side = patch_side(stem)
        padding = 1 if stem.stride == 1 else 0
        self.conv = DenseConv(channels, width, side, stem.stride, padding)
        self.norm = MapNorm(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Make the first map of the image."""
        y_BCHW: Tensor = self.norm(self.conv(x_BCHW))
        return y_BCHW


def patchify_stem_cost(stem: Stem, channels: int, width: int, size: tuple[int, int]) -> PartCost:
    """Count `PatchifyStem` for images of `size` (height, width) pixels."""
    weights = patch_side(stem) ** 2 * channels * width
    _, area = _areas(stem, size)
    return same_cost(weights + 3 * width, weights * area, width * area)


def strides(stem: Stem) -> tuple[int, int]:
    """Give the strides of a stem's first and last convolution."""
    return (2 if stem.stride > 1 else 1), (2 if stem.stride > 2 else 1)


def _areas(stem: Stem, size: tuple[int, int]) -> tuple[int, int]:
    """Give the pixels of the maps after the first and after the last convolution."""
    height, width = size
    first, _ = strides(stem)
    return (
        stem_map(stem.kind, first, height) * stem_map(stem.kind, first, width),
        stem_map(stem.kind, stem.stride, height) * stem_map(stem.kind, stem.stride, width),
    )


def half_width(width: int) -> int:
    """Give the width behind the first convolution of `UniRepLKNetStem`."""
    return max(1, width // 2)


def patch_side(stem: Stem) -> int:
    """Give the side of the kernel of `PatchifyStem`."""
    return 3 if stem.stride == 1 else stem.stride


STEMS = {
    "unireplknet": Row(build=UniRepLKNetStem, cost=unireplknet_stem_cost),
    "replknet": Row(build=RepLKNetStem, cost=replknet_stem_cost, draw=torch_default),
    "patchify": Row(build=PatchifyStem, cost=patchify_stem_cost),
}
"""Kinds of stem: build(stem, channels, width), cost(stem, channels, width, size in pixels)."""
