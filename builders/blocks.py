"""The block families, each with its cost function below it; ends in the table `BLOCKS`."""

from __future__ import annotations

from torch import Tensor, nn

from builders.depthwise import DepthwiseConv, Impl
from builders.layers import DilatedReparam, DropPath, FeedForward, NormedConv
from builders.parts import PartCost, Row, find_row
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
        self, stage: Stage, kernel: int, *, drop_path: float = 0.0, impl: Impl = "auto"
    ) -> None:
        """Make a block of the stage whose depthwise kernel is `kernel`."""
        super().__init__()
        branches = _branches(stage, kernel)
        if branches or kernel >= LARGE_KERNEL:
            self.mix: nn.Module = DilatedReparam(stage.width, kernel, branches, impl=impl)
        else:
            self.mix = NormedConv(DepthwiseConv(stage.width, kernel, impl=impl))
        structure = find_row(STRUCTURES, stage.structure, where="structure")
        self.structure = structure.build(stage.width, stage.se_ratio, impl)
        self.feed_forward = FeedForward(stage.width, stage.ffn_width, layer_scale=stage.layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Mix in space, then in channels, and add the result to the input."""
        y_BCHW: Tensor = self.feed_forward(self.structure(self.mix(x_BCHW)))
        y_BCHW = self.drop_path(y_BCHW)
        return x_BCHW + y_BCHW


def unireplknet_cost(stage: Stage, kernel: int, area: int) -> PartCost:
    """Count one `UniRepLKNetBlock` on a map of `area` pixels."""
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
    return PartCost(
        # W1 bias, GRN gamma and beta, norm of the pointwise pair
        width * (taps_train + 2 * norms) + structure[0] + linear + 3 * hidden + 2 * width + scale,
        # W1 bias and GRN gamma; W2 bias
        width * (taps + 1) + structure[1] + linear + 2 * hidden + width,
        (width * taps_train + linear) * area + structure[2],
        (width * taps + linear) * area + structure[3],
        (2 * width + hidden) * area + structure[4],
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


BLOCKS = {"unireplknet": Row(build=UniRepLKNetBlock, cost=unireplknet_cost)}
"""Block families by the words of the YAML.

build(stage, kernel, drop_path=, impl=) makes a module that keeps the shape;
cost(stage, kernel, area) counts it on a map of `area` pixels.
"""
