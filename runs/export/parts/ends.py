"""What stands before, between and behind the stages: stem, transitions and head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runs.export.parts.layers import (
    MapNorm,
    NormedConv,
    depthwise,
    enlarged,
    fold_after,
    fold_before,
    pointwise,
    scale_and_shift,
    with_weights,
)


class UniRepLKNetStem(nn.Module):
    """y = LN(conv3x3(GELU(LN(conv3x3(x))))), the first convolution to `half` channels.

    (B, channels, H, W) to (B, width, H / s, W / s), s the product of the strides, rounded up at
    each. Source: UniRepLKNet, arXiv 2311.15599.
    """

    def __init__(self, channels: int, half: int, width: int, *, strides: tuple[int, int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, half, 3, strides[0], 1)
        self.first_norm = MapNorm(half)
        self.second = nn.Conv2d(half, width, 3, strides[1], 1)
        self.second_norm = MapNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Make the first map of the images."""
        half: Tensor = F.gelu(self.first_norm(self.first(x)))
        y: Tensor = self.second_norm(self.second(half))
        return y


class RepLKNetStem(nn.Module):
    """Convolutions 3x3, depthwise 3x3, 1x1, depthwise 3x3, each with batch norm and ReLU.

    (B, channels, H, W) to (B, width, H / s, W / s), s the product of the strides of the first and
    the last, rounded up at each. Source: RepLKNet, arXiv 2203.06717, section 4.1.
    """

    def __init__(self, channels: int, width: int, *, strides: tuple[int, int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                NormedConv(nn.Conv2d(channels, width, 3, strides[0], 1, bias=False)),
                NormedConv(depthwise(width, 3)),
                NormedConv(pointwise(width, width)),
                NormedConv(depthwise(width, 3, stride=strides[1])),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Make the first map of the images."""
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class PatchifyStem(nn.Module):
    """y = LN(conv(x)), the side of the kernel its stride; at stride 1 it is 3x3.

    (B, channels, H, W) to (B, width, H / stride, W / stride), rounded down.
    Source: ConvNeXt, arXiv 2201.03545, section 2.2.
    """

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        side, padding = (3, 1) if stride == 1 else (stride, 0)
        self.conv = nn.Conv2d(channels, width, side, stride, padding)
        self.norm = MapNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Make the first map of the images."""
        y: Tensor = self.norm(self.conv(x))
        return y


class UniRepLKNetTransition(nn.Module):
    """y = LN(conv3x3 at stride 2 (x)): (B, C, H, W) to (B, width, H / 2, W / 2), rounded up."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, 3, 2, 1)
        self.norm = MapNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the map."""
        y: Tensor = self.norm(self.conv(x))
        return y


class RepLKNetTransition(nn.Module):
    """1x1 to the new width, then depthwise 3x3 at stride 2, each with batch norm and ReLU.

    (B, C, H, W) to (B, width, H / 2, W / 2), rounded up. Source: RepLKNet, arXiv 2203.06717,
    section 4.1.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.expand = NormedConv(pointwise(before, width))
        self.halve = NormedConv(depthwise(width, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """Halve the map."""
        return F.relu(self.halve(F.relu(self.expand(x))))


class ConvNeXtTransition(nn.Module):
    """y = conv2x2 at stride 2 (LN(x)): (B, C, H, W) to (B, width, H / 2, W / 2), rounded down.

    Source: ConvNeXt, arXiv 2201.03545, section 2.6.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.norm = MapNorm(before)
        self.conv = nn.Conv2d(before, width, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the map."""
        y: Tensor = self.conv(self.norm(x))
        return y


class PoolNormHead(nn.Module):
    """y = W LN(mean over the map (x)) + b: (B, width, H, W) to (B, classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classify = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Give one logit a class."""
        y: Tensor = self.classify(self.norm(x.mean(dim=(2, 3))))
        return y


class NormPoolHead(nn.Module):
    """y = W mean over the map (BN(x)) + b: (B, width, H, W) to (B, classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.classify = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Give one logit a class."""
        y: Tensor = self.classify(self.norm(x).mean(dim=(2, 3)))
        return y

    def merged(self) -> nn.Module:
        """Give pooling and the linear layer with the norm inside: pooling is linear."""
        return PoolHead(self.classify, self.norm)


class PoolHead(nn.Module):
    """y = W mean over the map (x) + b: a merged `NormPoolHead`."""

    def __init__(self, linear: nn.Linear, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale, shift = scale_and_shift(norm)
        weight, dtype = linear.weight.double(), linear.weight.dtype
        bias = linear.bias.double() + weight @ shift  # W (s x + t) + b = (W s) x + (W t + b)
        with torch.device("meta"):  # the weights are given, none are drawn
            self.classify = nn.Linear(linear.in_features, linear.out_features)
        self.classify.weight = nn.Parameter((weight * scale).detach().to(dtype))
        self.classify.bias = nn.Parameter(bias.detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Give one logit a class."""
        y: Tensor = self.classify(x.mean(dim=(2, 3)))
        return y


class Pyramid(nn.Module):
    """y = W GELU(N(sum of the laterals)) + b: the maps of all stages to one, at the finest.

    Each map goes through a 1x1 convolution to one width; from the coarsest on, sums are enlarged to
    the next finer map and added to it. N is a norm or, merged, the identity.
    Source: Panoptic FPN, arXiv 1901.02446, without its 3x3 convolutions.
    """

    def __init__(self, laterals: Iterable[nn.Conv2d], norm: nn.Module, classify: nn.Module) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(laterals)
        self.norm = norm
        self.classify = classify

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Give (B, classes, H, W) at the size of the first map."""
        *finer, y = (lateral(x) for lateral, x in zip(self.laterals, maps, strict=True))
        for x in reversed(finer):
            y = x + enlarged(y, (x.shape[-2], x.shape[-1]))
        logits: Tensor = self.classify(F.gelu(self.norm(y)))
        return logits


class NormedPyramid(Pyramid):
    """A pyramid with a batch norm N; its laterals have no bias."""

    def merged(self) -> nn.Module:
        """Give the pyramid with the norm inside its laterals.

        Enlarging changes no channel's scale and no constant, so the scales go to every lateral and
        the constants to the first.
        """
        norm = self.norm
        assert isinstance(norm, nn.BatchNorm2d)
        laterals: list[nn.Conv2d] = []
        for lateral in self.laterals:
            assert isinstance(lateral, nn.Conv2d)
            weight, bias = fold_after(lateral.weight, None, norm)
            laterals.append(with_weights(lateral, weight, None if laterals else bias))
        return Pyramid(laterals, nn.Identity(), self.classify)


class NormedPointwise(nn.Module):
    """y = W BN(x) + b, pixel by pixel: (B, width, H, W) to (B, classes, H, W)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and convolve."""
        y: Tensor = self.classify(self.norm(x))
        return y

    def merged(self) -> nn.Module:
        """Give the convolution with the norm inside."""
        conv = self.classify
        return with_weights(conv, *fold_before(conv.weight, conv.bias, self.norm))


class DenseHead(nn.Module):
    """Two readings of the network, pixel by pixel: (B, 2, classes, H, W).

    [:, 0] reads the maps of all stages, [:, 1] the last map alone: it is trained beside the first,
    and `merge` leaves it out.
    """

    def __init__(self, widths: Sequence[int], pyramid: int, classes: int) -> None:
        super().__init__()
        self.every = NormedPyramid(
            [pointwise(width, pyramid) for width in widths],
            nn.BatchNorm2d(pyramid),
            nn.Conv2d(pyramid, classes, 1),
        )
        self.last = NormedPointwise(widths[-1], classes)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Give the logits of both at this height and width."""
        readings = (self.every(maps), self.last(maps[-1]))
        return torch.stack([enlarged(one, size) for one in readings], dim=1)

    def merged(self) -> nn.Module:
        """Give the first reading by itself."""
        return PyramidHead(self.every.merged())


class PyramidHead(nn.Module):
    """The reading of all stages alone, as it is deployed: (B, classes, H, W)."""

    def __init__(self, every: nn.Module) -> None:
        super().__init__()
        self.every = every

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Give the logits at this height and width."""
        return enlarged(self.every(maps), size)
