"""From the maps to logits, each kind of head with its cost below it; ends in the table `HEADS`."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builders.dense import DenseConv
from builders.layers import (
    EPS,
    BatchNorm,
    Mergeable,
    fold_after,
    fold_before,
    like,
    pointwise_conv,
)
from builders.parts import PartCost, Row, same_cost, torch_default

Map = tuple[int, int]
"""Height and width in pixels."""

PYRAMID_WIDTH = 32
"""Channels of a pyramid: the same for every network, so that no backbone has a better head."""


class Head(nn.Module):
    """The maps of all stages, first to last, and the size of the images, to logits."""

    @abstractmethod
    def forward(self, maps: Sequence[Tensor], size: Map) -> Tensor:
        """Give the logits."""

    def inference(self) -> Head:
        """Give what is deployed of the head; it shares the weights."""
        return self


class PooledHead(Head):
    """y = classify(pooled(last map)): (B, C, H, W) to (B, classes)."""

    classify: nn.Module
    """The linear layer, or the identity where the pooled channels are wanted."""

    @abstractmethod
    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Give one number a channel, (B, C)."""

    def forward(self, maps: Sequence[Tensor], size: Map) -> Tensor:  # noqa: ARG002
        """Give one logit a class."""
        y_BN: Tensor = self.classify(self.pooled(maps[-1]))
        return y_BN


class PoolNormHead(PooledHead):
    """y = W LN(mean over the map (x)) + b."""

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(widths[-1], eps=EPS)
        self.classify = nn.Linear(widths[-1], num_classes)

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Pool, then normalise."""
        y_BC: Tensor = self.norm(x_BCHW.mean(dim=(2, 3)))
        return y_BC


def pool_norm_cost(
    widths: Sequence[int],
    num_classes: int,
    maps: Sequence[Map],  # noqa: ARG001
) -> PartCost:
    """Count `PoolNormHead`."""
    macs = widths[-1] * num_classes
    return same_cost(macs + num_classes + 2 * widths[-1], macs, num_classes)


class NormPoolHead(PooledHead, Mergeable):
    """y = W mean over the map (BN(x)) + b.

    Source: RepLKNet, arXiv 2203.06717, official code.
    """

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.norm = BatchNorm(widths[-1])
        self.classify = nn.Linear(widths[-1], num_classes)

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Normalise, then pool."""
        y_BCHW: Tensor = self.norm(x_BCHW)
        return y_BCHW.mean(dim=(2, 3))

    def merged(self) -> nn.Module:
        """Give pooling and the linear layer with the norm inside: pooling is linear."""
        linear = self.classify
        if not isinstance(linear, nn.Linear):
            return copy.deepcopy(self)  # nothing that could take the norm
        return PoolHead(like(linear, *fold_before(linear.weight, linear.bias, self.norm)))


class PoolHead(PooledHead):
    """y = W mean over the map (x) + b."""

    def __init__(self, classify: nn.Module) -> None:
        super().__init__()
        self.classify = classify

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Pool."""
        return x_BCHW.mean(dim=(2, 3))


def norm_pool_cost(
    widths: Sequence[int],
    num_classes: int,
    maps: Sequence[Map],  # noqa: ARG001
) -> PartCost:
    """Count `NormPoolHead`. Published: with its batch norm."""
    macs = widths[-1] * num_classes
    params = macs + num_classes
    trained = params + 2 * widths[-1]
    return PartCost(trained, trained, params, macs, macs, macs, num_classes)


class Pyramid(nn.Module):
    """y = W GELU(N(sum of the laterals)) + b: the maps of all stages to one, at the finest.

    Each map goes through a 1x1 convolution to one width; from the coarsest on, sums are enlarged to
    the next finer map and added to it. Source: Panoptic FPN, arXiv 1901.02446, and FPN, 1612.03144;
    lighter than these, it has no 3x3 convolution, so that all the view comes from the backbone.
    """

    def __init__(self, laterals: Iterable[nn.Module], norm: nn.Module, classify: nn.Module) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(laterals)
        self.norm = norm
        self.classify = classify

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Give (B, classes, H, W) at the size of the first map."""
        *finer, coarsest = (
            lateral(x_BCHW) for lateral, x_BCHW in zip(self.laterals, maps, strict=True)
        )
        y_BCHW: Tensor = coarsest
        for x_BCHW in reversed(finer):
            y_BCHW = x_BCHW + enlarged(y_BCHW, (x_BCHW.shape[-2], x_BCHW.shape[-1]))
        logits: Tensor = self.classify(F.gelu(self.norm(y_BCHW)))
        return logits


