"""What autograd holds of a network: the values of its maps that a training step keeps.

A step holds most memory when its backward pass reaches some part of the network: what autograd
keeps of all parts up to there, and what that part takes while its gradients are computed. Each
function of the tables gives both for one kind of part, in values an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from builders.backends import AUTO, Backends, Kernel, SumShape
from builders.blocks import inner_width, strip_beside
from builders.heads import PYRAMID_WIDTH
from builders.norms import MOST_CHANNELS
from builders.stems import half_width, strides
from builders.structures import SQUEEZE
from builders.torch_convolutions import fast_length, gradient_method, method, reach
from search_space.architecture import LARGE_KERNEL, Architecture, Stage
from search_space.families import stem_map

Map = tuple[int, int]
"""Height and width in pixels."""


class Held(NamedTuple):
    """Values an image that a part of a network takes."""

    kept: float
    """From its forward to its backward pass."""
    passing: float
    """Beside that, while its backward pass runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What the memory of a training depends on beside the network."""

    images: int
    """Of one backward pass."""
    backends: Backends = AUTO
    device: str = "cpu"
    """cpu or cuda. Of a GPU's memory nothing was measured: bfloat16 as autocast would have it."""

    @property
    def value_bytes(self) -> int:
        """Bytes of a value of a map."""
        return 4 if self.device == "cpu" else 2

    def layer_norm(self, width: int, side: Map) -> int:
        """Values that a layer norm keeps: its input, a mean and a deviation of every pixel.

        On a GPU they are float32 where the rest is bfloat16; the native one computes them again.
        """
        again = self.backends.native and width <= MOST_CHANNELS and self.device == "cpu"
        return (width + (0 if again else 2)) * side[0] * side[1] * (4 // self.value_bytes)

    @property
    def response(self) -> int:
        """Values that GELU and global response normalisation keep of one, and what they give."""
        if self.device != "cpu":
            return 5
        return 2 if self.backends.native else 3


def step_values(
    architecture: Architecture, num_classes: int, on: Conditions
) -> tuple[float, float]:
    """Give the values an image that autograd keeps of a whole step, and the most at any time."""
    kept = peak = 0.0
    for part in _parts(architecture, num_classes, on):
        kept += part.kept
        peak = max(peak, kept + part.passing)
    return kept, peak


def _parts(architecture: Architecture, num_classes: int, on: Conditions) -> Iterator[Held]:
    """Give what every part of a network takes, in the order of the forward pass."""
    stages, maps = architecture.built_stages, architecture.maps
    yield STEMS[architecture.stem.kind](architecture, on)
    before: tuple[int, Map] | None = None
    for stage, side in zip(stages, maps, strict=True):
        if before is not None:
            yield TRANSITIONS[architecture.transition](*before, stage.width, side, on)
        for kernel in stage.kernels:
            yield from BLOCKS[architecture.block](stage, kernel, side, on)
        before = stage.width, side
    yield HEADS[architecture.head](architecture, num_classes, on)


# Blocks. A block's input is kept by its first part, its output by whatever comes next; the
# gradient of its shortcut (a map) waits while those of the rest are computed.


def _unireplknet(stage: Stage, kernel: int, side: Map, on: Conditions) -> Iterator[Held]:
    m, hidden = _values(stage.width, side), _values(stage.ffn_width, side)
    branches = () if kernel == 3 else stage.dilations
    large = bool(branches) or kernel >= LARGE_KERNEL
    kernels = ((kernel, kernel, 1), *((k, k, r) for k, r in branches))
    yield _summed(stage.width, side, kernels, on, normed=True, last=large)
    yield from _structure(stage, side, on)
    # The pair's input, GELU and its response, the second layer's output; the scaled one.
    kept = m + on.response * hidden + m + (m if stage.layer_scale else 0)
    yield Held(kept, 2 * m + (on.response - 1) * hidden)


def _replknet(stage: Stage, kernel: int, side: Map, on: Conditions) -> Iterator[Held]:
    m, hidden = _values(stage.width, side), _values(stage.ffn_width, side)
    inner = inner_width(stage)
    wide = _values(inner, side)
    small = None if kernel == 3 else stage.small_kernel
    kernels = ((kernel, kernel, 1), *(() if small is None else ((small, small, 1),)))
    yield Held(2 * m + wide, 2 * m + wide)  # input and its norm; the first layer's output
    yield _summed(inner, side, kernels, on, normed=True, last=False)
    yield Held(wide + m, 2 * m + wide)  # ReLU, the second layer's output
    yield Held(3 * m + 3 * hidden, 2 * m + hidden)


def _convnext(stage: Stage, kernel: int, side: Map, on: Conditions) -> Iterator[Held]:
    yield _summed(stage.width, side, ((kernel, kernel, 1),), on, normed=False, last=False)
    yield _scaled(stage, side, on)


def _slak(stage: Stage, kernel: int, side: Map, on: Conditions) -> Iterator[Held]:
    strip = strip_beside(stage, kernel)
    kernels: tuple[Kernel, ...] = ((kernel, kernel, 1),)
    if strip is not None:
        kernels = ((kernel, strip, 1), (strip, kernel, 1), (strip, strip, 1))
    yield _summed(stage.width, side, kernels, on, normed=True, last=False)
    yield _scaled(stage, side, on)


def _scaled(stage: Stage, side: Map, on: Conditions) -> Held:
    """Layer norm, the pointwise pair with GELU, and the layer scale."""
    m, hidden = _values(stage.width, side), _values(stage.ffn_width, side)
    kept = on.layer_norm(stage.width, side) + m + 2 * hidden + (m if stage.layer_scale else 0)
    return Held(kept, 2 * m + hidden)


def _structure(stage: Stage, side: Map, on: Conditions) -> Iterator[Held]:
    """What stands between the two halves of a UniRepLKNet block; its input is kept."""
    m, quarter = _values(stage.width, side), _values(max(1, stage.width // SQUEEZE), side)
    small = ((3, 3, 1),)
    match stage.structure:
        case "se":
            yield Held(m, 3 * m)
        case "pointwise":
            yield Held(2 * m + 2 * quarter, 3 * m + quarter)
        case "bottleneck":
            yield Held(m + 2 * quarter, 3 * m)
            yield _summed(max(1, stage.width // SQUEEZE), side, small, on, normed=True, last=False)
            yield Held(m, 3 * m)
        case "depthwise":
            yield _summed(stage.width, side, small, on, normed=True, last=False)
            yield _summed(stage.width, side, small, on, normed=True, last=False)


def _summed(
    width: int, side: Map, kernels: tuple[Kernel, ...], on: Conditions, *, normed: bool, last: bool
) -> Held:
    """A depthwise sum with its norms, beside whose gradient that of a shortcut waits."""
    m, branches = _values(width, side), len(kernels)
    shape = SumShape(on.images, width, *side, kernels, normed, last)
    backend = on.backends.of(shape, on.device)
    if backend == "native":
        return Held(m, 3 * m)
    if backend == "torch":
        work = max(_workspace(width, side, kernel, on) for kernel in kernels)
        return Held(m, (5 + (branches if normed and last else 1)) * m + work)
    # torch keeps what every batch norm normalises.
    return Held(m + (branches * m if normed else 0) + (m if last else 0), 4 * m)


def _workspace(width: int, side: Map, kernel: Kernel, on: Conditions) -> float:
    """Give the values an image of torch's rewritten convolutions (`builders.torch_backend`)."""
    *taps, dilation = kernel
    live = [2 * half + 1 for half in reach(taps, side, dilation)]
    m = _values(width, side)
    if method(side, live, dilation) == "transform":
        lengths = (fast_length(one + tap // 2) for one, tap in zip(side, live, strict=True))
        return 5 * _values(width, tuple(lengths))
    if gradient_method(on.images, side, live, dilation) == "swapped":
        return 2 * m + width * live[0] * live[1]
    return 2 * m


BLOCKS = {
    "unireplknet": _unireplknet,
    "replknet": _replknet,
    "convnext": _convnext,
    "slak": _slak,
}
"""Block families by their words: (stage, kernel, map, conditions) to what their parts take."""


# Stems: (architecture, conditions).


def _unireplknet_stem(architecture: Architecture, on: Conditions) -> Held:
    width, early = half_width(architecture.widths[0]), _early_map(architecture)
    half = _values(width, early)
    kept = (
        _image(architecture)
        + on.layer_norm(width, early)
        + 2 * half
        + _first_norm(architecture, on)
    )
    return Held(kept, _first(architecture) + 2 * half)


def _replknet_stem(architecture: Architecture, on: Conditions) -> Held:  # noqa: ARG001
    early = _values(architecture.widths[0], _early_map(architecture))
    return Held(_image(architecture) + 6 * early + _first(architecture), 2 * early)


def _patchify_stem(architecture: Architecture, on: Conditions) -> Held:
    kept = _image(architecture) + _first_norm(architecture, on)
    return Held(kept, 2 * _first(architecture))


STEMS = {
    "unireplknet": _unireplknet_stem,
    "replknet": _replknet_stem,
    "patchify": _patchify_stem,
}


# Transitions: (width before, map before, width, map, conditions).


def _unireplknet_transition(before: int, old: Map, width: int, new: Map, on: Conditions) -> Held:
    kept = _values(before, old) + on.layer_norm(width, new)
    return Held(kept, 2 * _values(width, new) + _values(before, old))


def _replknet_transition(
    before: int,
    old: Map,
    width: int,
    new: Map,
    on: Conditions,  # noqa: ARG001
) -> Held:
    wide = _values(width, old)
    return Held(_values(before, old) + 2 * wide + _values(width, new), 2 * wide)


def _convnext_transition(before: int, old: Map, width: int, new: Map, on: Conditions) -> Held:
    m = _values(before, old)
    return Held(on.layer_norm(before, old) + m, m + _values(width, new))


TRANSITIONS = {
    "unireplknet": _unireplknet_transition,
    "replknet": _replknet_transition,
    "convnext": _convnext_transition,
}


# Heads: (architecture, classes, conditions).


def _pool_norm(architecture: Architecture, num_classes: int, on: Conditions) -> Held:  # noqa: ARG001
    return Held(0, 2 * _last(architecture))


def _norm_pool(architecture: Architecture, num_classes: int, on: Conditions) -> Held:  # noqa: ARG001
    return Held(_last(architecture), 2 * _last(architecture))


def _dense(architecture: Architecture, num_classes: int, on: Conditions) -> Held:
    finest = _values(PYRAMID_WIDTH, architecture.maps[0])
    logits = _values(num_classes, architecture.maps[0]) + _values(
        num_classes, architecture.maps[-1]
    )
    kept = 3 * finest + 2 * _last(architecture) + logits
    # Only a GPU enlarges the logits of all images at once.
    whole = 0 if on.device == "cpu" else 2 * 2 * 3 * _values(num_classes, architecture.size)
    return Held(kept + whole, 2 * finest)


HEADS = {"pool_norm": _pool_norm, "norm_pool": _norm_pool, "dense": _dense}


def _values(width: int, side: tuple[int, ...]) -> int:
    """Give the values of a map of one image."""
    return width * side[0] * side[1]


def _image(architecture: Architecture) -> int:
    return _values(architecture.channels, architecture.size)


def _first(architecture: Architecture) -> int:
    """Give the values of the first map."""
    return _values(architecture.widths[0], architecture.maps[0])


def _first_norm(architecture: Architecture, on: Conditions) -> int:
    return on.layer_norm(architecture.widths[0], architecture.maps[0])


def _last(architecture: Architecture) -> int:
    return _values(architecture.widths[-1], architecture.maps[-1])


def _early_map(architecture: Architecture) -> Map:
    """Give the map behind the first convolution of a stem of several."""
    stem = architecture.stem
    height, width = (stem_map(stem.kind, strides(stem)[0], side) for side in architecture.size)
    return height, width
