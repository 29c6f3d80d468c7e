"""What mixes the pixels in a block."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from runs.export.parts.layers import NormedConv, depthwise, fold_after, with_weights


def dilated_to_dense(kernel: Tensor, dilation: int) -> Tensor:
    """Write the zeros of a dilated kernel: (..., k, k) to (..., (k - 1) r + 1, (k - 1) r + 1)."""
    side = (kernel.shape[-1] - 1) * dilation + 1
    dense = kernel.new_zeros(*kernel.shape[:-2], side, side)
    dense[..., ::dilation, ::dilation] = kernel
    return dense


def placed(kernel: Tensor, like: Tensor) -> Tensor:
    """Put a small kernel in the middle of a zero one with the height and width of another."""
    rows = (like.shape[-2] - kernel.shape[-2]) // 2
    columns = (like.shape[-1] - kernel.shape[-1]) // 2
    return F.pad(kernel, (columns, columns, rows, rows))


class ReparamKernel(nn.Module):
    """y = BN_0(conv_K(x)) + sum over branches (k, r) of BN_kr(conv_kr(x)), all depthwise.

    conv_kr has a k x k kernel at dilation r, inside the K x K one. Merged this is one K x K
    convolution. Source: RepLKNet, arXiv 2203.06717, section 3.3.
    """

    def __init__(self, width: int, kernel: int, branches: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            NormedConv(depthwise(width, k, dilation=r)) for k, r in ((kernel, 1), *branches)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Sum the branches of (B, C, H, W)."""
        y: Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            y = y + branch(x)
        return y

    def folded(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the one convolution that equals this."""
        large, *others = (branch for branch in self.branches if isinstance(branch, NormedConv))
        weight, bias = large.folded()
        for branch in others:
            small, offset = branch.folded()
            weight = weight + placed(dilated_to_dense(small, branch.conv.dilation[0]), weight)
            bias = bias + offset
        return weight, bias

    def merged(self) -> nn.Module:
        """Give the K x K convolution with branches and norms inside."""
        large = self.branches[0]
        assert isinstance(large, NormedConv)
        return with_weights(large.conv, *self.folded())


class DilatedReparam(ReparamKernel):
    """The sum of `ReparamKernel`, its branches dilated, and a batch norm behind it.

    Train it in float32 on a CPU, where torch 2.13 loses the gradients of dilated kernels in half
    precision. Source: Dilated Reparam Block of UniRepLKNet, arXiv 2311.15599, section 3.1.
    """

    def __init__(self, width: int, kernel: int, branches: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(width, kernel, branches)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Sum the branches of (B, C, H, W) and normalise."""
        y: Tensor = self.norm(super().forward(x))
        return y

    def folded(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the one convolution that equals this."""
        return fold_after(*super().folded(), self.norm)


class Strips(nn.Module):
    """y = BN(conv_MxN(x)) + BN(conv_NxM(x)) + BN(conv_NxN(x)), all depthwise, M > N.

    Two strips that cross instead of one large square. Merged it is the two strips, the N x N kernel
    inside the first. Source: SLaK, arXiv 2207.03620, section 4.1.
    """

    def __init__(self, width: int, kernel: int, strip: int) -> None:
        super().__init__()
        self.tall = NormedConv(depthwise(width, (kernel, strip)))
        self.wide = NormedConv(depthwise(width, (strip, kernel)))
        self.small = NormedConv(depthwise(width, strip))

    def forward(self, x: Tensor) -> Tensor:
        """Sum the three of (B, C, H, W)."""
        y: Tensor = self.tall(x) + self.wide(x) + self.small(x)
        return y

    def merged(self) -> nn.Module:
        """Give the two strips with norms and the small kernel inside."""
        tall, tall_bias = self.tall.folded()
        wide, wide_bias = self.wide.folded()
        small, small_bias = self.small.folded()
        bias = tall_bias + wide_bias + small_bias
        return MergedStrips(
            with_weights(self.tall.conv, tall + placed(small, tall), bias),
            with_weights(self.wide.conv, wide, None),
        )


class MergedStrips(nn.Module):
    """y = tall(x) + wide(x), two depthwise convolutions of which the first has a bias."""

    def __init__(self, tall: nn.Conv2d, wide: nn.Conv2d) -> None:
        super().__init__()
        self.tall = tall
        self.wide = wide

    def forward(self, x: Tensor) -> Tensor:
        """Sum the two of (B, C, H, W)."""
        y: Tensor = self.tall(x) + self.wide(x)
        return y
