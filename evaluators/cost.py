"""Closed-form cost straight from the architecture: nothing is built."""

from __future__ import annotations

from dataclasses import dataclass

from builders.blocks import BLOCKS
from builders.parts import find_row
from builders.stems import HEADS, STEMS, TRANSITIONS
from search_space.architecture import Architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a network costs for one image.

    macs are the multiply-adds of convolutions, linear layers and matrix products. Norms (batch,
    layer and global response), pooling, activations, additions, gates and biases are not counted:
    fvcore counts some of them, `evaluators.counting` shows them apart.
    """

    params_train: int
    """Parameters of the network that is trained, with all branches and norms."""
    params_merged: int
    """Parameters of the merged network."""
    macs_train: int
    macs_merged: int
    activations: int
    """Output elements of the convolutions and linear layers of the merged network."""
    depth: int
    """Number of blocks."""


def cost(architecture: Architecture, num_classes: int) -> Cost:
    """Count the architecture exactly as written, as `build_network` would build it.

    Raises:
        SpaceError: where a part of this kind cannot be built.
    """
    block = find_row(BLOCKS, architecture.block, where="block").cost
    stem = find_row(STEMS, architecture.stem.kind, where="stem.kind").cost
    transition = find_row(TRANSITIONS, architecture.transition, where="transition").cost
    head = find_row(HEADS, architecture.head, where="head").cost
    stages = architecture.stages
    parts = [
        (1, stem(architecture.stem, architecture.channels, stages[0].width, architecture.size)),
        (1, head(stages[-1].width, num_classes)),
    ]
    before = 0
    for stage, (height, width) in zip(stages, architecture.maps, strict=True):
        area = height * width
        if before:
            parts.append((1, transition(before, stage.width, area)))
        before = stage.width
        large = stage.placement.count("L")
        if large:
            parts.append((large, block(stage, stage.kernel, area)))
        if large < stage.depth:
            parts.append((stage.depth - large, block(stage, 3, area)))
    params_train = params_merged = macs_train = macs_merged = activations = 0
    for times, part in parts:
        params_train += times * part[0]
        params_merged += times * part[1]
        macs_train += times * part[2]
        macs_merged += times * part[3]
        activations += times * part[4]
    return Cost(
        params_train=params_train,
        params_merged=params_merged,
        macs_train=macs_train,
        macs_merged=macs_merged,
        activations=activations,
        depth=architecture.depth,
    )
