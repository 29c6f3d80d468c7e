"""Stems, transitions and heads, each with its cost function below it, in the tables at the end."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from builders.parts import PartCost, Row
from search_space.architecture import Stem
from search_space.families import stem_map

EPS = 1e-6
"""What every LayerNorm of this family adds to the variance."""


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel of (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise; no copy where the map is channels_last."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class UniRepLKNetStem(nn.Module):
    """y = LN(conv3x3(GELU(LN(conv3x3(x))))), the first convolution to half the width, rounded down.

    (B, channels, H, W) to (B, width, H / stride, W / stride), rounded up at each halving. Stride 4
    is published; at stride 2 the second convolution has stride 1, at stride 1 both.

    Source: UniRepLKNet, official code.
    """

    def __init__(self, stem: Stem, channels: int, width: int) -> None:
        super().__init__()
        half = _half(width)
        first, second = (2 if stem.stride > 1 else 1), (2 if stem.stride > 2 else 1)
        self.first = nn.Conv2d(channels, half, 3, first, 1)
        self.first_norm = MapNorm(half)
        self.second = nn.Conv2d(half, width, 3, second, 1)
        self.second_norm = MapNorm(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Make the first map of the image."""
        y_BCHW: Tensor = self.second(F.gelu(self.first_norm(self.first(x_BCHW))))
        normed_BCHW: Tensor = self.second_norm(y_BCHW)
        return normed_BCHW


def unireplknet_stem_cost(stem: Stem, channels: int, width: int, size: tuple[int, int]) -> PartCost:
    """Count `UniRepLKNetStem` for images of `size` (height, width) pixels."""
    half = _half(width)
    weights_first, weights_second = 9 * channels * half, 9 * half * width
    height, length = size
    area_first = area = height * length
    if stem.stride > 1:
        area_first = stem_map(stem.kind, 2, height) * stem_map(stem.kind, 2, length)
        area = stem_map(stem.kind, stem.stride, height) * stem_map(stem.kind, stem.stride, length)
    params = weights_first + weights_second + 3 * (half + width)
    macs = weights_first * area_first + weights_second * area
    return PartCost(params, params, macs, macs, half * area_first + width * area)


class UniRepLKNetTransition(nn.Module):
    """y = LN(conv3x3 at stride 2 (x)): (B, C, H, W) to (B, width, H / 2, W / 2), rounded up."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, 3, 2, 1)
        self.norm = MapNorm(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Halve the map."""
        y_BCHW: Tensor = self.norm(self.conv(x_BCHW))
        return y_BCHW


def unireplknet_transition_cost(before: int, width: int, area: int) -> PartCost:
    """Count `UniRepLKNetTransition`, `area` the pixels of the map that it makes."""
    weights = 9 * before * width
    params = weights + 3 * width
    return PartCost(params, params, weights * area, weights * area, width * area)


class PoolNormHead(nn.Module):
    """y = W LN(mean over the map (x)) + b: (B, C, H, W) to (B, classes)."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.classify = nn.Linear(width, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Give one logit a class."""
        y_BN: Tensor = self.classify(self.norm(x_BCHW.mean(dim=(2, 3))))
        return y_BN


def pool_norm_cost(width: int, num_classes: int) -> PartCost:
    """Count `PoolNormHead`."""
    macs = width * num_classes
    params = macs + num_classes + 2 * width
    return PartCost(params, params, macs, macs, num_classes)


def _half(width: int) -> int:
    return max(1, width // 2)


STEMS = {"unireplknet": Row(build=UniRepLKNetStem, cost=unireplknet_stem_cost)}
"""Kinds of stem: build(stem, channels, width), cost(stem, channels, width, size in pixels)."""

TRANSITIONS = {"unireplknet": Row(build=UniRepLKNetTransition, cost=unireplknet_transition_cost)}
"""Kinds of downsampling: build(before, width), cost(before, width, pixels of the map made)."""

HEADS = {"pool_norm": Row(build=PoolNormHead, cost=pool_norm_cost)}
"""Kinds of head: build(width, num_classes), cost(width, num_classes)."""
