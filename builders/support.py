"""Whether everything that a space may draw has a builder in this version."""

from __future__ import annotations

import itertools

from builders.blocks import BLOCKS
from builders.parts import find_row
from builders.stems import HEADS, STEMS, TRANSITIONS
from search_space.plan import shell_of
from search_space.space import DesignSpace
from search_space.traits import axis_values


def check_builders(space: DesignSpace) -> None:
    """Check every block, stem, transition and head that the space may draw.

    Raises:
        SpaceError: one of them has no builder; with its file and line.
    """
    tables = {"block": BLOCKS, "stem": STEMS, "transition": TRANSITIONS, "head": HEADS}
    for values in itertools.product(*map(axis_values, space.network.values())):
        shell = shell_of(dict(zip(space.network, values, strict=True)))
        for part, table in tables.items():
            key = "stem.kind" if part == "stem" else part
            find_row(table, getattr(shell, part), where=space.place(key))
