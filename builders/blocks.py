"""The block families, each with its cost function below it; ends in the table `BLOCKS`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from builders.backends import AUTO, Backends
from builders.depthwise import DepthwiseConv
from builders.feed_forward import ConvFeedForward, NormedMlp, ScaledMlp
from builders.kernels import DilatedReparam, ReparamKernel, Strips
from builders.layers import (
    DropPath,
    MapNorm,
    Mergeable,
    NormedConv,
    PreNormedConv,
    pointwise_conv,
)
from builders.parts import PartCost, Row, find_row, torch_default
from builders.structures import STRUCTURES
from search_space.architecture import LARGE_KERNEL, Branches, Stage
from search_space.errors import SpaceError


class UniRepLKNetBlock(nn.Module):
    """y = x + drop(feed_forward(structure(mix(x)))), mix the depthwise convolution with its norms.

    Maps (B, C, H, W) to the same. Source: UniRepLKNet, arXiv 2311.15599, section 3.1 and figure 2;
    the norm after the convolution, GRN and the missing bias of the second linear layer are those
    of the official code.
    """

    def __init__(
        self, stage: Stage, kernel: int, *, drop_path: float = 0.0, backends: Backends = AUTO
    ) -> None:
        """Make a block of the stage whose depthwise kernel is `kernel`."""
        super().__init__()
        branches = _branches(stage, kernel)
        if branches or kernel >= LARGE_KERNEL:
            self.mix: nn.Module = DilatedReparam(stage.width, kernel, branches, backends=backends)
        else:
            self.mix = NormedConv(DepthwiseConv(stage.width, kernel, backends=backends))
        structure = find_row(STRUCTURES, stage.structure, where="structure")
        self.structure = structure.build(stage.width, stage.se_ratio, backends)
        self.feed_forward = NormedMlp(
            stage.width, stage.ffn_width, layer_scale=stage.layer_scale, backends=backends
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix in space, then in channels, and add the result to the input."""
        y_BCHW: Tensor = self.feed_forward(self.structure(self.mix(x_BCHW)))
        y_BCHW = self.drop_path(y_BCHW)
        return x_BCHW + y_BCHW


def unireplknet_cost(stage: Stage, kernel: int, area: int) -> PartCost:
    """Count one `UniRepLKNetBlock` on a map of `area` pixels. Published: everything folded."""
    width, hidden = stage.width, stage.ffn_width
    branches = _branches(stage, kernel)
    taps = kernel * kernel
    taps_train = taps
    norms = 1  # the one after the depthwise convolution
    if branches or kernel >= LARGE_KERNEL:
        norms += 1 + len(branches)
        for k, _ in branches:
            taps_train += k * k
    structure = find_row(STRUCTURES, stage.structure, where="structure").cost(
        width, stage.se_ratio, area
    )
    linear = 2 * width * hidden
    scale = width if stage.layer_scale else 0
    # W1 bias and GRN gamma; W2 bias
    params = width * (taps + 1) + structure[2] + linear + 2 * hidden + width
    macs = (width * taps + linear) * area + structure[5]
    return PartCost(
        # W1 bias, GRN gamma and beta, norm of the pointwise pair
        width * (taps_train + 2 * norms) + structure[0] + linear + 3 * hidden + 2 * width + scale,
        params,
        params,
        (width * taps_train + linear) * area + structure[3],
        macs,
        macs,
        (2 * width + hidden) * area + structure[6],
    )