class NormedPyramid(Pyramid, Mergeable):
    """A pyramid with a batch norm N, its laterals without bias."""

    def merged(self) -> nn.Module:
        """Give the pyramid with the norm inside its laterals.

        Enlarging changes no channel's scale and no constant, so the scales go to every lateral and
        the constants to the first.
        """
        laterals: list[nn.Module] = []
        for lateral in self.laterals:
            assert isinstance(lateral, nn.Conv2d)
            assert isinstance(self.norm, nn.BatchNorm2d)
            weight, bias = fold_after(lateral.weight, None, self.norm)
            laterals.append(like(lateral, weight, None if laterals else bias))
        return Pyramid(laterals, nn.Identity(), copy.deepcopy(self.classify))


class NormedPointwise(Mergeable):
    """y = W BN(x) + b, pixel by pixel."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = BatchNorm(width)
        self.classify = DenseConv(width, outputs, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise and convolve."""
        y_BCHW: Tensor = self.classify(self.norm(x_BCHW))
        return y_BCHW

    def merged(self) -> nn.Module:
        """Give the convolution with the norm inside."""
        conv = self.classify
        return like(conv, *fold_before(conv.weight, conv.bias, self.norm))


class DenseHead(Head):
    """Two readings of one backbone, pixel by pixel: (B, 2, classes, H, W).

    [:, 0] reads the maps of all stages (`Pyramid`), [:, 1] the last map alone. Every convolution is
    1x1: a pixel sees what the backbone shows it, and nothing more. The second reading tells what a
    kernel is worth where no early map is read; it is not deployed.
    """

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.every = NormedPyramid(
            [pointwise_conv(width, PYRAMID_WIDTH) for width in widths],
            BatchNorm(PYRAMID_WIDTH),
            DenseConv(PYRAMID_WIDTH, num_classes, 1),
        )
        self.last = NormedPointwise(widths[-1], num_classes)

    def forward(self, maps: Sequence[Tensor], size: Map) -> Tensor:
        """Give the logits of both readings."""
        return torch.stack([enlarged(one, size) for one in self.readings(maps)], dim=1)

    def readings(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Give the logits of both at the sizes of their maps, for a loss that enlarges them."""
        return self.every(maps), self.last(maps[-1])

    def inference(self) -> Head:
        """Give the first reading by itself."""
        return PyramidHead(self.every)


class PyramidHead(Head):
    """The reading of all stages alone: (B, classes, H, W)."""

    def __init__(self, every: nn.Module) -> None:
        super().__init__()
        self.every = every

    def forward(self, maps: Sequence[Tensor], size: Map) -> Tensor:
        """Give the logits."""
        return enlarged(self.every(maps), size)


def dense_cost(widths: Sequence[int], num_classes: int, maps: Sequence[Map]) -> PartCost:
    """Count `DenseHead`; inference: `PyramidHead`. It has no published form but the trained one."""
    areas = [height * width for height, width in maps]
    first, last = areas[0], areas[-1]
    laterals = PYRAMID_WIDTH * sum(widths)
    classify = PYRAMID_WIDTH * num_classes
    params = laterals + PYRAMID_WIDTH + classify + num_classes
    macs = classify * first + PYRAMID_WIDTH * sum(
        width * area for width, area in zip(widths, areas, strict=True)
    )
    trained = params + PYRAMID_WIDTH + 2 * widths[-1] + (widths[-1] + 1) * num_classes
    macs_trained = macs + widths[-1] * num_classes * last
    activations = PYRAMID_WIDTH * sum(areas) + num_classes * first
    return PartCost(trained, trained, params, macs_trained, macs_trained, macs, activations)


def enlarged(x_BCHW: Tensor, size: Map) -> Tensor:
    """Bring a map to the size, bilinearly."""
    return F.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False)


HEADS = {
    "pool_norm": Row(build=PoolNormHead, cost=pool_norm_cost),
    "norm_pool": Row(build=NormPoolHead, cost=norm_pool_cost, draw=torch_default),
    "dense": Row(build=DenseHead, cost=dense_cost, draw=torch_default),
}
"""Kinds of head: build(widths, num_classes), cost(widths, num_classes, maps of the stages)."""
