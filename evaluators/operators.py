"""The operators of a merged network in closed form: what its latency is predicted from.

Nothing is built. Each kind of part lists its operators in the order they run, in the words of the
tables of `builders`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from typing import NamedTuple

from builders.blocks import inner_width, strip_beside
from builders.heads import PYRAMID_WIDTH
from builders.stems import half_width, patch_side, strides
from builders.structures import SQUEEZE
from search_space.architecture import Architecture, Stage, Stem
from search_space.families import stem_map

KINDS = ("dense", "depthwise", "norm", "response", "gelu", "relu", "sum", "pool", "resize")
"""Kinds of operators. dense: convolutions over all channels and linear layers; norm: layer norms;
response: global response normalisation; relu: sigmoids too; sum: additions and gates, of two maps;
pool: mean over the map; resize: bilinear."""

STEM, HEAD = "stem", "head"
"""Names of parts, beside those of `stage_name` and `to_stage`."""

Map = tuple[int, int]
"""Height and width in pixels."""


class Operator(NamedTuple):
    """One operator of a merged network, counted for one image."""

    kind: str
    """One of `KINDS`."""
    macs: int
    """Multiply-adds as `evaluators.cost` counts them."""
    effective_macs: int
    """Those of them whose tap falls on the map: at 7 x 7, a 31 x 31 kernel has a twentieth."""
    inputs: int
    """Numbers read beside the weights."""
    outputs: int
    """Numbers written."""
    weights: int
    """Numbers of weights and bias, read once for all images of a batch."""
    width: int = 1
    """Channels that a convolution or linear layer writes."""
    side: int = 1
    """Longer side of the kernel of a depthwise convolution, in pixels."""

    def bytes(self, batch_size: int = 1) -> int:
        """Give the bytes that are moved for a batch, in float32."""
        return 4 * (batch_size * (self.inputs + self.outputs) + self.weights)


Operators = Iterator[Operator]


def operators(architecture: Architecture, num_classes: int) -> Operators:
    """List the operators of the inference form of an architecture, in the order they run.

    Raises:
        KeyError: a part of this kind is not known; `evaluators.cost` refuses it with the reason.
    """
    for _, part in operators_by_part(architecture, num_classes):
        yield from part


def operators_by_part(
    architecture: Architecture, num_classes: int
) -> Iterator[tuple[str, Iterable[Operator]]]:
    """List the parts of an architecture by name, each with its operators.

    Raises:
        KeyError: as in `operators`.
    """
    stages, maps = architecture.built_stages, architecture.maps
    stem = architecture.stem
    yield (
        STEM,
        STEM_OPERATORS[stem.kind](stem, architecture.channels, stages[0].width, architecture.size),
    )
    transition = TRANSITION_OPERATORS[architecture.transition]
    block = BLOCK_OPERATORS[architecture.block]
    for number, (stage, at) in enumerate(zip(stages, maps, strict=True)):
        if number:
            before = number - 1
            made = transition(stages[before].width, stage.width, maps[before], at)
            yield to_stage(number), made
        # Blocks of a stage differ in their kernel alone: each is listed once and repeated.
        listed = {kernel: tuple(block(stage, kernel, at)) for kernel in set(stage.kernels)}
        yield stage_name(number), chain.from_iterable(listed[kernel] for kernel in stage.kernels)
    yield (
        HEAD,
        HEAD_OPERATORS[architecture.head](
            architecture.widths, num_classes, maps, architecture.size
        ),
    )


def stage_name(number: int) -> str:
    """Name a stage as people count them; `number` counts from 0."""
    return f"stage {number + 1}"


def to_stage(number: int) -> str:
    """Name the transition before a stage; `number` counts from 0."""
    return f"to stage {number + 1}"


@lru_cache(maxsize=4096)
def taps_on_map(side: int, kernel: int, stride: int = 1) -> int:
    """Count the taps that fall on a line of `side` pixels, over all positions of a padded kernel.

    The kernel is odd and padded by half its side; positions are `stride` pixels apart.
    """
    half = kernel // 2
    return sum(
        min(middle + half, side - 1) - max(middle - half, 0) + 1
        for middle in range(0, side, stride)
    )


# Single operators.


def _dense(before: int, width: int, taps: int, read: int, made: int) -> Operator:
    """Convolve over all channels: `taps` pixels of each, from `read` pixels to `made`."""
    weights = taps * before * width
    macs = weights * made
    return Operator("dense", macs, macs, before * read, width * made, weights + width, width)


def _pointwise(before: int, width: int, area: int) -> Operator:
    return _dense(before, width, 1, area, area)


def _depthwise(
    width: int, sides: tuple[int, int], at: Map, *, stride: int = 1, bias: bool = True
) -> Operator:
    made = _area((-(-at[0] // stride), -(-at[1] // stride)))
    taps = sides[0] * sides[1]
    rows, columns = (taps_on_map(side, k, stride) for side, k in zip(at, sides, strict=True))
    return Operator(
        "depthwise",
        width * taps * made,
        width * rows * columns,
        width * _area(at),
        width * made,
        width * (taps + bias),
        width,
        max(sides),
    )


def _mapped(kind: str, elements: int, *, inputs: int = 1, weights: int = 0) -> Operator:
    """Work on every element of a map, or of `inputs` maps."""
    return Operator(kind, 0, 0, inputs * elements, elements, weights)


def _norm(width: int, area: int) -> Operator:
    return _mapped("norm", width * area, weights=2 * width)


def _pool(width: int, area: int) -> Operator:
    return Operator("pool", 0, 0, width * area, width, 0)


def _area(at: Map) -> int:
    return at[0] * at[1]


# Stems: (stem, channels, width, size in pixels).


def _unireplknet_stem(stem: Stem, channels: int, width: int, size: Map) -> Operators:
    half = half_width(width)
    first, area = _stem_areas(stem, size)
    yield _dense(channels, half, 9, _area(size), first)
    yield _norm(half, first)
    yield _mapped("gelu", half * first)
    yield _dense(half, width, 9, first, area)
    yield _norm(width, area)


def _replknet_stem(stem: Stem, channels: int, width: int, size: Map) -> Operators:
    first, last = strides(stem)
    at = stem_map(stem.kind, first, size[0]), stem_map(stem.kind, first, size[1])
    for layer in (
        _dense(channels, width, 9, _area(size), _area(at)),
        _depthwise(width, (3, 3), at),
        _pointwise(width, width, _area(at)),
        _depthwise(width, (3, 3), at, stride=last),
    ):
        yield layer
        yield _mapped("relu", layer.outputs)


def _patchify_stem(stem: Stem, channels: int, width: int, size: Map) -> Operators:
    _, area = _stem_areas(stem, size)
    yield _dense(channels, width, patch_side(stem) ** 2, _area(size), area)
    yield _norm(width, area)


def _stem_areas(stem: Stem, size: Map) -> tuple[int, int]:
    first, _ = strides(stem)
    height, width = size
    return (
        stem_map(stem.kind, first, height) * stem_map(stem.kind, first, width),
        stem_map(stem.kind, stem.stride, height) * stem_map(stem.kind, stem.stride, width),
    )


# Transitions: (width before, width, map before, map made).


def _unireplknet_transition(before: int, width: int, at: Map, made: Map) -> Operators:
    yield _dense(before, width, 9, _area(at), _area(made))
    yield _norm(width, _area(made))


def _replknet_transition(before: int, width: int, at: Map, made: Map) -> Operators:
    yield _pointwise(before, width, _area(at))
    yield _mapped("relu", width * _area(at))
    yield _depthwise(width, (3, 3), at, stride=2)
    yield _mapped("relu", width * _area(made))


def _convnext_transition(before: int, width: int, at: Map, made: Map) -> Operators:
    yield _norm(before, _area(at))
    yield _dense(before, width, 4, _area(at), _area(made))


# Blocks: (stage, kernel, map).


def _unireplknet_block(stage: Stage, kernel: int, at: Map) -> Operators:
    yield _depthwise(stage.width, (kernel, kernel), at)
    yield from STRUCTURE_OPERATORS[stage.structure](stage, at)
    yield from _feed_forward(stage, _area(at), response=True)


def _replknet_block(stage: Stage, kernel: int, at: Map) -> Operators:
    inner, area = inner_width(stage), _area(at)
    yield _pointwise(stage.width, inner, area)
    yield _mapped("relu", inner * area)
    yield _depthwise(inner, (kernel, kernel), at)
    yield _mapped("relu", inner * area)
    yield _pointwise(inner, stage.width, area)
    yield _mapped("sum", stage.width * area, inputs=2)
    yield from _feed_forward(stage, area)


def _convnext_block(stage: Stage, kernel: int, at: Map) -> Operators:
    yield _depthwise(stage.width, (kernel, kernel), at)
    yield _norm(stage.width, _area(at))
    yield from _feed_forward(stage, _area(at))


def _slak_block(stage: Stage, kernel: int, at: Map) -> Operators:
    strip = strip_beside(stage, kernel)
    if strip is None:
        yield from _convnext_block(stage, kernel, at)
        return
    area = _area(at)
    yield _depthwise(stage.width, (kernel, strip), at)
    yield _depthwise(stage.width, (strip, kernel), at, bias=False)
    yield _mapped("sum", stage.width * area, inputs=2)
    yield _norm(stage.width, area)
    yield from _feed_forward(stage, area)


def _feed_forward(stage: Stage, area: int, *, response: bool = False) -> Operators:
    """Mix the channels, and add the input of the block."""
    width, hidden = stage.width, stage.ffn_width
    yield _pointwise(width, hidden, area)
    yield _mapped("gelu", hidden * area)
    if response:
        yield _mapped("response", hidden * area, weights=hidden)
    yield _pointwise(hidden, width, area)
    yield _mapped("sum", width * area, inputs=2)


# What adds depth inside a block: (stage, map).


def _nothing(stage: Stage, at: Map) -> Operators:  # noqa: ARG001
    yield from ()


def _se(stage: Stage, at: Map) -> Operators:
    width, area = stage.width, _area(at)
    squeezed = max(1, width // stage.se_ratio)
    yield _pool(width, area)
    yield _pointwise(width, squeezed, 1)
    yield _mapped("relu", squeezed)
    yield _pointwise(squeezed, width, 1)
    yield _mapped("relu", width)
    yield Operator("sum", 0, 0, width * (area + 1), width * area, 0)


def _bottleneck(stage: Stage, at: Map) -> Operators:
    inner, area = max(1, stage.width // SQUEEZE), _area(at)
    yield _pointwise(stage.width, inner, area)
    yield _mapped("relu", inner * area)
    yield _depthwise(inner, (3, 3), at)
    yield _mapped("relu", inner * area)
    yield _pointwise(inner, stage.width, area)
    yield _mapped("sum", stage.width * area, inputs=2)


def _pair(stage: Stage, at: Map) -> Operators:
    inner, area = max(1, stage.width // SQUEEZE), _area(at)
    yield _pointwise(stage.width, inner, area)
    yield _mapped("relu", inner * area)
    yield _pointwise(inner, stage.width, area)
    yield _mapped("sum", stage.width * area, inputs=2)


def _depthwise_pair(stage: Stage, at: Map) -> Operators:
    elements = stage.width * _area(at)
    yield _depthwise(stage.width, (3, 3), at)
    yield _mapped("relu", elements)
    yield _depthwise(stage.width, (3, 3), at)
    yield _mapped("sum", elements, inputs=2)


# Heads: (widths, number of classes, maps, size in pixels).


def _pool_norm(
    widths: Sequence[int],
    num_classes: int,
    maps: Sequence[Map],
    size: Map,  # noqa: ARG001
) -> Operators:
    yield _pool(widths[-1], _area(maps[-1]))
    yield _norm(widths[-1], 1)
    yield _pointwise(widths[-1], num_classes, 1)


def _norm_pool(
    widths: Sequence[int],
    num_classes: int,
    maps: Sequence[Map],
    size: Map,  # noqa: ARG001
) -> Operators:
    yield _pool(widths[-1], _area(maps[-1]))
    yield _pointwise(widths[-1], num_classes, 1)


def _pyramid(widths: Sequence[int], num_classes: int, maps: Sequence[Map], size: Map) -> Operators:
    areas = [_area(at) for at in maps]
    for number, (width, area) in enumerate(zip(widths, areas, strict=True)):
        lateral = _pointwise(width, PYRAMID_WIDTH, area)
        # The first alone has a bias.
        yield lateral._replace(weights=lateral.weights - PYRAMID_WIDTH) if number else lateral
    for coarse, fine in reversed(list(pairwise(areas))):
        yield _resize(PYRAMID_WIDTH, coarse, fine)
        yield _mapped("sum", PYRAMID_WIDTH * fine, inputs=2)
    yield _mapped("gelu", PYRAMID_WIDTH * areas[0])
    yield _pointwise(PYRAMID_WIDTH, num_classes, areas[0])
    yield _resize(num_classes, areas[0], _area(size))


def _resize(width: int, read: int, made: int) -> Operator:
    return Operator("resize", 0, 0, width * read, width * made, 0)


STEM_OPERATORS: dict[str, Callable[[Stem, int, int, Map], Operators]] = {
    "unireplknet": _unireplknet_stem,
    "replknet": _replknet_stem,
    "patchify": _patchify_stem,
}
TRANSITION_OPERATORS: dict[str, Callable[[int, int, Map, Map], Operators]] = {
    "unireplknet": _unireplknet_transition,
    "replknet": _replknet_transition,
    "convnext": _convnext_transition,
}
BLOCK_OPERATORS: dict[str, Callable[[Stage, int, Map], Operators]] = {
    "unireplknet": _unireplknet_block,
    "replknet": _replknet_block,
    "slak": _slak_block,
    "convnext": _convnext_block,
}
STRUCTURE_OPERATORS: dict[str, Callable[[Stage, Map], Operators]] = {
    "none": _nothing,
    "se": _se,
    "bottleneck": _bottleneck,
    "pointwise": _pair,
    "depthwise": _depthwise_pair,
}
HEAD_OPERATORS: dict[str, Callable[[Sequence[int], int, Sequence[Map], Map], Operators]] = {
    "pool_norm": _pool_norm,
    "norm_pool": _norm_pool,
    "dense": _pyramid,
}
