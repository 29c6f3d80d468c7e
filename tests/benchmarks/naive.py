"""The network everyone writes: UniRepLKNet of plain torch modules, channels first.

Parameters are registered in the order of `builders.network`, so that one network's can be copied
into the other's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_space.architecture import Architecture, Stage, Stem, paper_branches


class Net(NamedTuple):
    """A network of performance measurements: UniRepLKNet with SE and GRN on 32 x 32 images."""

    kernels: tuple[int, ...]
    widths: tuple[int, ...]
    stride: int
    """Of the stem."""


DEPTHS = (1, 1, 3, 1)
SIZE = 32
CLASSES = 10
BATCH = 64
LAYER_SCALE = 0.1
NETS = {
    "A": Net((13, 13, 7, 3), (32, 64, 128, 256), 2),
    "B": Net((7, 7, 7, 3), (16, 32, 64, 128), 1),
    "C": Net((31, 17, 13, 7), (32, 64, 128, 256), 2),
}


def architecture(net: Net) -> Architecture:
    """Give the same network for `builders.network.build_network`."""
    return Architecture(
        size=(SIZE, SIZE),
        stem=Stem(stride=net.stride),
        stages=tuple(
            Stage(
                depth=depth,
                width=width,
                kernel=kernel,
                placement="L" * depth,
                dilations=_branches(kernel),
                structure="se",
                layer_scale=LAYER_SCALE,
            )
            for depth, width, kernel in zip(DEPTHS, net.widths, net.kernels, strict=True)
        ),
    )


def _branches(kernel: int) -> tuple[tuple[int, int], ...]:
    return paper_branches(kernel) if kernel >= 7 else ()


class PlainNet(nn.Module):
    """Stem, four stages with downsampling between them, head."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        first, *_, last = net.widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, first // 2, 3, net.stride, 1),
            PlainNorm(first // 2),
            nn.GELU(),
            nn.Conv2d(first // 2, first, 3, 1, 1),
            PlainNorm(first),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, kernel) for _ in range(depth)))
            for depth, width, kernel in zip(DEPTHS, net.widths, net.kernels, strict=True)
        )
        self.transitions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 3, 2, 1), PlainNorm(width))
            for before, width in pairwise(net.widths)
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(last, eps=1e-6),
            nn.Linear(last, CLASSES),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stages[0](self.stem(x_BCHW))
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x_BCHW = stage(transition(x_BCHW))
        logits: Tensor = self.head(x_BCHW)
        return logits

    def take_from(self, network: nn.Module) -> None:
        """Copy the parameters of our network."""
        with torch.no_grad():
            for own, other in zip(self.parameters(), network.parameters(), strict=True):
                own.copy_(other.reshape(own.shape))


class PlainNorm(nn.Module):
    """LayerNorm over channels, as the official code writes it for channels first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        centred = x_BCHW - x_BCHW.mean(1, keepdim=True)
        x_BCHW = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * x_BCHW + self.bias[:, None, None]


class Block(nn.Module):
    """x + feed_forward(SE(BN(mix(x)))), as everyone writes it."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.mix = PlainReparam(width, kernel)
        self.norm = nn.BatchNorm2d(width)
        self.down = nn.Conv2d(width, width // 4, 1)
        self.up = nn.Conv2d(width // 4, width, 1)
        self.feed_forward = FeedForward(width, 4 * width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.norm(self.mix(x_BCHW))
        pooled = F.adaptive_avg_pool2d(y_BCHW, 1)
        y_BCHW = y_BCHW * torch.sigmoid(self.up(F.relu(self.down(pooled))))
        return x_BCHW + self.feed_forward(y_BCHW)


class FeedForward(nn.Module):
    """s BN(W2 GRN(GELU(W1 x + b1)))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.expand = nn.Linear(width, hidden)
        self.response = PlainResponse(hidden)
        self.project = nn.Linear(hidden, width, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BHWC = self.project(self.response(F.gelu(self.expand(x_BCHW.permute(0, 2, 3, 1)))))
        return self.scale.view(1, -1, 1, 1) * self.norm(y_BHWC.permute(0, 3, 1, 2))


class PlainResponse(nn.Module):
    """GRN, as the official code of ConvNeXt V2 defines it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        length = torch.norm(x_BHWC, p=2, dim=(1, 2), keepdim=True)
        ratio = length / (length.mean(dim=-1, keepdim=True) + 1e-6)
        return (self.gamma * ratio + 1) * x_BHWC + self.beta


class PlainReparam(nn.Module):
    """The sum of the branches, each a convolution and a batch norm; a 3 x 3 has neither."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(_depthwise(width, k, r), *_norms(width, kernel))
            for k, r in ((kernel, 1), *_branches(kernel))
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.branches[0](x_BCHW)
        for branch in self.branches[1:]:
            y_BCHW = y_BCHW + branch(x_BCHW)
        return y_BCHW


def _norms(width: int, kernel: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width)] if kernel >= 7 else []


def _depthwise(width: int, kernel: int, dilation: int) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        width, width, kernel, padding=padding, dilation=dilation, groups=width, bias=False
    )
