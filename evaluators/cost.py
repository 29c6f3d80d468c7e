"""Closed-form cost straight from the architecture: nothing is built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builders.blocks import BLOCKS
from builders.heads import HEADS
from builders.parts import PartCost, find_row
from builders.stems import STEMS
from builders.transitions import TRANSITIONS
from evaluators.operators import HEAD, STEM, stage_name, to_stage
from search_space.architecture import Architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a network costs for one image, in three forms.

    *train* is what is trained, with all branches and norms. *merged* is the form whose size the
    family's authors publish: UniRepLKNet with everything folded, RepLKNet with its large kernels
    folded and all other batch norms kept, ConvNeXt and SLaK as they are trained; a mixture counts
    every part by its own family. *inference* is what `inference_network` makes, with everything
    folded that folds, and of a dense head one reading: what is measured, exported and ranked.

    macs are the multiply-adds of convolutions, linear layers and matrix products. Norms (batch,
    layer and global response), pooling, activations, additions, gates and biases are not counted:
    fvcore counts some of them, `evaluators.counting` shows them apart.
    """

    params_train: int
    params_merged: int
    params_inference: int
    macs_train: int
    macs_merged: int
    macs_inference: int
    activations: int
    """Output elements of the convolutions and linear layers of the inference form."""
    depth: int
    """Number of blocks."""


def cost(architecture: Architecture, num_classes: int) -> Cost:
    """Count the architecture exactly as written, as `build_network` would build it.

    Raises:
        SpaceError: where a part of this kind cannot be built.
    """
    totals = [0] * 7
    for _, times, part in _parts(architecture, num_classes):
        for place, value in enumerate(part):
            totals[place] += times * value
    return Cost(
        params_train=totals[0],
        params_merged=totals[1],
        params_inference=totals[2],
        macs_train=totals[3],
        macs_merged=totals[4],
        macs_inference=totals[5],
        activations=totals[6],
        depth=architecture.depth,
    )


def cost_by_part(architecture: Architecture, num_classes: int) -> dict[str, PartCost]:
    """Count the architecture part by part, as an image runs through it; `cost` is the sum.

    Returns:
        By `stem`, `stage 1`, `to stage 2`, `stage 2` and so on, `head`.

    Raises:
        SpaceError: where a part of this kind cannot be built.
    """
    found: dict[str, PartCost] = {}
    for name, times, part in _parts(architecture, num_classes):
        before = found.get(name, PartCost(*[0] * 7))
        found[name] = PartCost(*(b + times * value for b, value in zip(before, part, strict=True)))
    return found


def _parts(architecture: Architecture, num_classes: int) -> Iterator[tuple[str, int, PartCost]]:
    """List the parts with their names and how often each stands there."""
    block = find_row(BLOCKS, architecture.block, where="block").cost
    stem = find_row(STEMS, architecture.stem.kind, where="stem.kind").cost
    transition = find_row(TRANSITIONS, architecture.transition, where="transition").cost
    head = find_row(HEADS, architecture.head, where="head").cost
    stages = architecture.built_stages
    yield (
        STEM,
        1,
        stem(architecture.stem, architecture.channels, stages[0].width, architecture.size),
    )
    before = area_before = 0
    for number, (stage, (height, width)) in enumerate(zip(stages, architecture.maps, strict=True)):
        area = height * width
        if number:
            yield to_stage(number), 1, transition(before, stage.width, area_before, area)
        before, area_before = stage.width, area
        large = stage.placement.count("L")
        if large:
            yield stage_name(number), large, block(stage, stage.kernel, area)
        if large < stage.depth:
            yield stage_name(number), stage.depth - large, block(stage, 3, area)
    yield HEAD, 1, head(architecture.widths, num_classes, architecture.maps)
