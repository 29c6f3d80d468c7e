"""What mixes pixels inside a block: large kernels with what stands beside them, and the merge."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from builders.backends import AUTO, Backends
from builders.depthwise import DepthwiseConv
from builders.layers import BatchNorm, Mergeable, NormedConv, fold_after, like, sum_of
from builders.merge import dilated_to_dense, place_kernel


class ReparamKernel(Mergeable):
    """y = BN_0(conv_K(x)) + sum over branches (k, r) of BN_kr(conv_kr(x)).

    conv_kr is a depthwise k x k convolution at dilation r inside the K x K one. Merged this is one
    K x K convolution.

    Source: RepLKNet, arXiv 2203.06717, section 3.3, with the one branch (5, 1). Ours: any odd K,
    any branches within it.
    """

    def __init__(
        self,
        width: int,
        kernel: int,
        branches: Iterable[tuple[int, int]],
        *,
        backends: Backends = AUTO,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.branches = nn.ModuleList(
            NormedConv(DepthwiseConv(width, k, dilation=r, backends=backends))
            for k, r in ((kernel, 1), *branches)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Sum the branches."""
        return sum_of(x_BCHW, self.branches)

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
        self,
        width: int,
        kernel: int,
        branches: Iterable[tuple[int, int]],
        *,
        backends: Backends = AUTO,
    ) -> None:
        super().__init__(width, kernel, branches, backends=backends)
        self.norm = BatchNorm(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Sum the branches and normalise."""
        return sum_of(x_BCHW, self.branches, self.norm)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the one convolution that equals this, in float64."""
        return fold_after(*super().folded(), self.norm)


class Strips(Mergeable):
    """y = BN(conv_MxN(x)) + BN(conv_NxM(x)) + BN(conv_NxN(x)): a cross instead of a square.

    Merged it is two strips, the N x N kernel inside the first, one bias: a dense M x M kernel would
    be M / 2N times as dear.

    Source: SLaK, arXiv 2207.03620, section 4.1. The merge is ours; the official code has none.
    """

    def __init__(self, width: int, kernel: int, strip: int, *, backends: Backends = AUTO) -> None:
        """Make strips of `kernel` x `strip` and `strip` x `kernel` pixels, kernel > strip."""
        super().__init__()
        self.tall = NormedConv(DepthwiseConv(width, (kernel, strip), backends=backends))
        self.wide = NormedConv(DepthwiseConv(width, (strip, kernel), backends=backends))
        self.small = NormedConv(DepthwiseConv(width, strip, backends=backends))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Sum the three."""
        return sum_of(x_BCHW, [self.tall, self.wide, self.small])

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
