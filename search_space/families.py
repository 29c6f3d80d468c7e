"""What each published family fixes: its stem, transition, head and the keys that act in its blocks.

The names here are the words of the YAML; `builders` holds a class for each that it can build.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STEM_KINDS = ("unireplknet", "replknet", "patchify")
TRANSITION_KINDS = ("unireplknet", "replknet", "convnext")
TASKS = ("classification", "segmentation")
CLASSIFIERS = ("pool_norm", "norm_pool")
DENSE = "dense"
"""The head that labels every pixel; it makes a network one for segmentation."""
HEAD_KINDS = (*CLASSIFIERS, DENSE)
STRUCTURES = ("none", "se", "bottleneck", "pointwise", "depthwise")


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The fixed parts of a published family of large-kernel ConvNets."""

    stem: str
    """Kind of stem where the YAML names none."""
    transition: str
    """Kind of downsampling between stages."""
    head: str
    """`pool_norm`: pooling, LayerNorm, linear; `norm_pool`: BatchNorm, pooling, linear.

    For segmentation every family has the dense head.
    """
    stage_keys: frozenset[str] = field(default_factory=frozenset)
    """Keys of a stage that act here, beside those that act in every family."""
    network_keys: frozenset[str] = field(default_factory=frozenset)
    """Keys of the network that act in this family only."""


FAMILIES = {
    "unireplknet": Family(
        stem="unireplknet",
        transition="unireplknet",
        head="pool_norm",
        stage_keys=frozenset({"dilations", "structure", "se_ratio", "layer_scale"}),
    ),
    "replknet": Family(
        stem="replknet",
        transition="replknet",
        head="norm_pool",
        stage_keys=frozenset({"small_kernel", "dw_ratio"}),
    ),
    "slak": Family(
        stem="patchify",
        transition="convnext",
        head="pool_norm",
        stage_keys=frozenset({"strip", "layer_scale"}),
        network_keys=frozenset({"width_factor", "weights_sparsity"}),
    ),
    "convnext": Family(
        stem="patchify",
        transition="convnext",
        head="pool_norm",
        stage_keys=frozenset({"layer_scale"}),
    ),
}


def stem_map(kind: str, stride: int, side: int) -> int:
    """Give the side in pixels of the map that a stem makes of an image of `side` pixels.

    3x3 convolutions with padding 1 round up at each halving; patchify stems round down
    (UniRepLKNet makes 57 of 225, ConvNeXt 56).
    """
    if kind == "patchify":
        return side // stride
    return _halved_up(side, times={1: 0, 2: 1, 4: 2}[stride])


def transition_map(kind: str, side: int) -> int:
    """Give the side in pixels after the downsampling between two stages: half, rounded."""
    return side // 2 if kind == "convnext" else _halved_up(side, times=1)


def stage_maps(
    size: tuple[int, int], stages: int, *, stem: str, stride: int, transition: str
) -> tuple[tuple[int, int], ...]:
    """Give height and width in pixels of every stage's map, first to last."""
    height, width = (stem_map(stem, stride, side) for side in size)
    maps = [(height, width)]
    for _ in range(stages - 1):
        height, width = (transition_map(transition, side) for side in (height, width))
        maps.append((height, width))
    return tuple(maps)


def _halved_up(side: int, *, times: int) -> int:
    for _ in range(times):
        side = (side + 1) // 2
    return side
