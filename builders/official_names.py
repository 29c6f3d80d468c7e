"""What the official code of each family calls the modules of our networks.

A name here stands for a module and all that it holds, or for one parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from builders.blocks import strip_beside
from search_space.architecture import LARGE_KERNEL, Architecture, Stage
from search_space.errors import CheckpointError
from search_space.families import FAMILIES

Names = Iterator[tuple[str, str]]
"""Pairs of our name and the official one."""

TELLTALE = {
    "pwconv1.1": "unireplknet",
    "prelkb_bn": "replknet",
    "large_kernel": "slak",
    "pwconv1": "convnext",
}
"""Parts of official keys that only one family has, once those above them were looked for."""


def family_of(keys: set[str]) -> str | None:
    """Guess the family of a state dict from its keys; None where they look like none."""
    text = "\n".join(sorted(keys))
    return next((family for part, family in TELLTALE.items() if f".{part}." in text), None)


def official_names(architecture: Architecture, *, merged: bool) -> dict[str, str]:
    """Give the official name of every module of a network that has parameters of its own.

    Args:
        architecture: a network of one family, with that family's stem, transitions and head.
        merged: of the form that the official code merges to instead of the training form.

    Raises:
        CheckpointError: the official code of the family has no such network.
    """
    family = FAMILIES[architecture.block]
    parts = (architecture.stem.kind, architecture.transition, architecture.head)
    if parts != (family.stem, family.transition, family.head):
        raise CheckpointError(
            f"official names: must be of a network with stem {family.stem}, transition "
            f"{family.transition} and head {family.head}, as {architecture.block} has, got "
            f"{', '.join(parts)}; keep its weights under our names"
        )
    outside, block = _FAMILIES[architecture.block]
    names = dict(outside(len(architecture.stages)))
    for i, stage in enumerate(architecture.stages):
        for j, kernel in enumerate(stage.kernels):
            for ours, official in block(stage, kernel, i, j, merged):
                names[f"stages.{i}.{j}.{ours}"] = official
    return names


def _convnext(stages: int) -> Names:
    yield "stem.conv", "downsample_layers.0.0"
    yield "stem.norm", "downsample_layers.0.1"
    for i in range(1, stages):
        yield f"transitions.{i - 1}.norm", f"downsample_layers.{i}.0"
        yield f"transitions.{i - 1}.conv", f"downsample_layers.{i}.1"
    yield from _head()


def _convnext_block(stage: Stage, kernel: int, i: int, j: int, merged: bool) -> Names:  # noqa: ARG001, FBT001
    yield "mix", f"stages.{i}.{j}.dwconv"
    yield from _convnext_rest(f"stages.{i}.{j}")


def _slak_block(stage: Stage, kernel: int, i: int, j: int, merged: bool) -> Names:  # noqa: ARG001, FBT001
    large = f"stages.{i}.{j}.large_kernel"
    if strip_beside(stage, kernel) is None:
        yield from _normed("mix", f"{large}.lkb_origin")
    else:
        yield from _normed("mix.tall", f"{large}.LoRA1")
        yield from _normed("mix.wide", f"{large}.LoRA2")
        yield from _normed("mix.small", f"{large}.small_conv")
    yield from _convnext_rest(f"stages.{i}.{j}")


def _convnext_rest(block: str) -> Names:
    yield "norm", f"{block}.norm"
    yield "feed_forward.mlp.expand", f"{block}.pwconv1"
    yield "feed_forward.mlp.project", f"{block}.pwconv2"
    yield "feed_forward.scale", f"{block}.gamma"


def _unireplknet(stages: int) -> Names:
    for ours, place in (("first", 0), ("first_norm", 1), ("second", 3), ("second_norm", 4)):
        yield f"stem.{ours}", f"downsample_layers.0.{place}"
    for i in range(1, stages):
        yield f"transitions.{i - 1}.conv", f"downsample_layers.{i}.0"
        yield f"transitions.{i - 1}.norm", f"downsample_layers.{i}.1"
    yield from _head()


def _unireplknet_block(stage: Stage, kernel: int, i: int, j: int, merged: bool) -> Names:  # noqa: FBT001
    block = f"stages.{i}.{j}"
    if stage.structure not in ("se", "none"):
        raise CheckpointError(
            f"official names: must be of a network with structure se, got {stage.structure}; "
            "keep its weights under our names"
        )
    branches = stage.dilations if kernel > 3 else ()
    large = bool(branches) or kernel >= LARGE_KERNEL
    yield "structure.down", f"{block}.se.down"
    yield "structure.up", f"{block}.se.up"
    if merged:
        yield "mix", f"{block}.dwconv.lk_origin" if large else f"{block}.dwconv"
        mlp = "feed_forward"
    else:
        yield "mix.norm", f"{block}.norm"
        if large:
            yield "mix.branches.0.conv", f"{block}.dwconv.lk_origin"
            yield "mix.branches.0.norm", f"{block}.dwconv.origin_bn"
        else:
            yield "mix.conv", f"{block}.dwconv"
        for place, (k, r) in enumerate(branches, start=1):
            yield f"mix.branches.{place}.conv", f"{block}.dwconv.dil_conv_k{k}_{r}"
            yield f"mix.branches.{place}.norm", f"{block}.dwconv.dil_bn_k{k}_{r}"
        yield "feed_forward.norm", f"{block}.pwconv2.2"
        yield "feed_forward.scale", f"{block}.gamma"
        mlp = "feed_forward.mlp"
    yield f"{mlp}.expand", f"{block}.pwconv1.1"
    yield f"{mlp}.response", f"{block}.act.1"
    yield f"{mlp}.project", f"{block}.pwconv2.0"


def _replknet(stages: int) -> Names:
    for place in range(4):
        yield from _normed(f"stem.layers.{place}", f"stem.{place}")
    for i in range(stages - 1):
        yield from _normed(f"transitions.{i}.expand", f"transitions.{i}.0")
        yield from _normed(f"transitions.{i}.halve", f"transitions.{i}.1")
    yield from _head()


def _replknet_block(stage: Stage, kernel: int, i: int, j: int, merged: bool) -> Names:  # noqa: FBT001
    """Name one of our pairs: two blocks of the official code."""
    wide, deep = f"stages.{i}.blocks.{2 * j}", f"stages.{i}.blocks.{2 * j + 1}"
    yield "expand.before", f"{wide}.prelkb_bn"
    yield from _normed("expand", f"{wide}.pw1")
    if merged:
        yield "mix", f"{wide}.large_kernel.lkb_reparam"
    else:
        yield from _normed("mix.branches.0", f"{wide}.large_kernel.lkb_origin")
        if stage.small_kernel is not None and kernel > 3:
            yield from _normed("mix.branches.1", f"{wide}.large_kernel.small_conv")
    yield from _normed("project", f"{wide}.pw2")
    yield "feed_forward.expand.before", f"{deep}.preffn_bn"
    yield from _normed("feed_forward.expand", f"{deep}.pw1")
    yield from _normed("feed_forward.project", f"{deep}.pw2")


def _normed(ours: str, official: str) -> Names:
    yield f"{ours}.conv", f"{official}.conv"
    yield f"{ours}.norm", f"{official}.bn"


def _head() -> Names:
    yield "head.norm", "norm"
    yield "head.classify", "head"


_FAMILIES: dict[
    str, tuple[Callable[[int], Names], Callable[[Stage, int, int, int, bool], Names]]
] = {
    "unireplknet": (_unireplknet, _unireplknet_block),
    "replknet": (_replknet, _replknet_block),
    "slak": (_convnext, _slak_block),
    "convnext": (_convnext, _convnext_block),
}
"""What names the parts outside the blocks, from the number of stages, and what names a block."""