class RepLKNetBlock(nn.Module):
    """z = x + drop(mix(x)), y = z + drop(feed_forward(z)): a pair of blocks, each with a shortcut.

    mix is BN, 1x1, the depthwise kernel, 1x1, with batch norm after every convolution and ReLU
    between them. Maps (B, C, H, W) to the same. Source: RepLKNet, arXiv 2203.06717, section 4.1 and
    figure 2; ReLU here and GELU in the feed-forward are those of the official code.
    """

    def __init__(
        self, stage: Stage, kernel: int, *, drop_path: float = 0.0, backends: Backends = AUTO
    ) -> None:
        """Make a pair of the stage whose depthwise kernel is `kernel`."""
        super().__init__()
        inner = inner_width(stage)
        small = _small_kernel(stage, kernel)
        branches = () if small is None else ((small, 1),)
        self.expand = PreNormedConv(pointwise_conv(stage.width, inner))
        self.mix = ReparamKernel(inner, kernel, branches, backends=backends)
        self.project = NormedConv(pointwise_conv(inner, stage.width))
        self.feed_forward = ConvFeedForward(stage.width, stage.ffn_width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix in space and add, then mix in channels and add."""
        mixed_BCHW: Tensor = self.project(F.relu(self.mix(F.relu(self.expand(x_BCHW)))))
        x_BCHW = x_BCHW + self.drop_path(mixed_BCHW)
        y_BCHW: Tensor = self.drop_path(self.feed_forward(x_BCHW))
        return x_BCHW + y_BCHW


def replknet_cost(stage: Stage, kernel: int, area: int) -> PartCost:
    """Count one `RepLKNetBlock` on a map of `area` pixels. Published: the kernels alone folded."""
    width, hidden, inner = stage.width, stage.ffn_width, inner_width(stage)
    small = _small_kernel(stage, kernel)
    taps = kernel * kernel
    branch = 0 if small is None else small * small
    linear = 2 * width * inner + 2 * width * hidden
    # Norms in front of both halves, then behind each 1x1.
    norms = 2 * (2 * width + inner + width + hidden + width)
    macs = (linear + inner * taps) * area
    return PartCost(
        linear + inner * (taps + 2) + (inner * (branch + 2) if branch else 0) + norms,
        linear + inner * (taps + 1) + norms,
        linear + inner * (taps + 1) + inner + width + hidden + width,
        macs + inner * branch * area,
        macs,
        macs,
        (2 * inner + width + hidden + width) * area,
    )


class ConvNeXtBlock(nn.Module):
    """y = x + drop(feed_forward(LN(mix(x)))), mix a depthwise convolution.

    Maps (B, C, H, W) to the same. Source: ConvNeXt, arXiv 2201.03545, section 2.6.
    """

    def __init__(
        self, stage: Stage, kernel: int, *, drop_path: float = 0.0, backends: Backends = AUTO
    ) -> None:
        """Make a block of the stage whose depthwise kernel is `kernel`."""
        super().__init__()
        self.mix = self.mixer(stage, kernel, backends=backends)
        self.norm = MapNorm(stage.width)
        self.feed_forward = ScaledMlp(stage.width, stage.ffn_width, layer_scale=stage.layer_scale)
        self.drop_path = DropPath(drop_path)

    def mixer(self, stage: Stage, kernel: int, *, backends: Backends) -> nn.Module:
        """Make the convolution that mixes pixels."""
        return DepthwiseConv(stage.width, kernel, bias=True, backends=backends)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix in space, then in channels, and add the result to the input."""
        y_BCHW: Tensor = self.drop_path(self.feed_forward(self.norm(self.mix(x_BCHW))))
        return x_BCHW + y_BCHW


def convnext_cost(stage: Stage, kernel: int, area: int) -> PartCost:
    """Count one `ConvNeXtBlock` on a map of `area` pixels. Published: as it is trained."""
    weights = stage.width * kernel * kernel
    return _convnext_cost(stage, area, (weights, stage.width), (weights, stage.width), convs=1)


class SLaKBlock(ConvNeXtBlock):
    """A `ConvNeXtBlock` that mixes with two strips and a small kernel, each with a batch norm.

    Where the kernel is no larger than the strip is wide, it is one square kernel and its norm.
    Source: SLaK, arXiv 2207.03620, section 4.1.
    """

    def mixer(self, stage: Stage, kernel: int, *, backends: Backends) -> nn.Module:
        """Make the convolutions that mix pixels."""
        strip = strip_beside(stage, kernel)
        if strip is None:
            return NormedConv(DepthwiseConv(stage.width, kernel, backends=backends))
        return Strips(stage.width, kernel, strip, backends=backends)


def slak_cost(stage: Stage, kernel: int, area: int) -> PartCost:
    """Count one `SLaKBlock` on a map of `area` pixels. Published: as it is trained, and dense."""
    width, strip = stage.width, strip_beside(stage, kernel)
    if strip is None:
        square = width * kernel * kernel
        return _convnext_cost(stage, area, (square, 2 * width), (square, width), convs=1)
    strips, small = 2 * width * strip * kernel, width * strip * strip
    return _convnext_cost(stage, area, (strips + small, 6 * width), (strips, width), convs=2)


def _convnext_cost(
    stage: Stage, area: int, train: tuple[int, int], inference: tuple[int, int], *, convs: int
) -> PartCost:
    """Count LN, pointwise pair and layer scale beside a mixer of (weights, other parameters)."""
    width, hidden = stage.width, stage.ffn_width
    linear = 2 * width * hidden
    rest = 2 * width + linear + hidden + width
    params = sum(train) + rest + (width if stage.layer_scale else 0)
    macs = (train[0] + linear) * area
    return PartCost(
        params,
        params,
        sum(inference) + rest,
        macs,
        macs,
        (inference[0] + linear) * area,
        (convs * width + hidden + width) * area,
    )


def _branches(stage: Stage, kernel: int) -> Branches:
    """Give the branches that stand beside a kernel: a 3x3 has none.

    Raises:
        SpaceError: where a branch cannot be placed inside the kernel.
    """
    if kernel == 3:
        return ()
    for k, r in stage.dilations:
        if (k - 1) * r + 1 > kernel:
            raise SpaceError(
                f"dilations: (k - 1) r + 1 must be at most the kernel, got k = {k} and r = {r} "
                f"in a kernel of {kernel}; take a smaller k or r"
            )
    return stage.dilations


def _small_kernel(stage: Stage, kernel: int) -> int | None:
    """Give the kernel that stands beside a large one: a 3x3 has none.

    Raises:
        SpaceError: where it cannot be placed inside the kernel.
    """
    small = stage.small_kernel
    if kernel == 3 or small is None:
        return None
    if small > kernel:
        raise SpaceError(
            f"small_kernel: must be at most the kernel, got {small} beside a kernel of {kernel}; "
            "take a smaller one or none"
        )
    return small


def strip_beside(stage: Stage, kernel: int) -> int | None:
    """Give the short side of a SLaK block's strips; None where one square kernel stands."""
    square = stage.strip is None or kernel == 3 or stage.strip >= kernel
    return None if square else stage.strip


def inner_width(stage: Stage) -> int:
    """Give the width of a RepLKNet block's depthwise convolution, rounded down."""
    return max(1, int(stage.width * stage.dw_ratio))


BLOCKS = {
    "unireplknet": Row(build=UniRepLKNetBlock, cost=unireplknet_cost, published=(Mergeable,)),
    "replknet": Row(
        build=RepLKNetBlock,
        cost=replknet_cost,
        draw=torch_default,
        published=(ReparamKernel,),
    ),
    "slak": Row(build=SLaKBlock, cost=slak_cost),
    "convnext": Row(build=ConvNeXtBlock, cost=convnext_cost),
}
"""Block families by the words of the YAML.

build(stage, kernel, drop_path=, backends=) makes a module that keeps the shape;
cost(stage, kernel, area) counts it on a map of `area` pixels.
"""
