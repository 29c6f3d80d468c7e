"""From the last map to logits, each kind with its cost below it; ends in the table `HEADS`."""

from __future__ import annotations

import copy
from abc import abstractmethod

from torch import Tensor, nn

from builders.layers import EPS, BatchNorm, Mergeable, fold_before, like
from builders.parts import PartCost, Row, same_cost, torch_default


class Head(nn.Module):
    """y = classify(pooled(x)): (B, C, H, W) to (B, classes)."""

    classify: nn.Module
    """The linear layer, or the identity where the pooled channels are wanted."""

    @abstractmethod
    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Give one number a channel, (B, C)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Give one logit a class."""
        y_BN: Tensor = self.classify(self.pooled(x_BCHW))
        return y_BN


class PoolNormHead(Head):
    """y = W LN(mean over the map (x)) + b."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.classify = nn.Linear(width, num_classes)

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Pool, then normalise."""
        y_BC: Tensor = self.norm(x_BCHW.mean(dim=(2, 3)))
        return y_BC


def pool_norm_cost(width: int, num_classes: int) -> PartCost:
    """Count `PoolNormHead`."""
    macs = width * num_classes
    return same_cost(macs + num_classes + 2 * width, macs, num_classes)


class NormPoolHead(Head, Mergeable):
    """y = W mean over the map (BN(x)) + b.

    Source: RepLKNet, arXiv 2203.06717, official code.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = BatchNorm(width)
        self.classify = nn.Linear(width, num_classes)

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


class PoolHead(Head):
    """y = W mean over the map (x) + b."""

    def __init__(self, classify: nn.Module) -> None:
        super().__init__()
        self.classify = classify

    def pooled(self, x_BCHW: Tensor) -> Tensor:
        """Pool."""
        return x_BCHW.mean(dim=(2, 3))


def norm_pool_cost(width: int, num_classes: int) -> PartCost:
    """Count `NormPoolHead`. Published: with its batch norm."""
    macs = width * num_classes
    params = macs + num_classes
    trained = params + 2 * width
    return PartCost(trained, trained, params, macs, macs, macs, num_classes)


HEADS = {
    "pool_norm": Row(build=PoolNormHead, cost=pool_norm_cost),
    "norm_pool": Row(build=NormPoolHead, cost=norm_pool_cost, draw=torch_default),
}
"""Kinds of head: build(width, num_classes), cost(width, num_classes)."""
