"""From an architecture to a network, and from a trained network to its merged equal."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from builders.backends import AUTO, Backends, use_backends
from builders.blocks import BLOCKS
from builders.heads import HEADS, Head
from builders.layers import Mergeable
from builders.parts import find_row
from builders.stems import STEMS
from builders.transitions import TRANSITIONS
from builders.trunk import Trunk
from search_space.architecture import Architecture


class Network(Trunk):
    """logits = head(map_1, ..., map_n), map_n = stage_n(transition_n(... stage_1(stem(images)))).

    (B, channels, H, W) to (B, classes), with a dense head to (B, 2, classes, H, W): `DenseHead`.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        stem: nn.Module,
        stages: Iterable[nn.Module],
        transitions: Iterable[nn.Module],
        head: nn.Module,
    ) -> None:
        """Join the parts; there is one transition before every stage but the first."""
        super().__init__(architecture, stem=stem, stages=stages, transitions=transitions)
        self.head = head

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Give the logits."""
        size = x_BCHW.shape[-2], x_BCHW.shape[-1]
        logits: Tensor = self.head(self.features(x_BCHW), size)
        return logits


def build_network(
    architecture: Architecture,
    num_classes: int,
    *,
    drop_path: float = 0.0,
    backends: Backends = AUTO,
) -> Network:
    """Build the architecture exactly as written, with weights drawn from torch's global generator.

    Every part draws its weights as its family does (see `Row.draw`); GRN is 0, the layer scale at
    its value. Under `torch.device("meta")` nothing is drawn or allocated.

    Args:
        architecture: what to build.
        num_classes: number of logits, of a dense head for every pixel.
        drop_path: share of images for which the last block is left out in training; it grows
            linearly from 0 at the first block.
        backends: what computes it while it trains.

    Raises:
        SpaceError: where a block, stem, transition or head of this kind cannot be built.
    """
    block = find_row(BLOCKS, architecture.block, where="block")
    stem = find_row(STEMS, architecture.stem.kind, where="stem.kind")
    transition = find_row(TRANSITIONS, architecture.transition, where="transition")
    head = find_row(HEADS, architecture.head, where="head")
    rows = architecture.built_stages
    last = max(1, architecture.depth - 1)
    stages, number = [], 0
    for row in rows:
        blocks = []
        for kernel in row.kernels:
            rate = drop_path * number / last
            blocks.append(block.build(row, kernel, drop_path=rate, backends=backends))
            number += 1
        stages.append(nn.Sequential(*blocks))
    network = Network(
        architecture,
        stem=stem.build(architecture.stem, architecture.channels, rows[0].width),
        stages=stages,
        transitions=[transition.build(before.width, row.width) for before, row in pairwise(rows)],
        head=head.build(architecture.widths, num_classes),
    )
    stem.draw(network.stem)
    block.draw(network.stages)
    transition.draw(network.transitions)
    head.draw(network.head)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    use_backends(network, backends)
    return network


def merge_network(network: nn.Module) -> nn.Module:
    """Give a new network in eval mode, equal to this one in eval mode, with all that folds folded.

    Branches, batch norms, GRN's beta, layer scale and drop path disappear; every `Mergeable` says
    how. Weights keep their dtype. The original stays as it is; merging twice changes nothing more.
    """
    if isinstance(network, Mergeable):
        return network.merged().eval()
    merged = copy.deepcopy(network)
    _merge_children(merged, (Mergeable,))
    return merged.eval()


def inference_network(network: nn.Module) -> nn.Module:
    """Give a new network in eval mode: merged, and of a dense head the reading of all stages alone.

    It is what is counted as inference, measured and exported.
    """
    merged = merge_network(network)
    head = getattr(merged, "head", None)
    if isinstance(head, Head):
        merged.register_module("head", head.inference())
    return merged.eval()


def published_network(network: Network) -> Network:
    """Give a new network in eval mode, equal to this one, in the form that its family publishes.

    UniRepLKNet with everything folded, RepLKNet with its large kernels alone, ConvNeXt and SLaK as
    they are trained. Sizes in papers are of this form, and the merged checkpoints of the official
    code hold it.
    """
    merged = copy.deepcopy(network)
    row = find_row(BLOCKS, network.architecture.block, where="block")
    _merge_children(merged.stages, row.published)
    return merged.eval()


def _merge_children(module: nn.Module, kinds: tuple[type[Mergeable], ...]) -> None:
    for name, child in module.named_children():
        if isinstance(child, Mergeable) and isinstance(child, kinds):
            module.register_module(name, child.merged())
        else:
            _merge_children(child, kinds)
