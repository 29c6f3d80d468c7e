"""What mixes pixels inside a block: large kernels with what stands beside them, and the merge."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from builders.depthwise import DepthwiseConv, Impl
from builders.layers import Mergeable, NormedConv, fold_after, like
from builders.merge import dilated_to_dense, place_kernel


class ReparamKernel(Mergeable):
    """y = BN_0(conv_K(x)) + sum over branches (k, r) of BN_kr(conv_kr(x)).

    conv_kr is a depthwise k x k convolution at dilation r inside the K x K one. Merged this is one
    K x K convolution.

    Source: RepLKNet, arXiv 2203.06717, section 3.3, with the one branch (5, 1). Ours: any odd K,
    any branches within it.
    """

    def __init__(
        self, width: int, kernel: int, branches: Iterable[tuple[int, int]], *, impl: Impl = "auto"
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.branches = nn.ModuleList(
            NormedConv(DepthwiseConv(width, k, dilation=r, impl=impl))
            for k, r in ((kernel, 1), *branches)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Sum the branches."""
        first, *others = self.branches
        y_BCHW: Tensor = first(x_BCHW)
        for branch in others:
            y_BCHW = y_BCHW + branch(x_BCHW)
        return y_BCHW

    def folded(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the one convolution that equals this, in float64."""
        first, *others = (branch for branch in self.branches if isinstance(branch, NormedConv))
        weight, bias = first.folded()
        for branch in others:
            small, offset = branch.folded()
            dilation = branch.conv.dilation
            assert isinstance(dilation, int)  # branches are DepthwiseConv
            weight = weight + place_kernel(dilated_to_dense(small, dilation), self.kernel)
            bias = bias + offset
        return weight, bias

    def merged(self) -> nn.Module:
        """Give the K x K convolution in which branches and norms are folded."""
        first = self.branches[0]
        assert isinstance(first, NormedConv)
        return like(first.conv, *self.folded())


class DilatedReparam(ReparamKernel):
    """y = BN(BN_0(conv_K(x)) + sum over branches (k, r) of BN_kr(conv_kr(x))).

    This is the Dilated Reparam Block with the norm that follows it; without branches a K x K
    convolution and two norms.

    Source: UniRepLKNet, arXiv 2311.15599, section 3.1.
    """

    def __init__(
        self, width: int, kernel: int, branches: Iterable[tuple[int, int]], *, impl: Impl = "auto"
    ) -> None:
        super().__init__(width, kernel, branches, impl=impl)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Sum the branches and normalise."""
        normed_BCHW: Tensor = self.norm(super().forward(x_BCHW))
        return normed_BCHW

    def folded(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the one convolution that equals this, in float64."""
        return fold_after(*super().folded(), self.norm)


class Strips(Mergeable):
    """y = BN(conv_MxN(x)) + BN(conv_NxM(x)) + BN(conv_NxN(x)): a cross instead of a square.

    Merged it is two strips, the N x N kernel inside the first, one bias: a dense M x M kernel would
    be M / 2N times as dear.

    Source: SLaK, arXiv 2207.03620, section 4.1. The merge is ours; the official code has none.
    """

    def __init__(self, width: int, kernel: int, strip: int, *, impl: Impl = "auto") -> None:
        """Make strips of `kernel` x `strip` and `strip` x `kernel` pixels, kernel > strip."""
        super().__init__()
        self.tall = NormedConv(DepthwiseConv(width, (kernel, strip), impl=impl))
        self.wide = NormedConv(DepthwiseConv(width, (strip, kernel), impl=impl))
        self.small = NormedConv(DepthwiseConv(width, strip, impl=impl))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Sum the three."""
        y_BCHW: Tensor = self.tall(x_BCHW) + self.wide(x_BCHW) + self.small(x_BCHW)
        return y_BCHW

    def merged(self) -> nn.Module:
        """Give the two strips in which norms and the small kernel are folded."""
        tall, tall_bias = self.tall.folded()
        wide, wide_bias = self.wide.folded()
        small, small_bias = self.small.folded()
        sides = (int(tall.shape[-2]), int(tall.shape[-1]))
        return MergedStrips(
            like(
                self.tall.conv,
                tall + place_kernel(small, sides),
                tall_bias + wide_bias + small_bias,
            ),
            like(self.wide.conv, wide, None),
        )


class MergedStrips(nn.Module):
    """y = tall(x) + wide(x), two depthwise convolutions of which the first has a bias."""

    def __init__(self, tall: nn.Module, wide: nn.Module) -> None:
        super().__init__()
        self.tall = tall
        self.wide = wide

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Sum the two."""
        y_BCHW: Tensor = self.tall(x_BCHW) + self.wide(x_BCHW)
        return y_BCHW
