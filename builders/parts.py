"""What the tables of parts share: the cost of a part, a row, first weights, and the look-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from builders.depthwise import DepthwiseConv
from builders.layers import Mergeable
from search_space.errors import SpaceError


class PartCost(NamedTuple):
    """Closed-form cost of one part of a network for one image, in three forms."""

    params_train: int
    params_merged: int
    """In the form whose size the family's authors publish: see `Cost` in `evaluators.cost`."""
    params_inference: int
    """With everything folded that folds: what `merge_network` makes."""
    macs_train: int
    """Multiply-adds of convolutions, linear layers and matrix products."""
    macs_merged: int
    macs_inference: int
    activations: int
    """Output elements of convolutions and linear layers of the inference form."""


def same_cost(params: int, macs: int, activations: int) -> PartCost:
    """Give the cost of a part in which nothing folds."""
    return PartCost(params, params, params, macs, macs, macs, activations)


def truncated_normal(part: nn.Module) -> None:
    """Draw first weights as ConvNeXt, SLaK and UniRepLKNet do: deviation 0.02, biases 0.

    The normal distribution is cut at two units. Depthwise kernels have drawn theirs when they were
    made; norms, GRN and layer scale keep what they were made with.
    """
    for module in part.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def torch_default(part: nn.Module) -> None:
    """Draw first weights as torch does, and RepLKNet with it: uniform, bounds 1 / sqrt(fan-in)."""
    for module in part.modules():
        if isinstance(module, DepthwiseConv):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A kind of part: how it is built and what it costs, with the same first arguments."""

    build: Callable[..., nn.Module]
    cost: Callable[..., PartCost]
    draw: Callable[[nn.Module], None] = truncated_normal
    """Draws the first weights from torch's global generator, in the order of the modules."""
    published: tuple[type[Mergeable], ...] = ()
    """Layers that the family's authors fold in the form whose size they publish."""


def find_row(table: Mapping[str, Row], kind: str, *, where: str) -> Row:
    """Look up a kind of part.

    Raises:
        SpaceError: where nothing of this kind can be built, naming what can.
    """
    if kind not in table:
        raise SpaceError(
            f"{where}: must be a kind that can be built, got {kind!r}; "
            f"this version builds {', '.join(table)}"
        )
    return table[kind]
