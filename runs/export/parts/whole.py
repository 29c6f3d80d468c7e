"""What is done with the network as a whole."""

from __future__ import annotations

import copy

from torch import nn

from runs.export.parts.layers import DropPath


def merge(network: nn.Module) -> nn.Module:
    """Give a new network in eval mode that computes the same with fewer layers.

    Parallel branches, batch norms, layer scale and all else that is linear go into the weights of
    the convolutions beside them, in float64; the weights keep their dtype. The given network stays
    as it is. A module that can be folded says how in its method `merged`.
    """
    merged = copy.deepcopy(network).eval()
    _merge_children(merged)
    return merged


def _merge_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        fold = getattr(child, "merged", None)
        if fold is None:
            _merge_children(child)
        else:
            setattr(module, name, fold().eval())


def draw_weights(part: nn.Module) -> None:
    """Draw first weights: normal with deviation 0.02, cut at two units; biases are zero."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def set_drop_path(stages: nn.Module, rate: float) -> None:
    """Give the last block this rate, the first one 0, and those between them their share."""
    paths = [module for module in stages.modules() if isinstance(module, DropPath)]
    for number, path in enumerate(paths):
        path.rate = rate * number / max(1, len(paths) - 1)
