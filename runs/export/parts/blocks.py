"""The block of the stages."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from runs.export.parts.channels import ConvFeedForward, NormedMlp, ScaledMlp
from runs.export.parts.layers import DropPath, MapNorm, NormedConv, PreNormedConv, pointwise


class UniRepLKNetBlock(nn.Module):
    """y = x + feed_forward(structure(mix(x))), mix a depthwise convolution.

    structure adds depth behind it, such as squeeze-and-excitation, or does nothing.
    (B, width, H, W) to the same. Source: UniRepLKNet, arXiv 2311.15599, section 3.1.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        mix: nn.Module,
        structure: nn.Module | None = None,
        layer_scale: float = 0.0,
    ) -> None:
        super().__init__()
        self.mix = mix
        self.structure = structure or nn.Identity()
        self.feed_forward = NormedMlp(width, hidden, layer_scale=layer_scale)
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        """Mix in space, then in channels, and add the result to the input."""
        y: Tensor = self.drop_path(self.feed_forward(self.structure(self.mix(x))))
        return x + y


class RepLKNetBlock(nn.Module):
    """z = x + project(ReLU(mix(ReLU(expand(x))))), y = z + feed_forward(z).

    mix is a depthwise convolution of `inner` channels with its norms, expand and project are 1x1.
    (B, width, H, W) to the same. Source: RepLKNet, arXiv 2203.06717, section 4.1 and figure 2.
    """

    def __init__(self, width: int, hidden: int, inner: int, *, mix: nn.Module) -> None:
        super().__init__()
        self.expand = PreNormedConv(pointwise(width, inner))
        self.mix = mix
        self.project = NormedConv(pointwise(inner, width))
        self.feed_forward = ConvFeedForward(width, hidden)
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        """Mix in space and add, then mix in channels and add."""
        x = x + self.drop_path(self.project(F.relu(self.mix(F.relu(self.expand(x))))))
        y: Tensor = self.drop_path(self.feed_forward(x))
        return x + y


class ConvNeXtBlock(nn.Module):
    """y = x + feed_forward(LN(mix(x))), mix a depthwise convolution.

    (B, width, H, W) to the same. Source: ConvNeXt, arXiv 2201.03545, section 2.6; SLaK has the same
    with other convolutions.
    """

    def __init__(
        self, width: int, hidden: int, *, mix: nn.Module, layer_scale: float = 0.0
    ) -> None:
        super().__init__()
        self.mix = mix
        self.norm = MapNorm(width)
        self.feed_forward = ScaledMlp(width, hidden, layer_scale=layer_scale)
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        """Mix in space, then in channels, and add the result to the input."""
        y: Tensor = self.drop_path(self.feed_forward(self.norm(self.mix(x))))
        return x + y
