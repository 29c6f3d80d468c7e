"""What the tables of parts share: the cost of a part, a row, and the look-up of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from search_space.errors import SpaceError


class PartCost(NamedTuple):
    """Closed-form cost of one part of a network for one image, in training and merged form."""

    params_train: int
    params_merged: int
    macs_train: int
    """Multiply-adds of convolutions, linear layers and matrix products."""
    macs_merged: int
    activations: int
    """Output elements of convolutions and linear layers of the merged form."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A kind of part: how it is built and what it costs, with the same first arguments."""

    build: Callable[..., nn.Module]
    cost: Callable[..., PartCost]


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
