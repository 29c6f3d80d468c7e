"""Which backend is fastest for which depthwise sum on this device: a timed probe.

The candidates are those of `builders.backends`; `reference`, torch's plain operators, is one of
them. What is timed is the layer that a network has, in the memory layout that it has there
(channels_last), forward and backward, and the candidates take turns.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from builders.backends import BackendName, Backends, SumShape
from builders.blocks import BLOCKS
from builders.depthwise import DepthwiseConv
from builders.kernels import DilatedReparam, ReparamKernel, Strips
from builders.layers import NormedConv, sum_of
from builders.parts import find_row
from search_space.architecture import Architecture, Stage

HOPELESS = 2.0
"""A candidate that takes so many times as long as the best one is not timed again."""
LONG_S = 0.03
"""A first call that takes longer is not slow because torch prepares something in it."""
TASTE = 8
"""A candidate first computes one of so many parts of the images: the whole batch takes longer."""
MARGIN = 0.05
"""A candidate must be faster by this share than those before it: a choice should not be noise."""
ROUNDS = 6
"""Most turns of each candidate; the median counts."""
BUDGET_S = 0.04
"""Seconds after which there is no other round; for one shape."""
ENOUGH_TAPS = 5_000_000
"""Multiply-adds of a forward pass at which what happens once a call no longer counts."""
LEAST_WIDTH = 16
"""Channels that fill the widest vector."""

Seconds = Callable[[BackendName, int], float]
"""Times a backend, forward and backward, on so many images."""


def sum_shapes(architecture: Architecture, batch_size: int) -> set[SumShape]:
    """Give the shapes of all depthwise sums of a network in training; nothing is computed.

    They are in its blocks: stems, transitions and heads have none.

    Args:
        architecture: the network.
        batch_size: images of a training step.

    Raises:
        SpaceError: where a block of this kind cannot be built.
    """
    shapes: set[SumShape] = set()
    for stage, (rows, columns) in zip(architecture.built_stages, architecture.maps, strict=True):
        for kernel in sorted({*stage.kernels}):
            # Equal blocks are looked at once, and these keys change no depthwise sum.
            alike = replace(
                stage, depth=1, placement="L", ffn_ratio=1, ffn_hidden=None, layer_scale=0.0
            )
            for shape in _of_block(architecture.block, alike, kernel):
                shapes.add(shape._replace(images=batch_size, rows=rows, columns=columns))
    return shapes


def probed_shape(shape: SumShape) -> SumShape:
    """Give the narrow shape that answers for this one.

    Channels do not meet in a depthwise convolution, so its time is linear in their number once
    they fill the vectors and outweigh what happens once a call. So many are taken: at least 16, and
    as many as make 5 million multiply-adds, a power of two. Shapes that differ in their width alone
    share a probe.
    """
    pixels = shape.images * shape.rows * shape.columns
    taps = sum(_touching(shape, kernel) for kernel in shape.kernels)
    enough = min(shape.width, max(LEAST_WIDTH, -(-ENOUGH_TAPS // (pixels * taps))))
    narrow = enough if enough < LEAST_WIDTH else 1 << (enough.bit_length() - 1)
    return shape._replace(width=narrow)


def candidates(device: str, library: str | None) -> tuple[BackendName, ...]:
    """Give the backends to choose from on a type of device, the likeliest winner first."""
    if device != "cpu":
        return ("cuda", "torch")
    return ("torch", "reference") if library is None else ("native", "torch", "reference")


def probe(
    shapes: Iterable[SumShape],
    *,
    library: str | None,
    device: str = "cpu",
) -> dict[str, BackendName]:
    """Time the candidates for each shape, as given, and choose the fastest.

    Inputs are the same in every call. Process time of one thread on a CPU, events on CUDA; nothing
    else should run. A candidate that is out of the question is called once or twice, on a part of
    the images.

    Args:
        shapes: see `probed_shape`.
        library: file of the native backend; None: there is none.
        device: cpu or cuda:N.

    Returns:
        The choice by `SumShape.key`.

    Raises:
        OSError: the library cannot be loaded.
    """
    threads = torch.get_num_threads()
    names = candidates(torch.device(device).type, library)
    chosen: dict[str, BackendName] = {}
    try:
        torch.set_num_threads(1)
        for shape in sorted(shapes):
            layers = {name: _Layer(shape, name, library, device) for name in names}
            chosen[shape.key] = fastest(names, shape.images, partial(_seconds, layers))
    finally:
        torch.set_num_threads(threads)
    return chosen


def fastest(names: Sequence[BackendName], images: int, seconds: Seconds) -> BackendName:
    """Choose among backends, in the order in which they are preferred where they are level.

    Args:
        names: the candidates.
        images: of the whole batch.
        seconds: times one of them on some of the images.
    """
    first, *others = names
    times = {first: [_first(partial(seconds, first, images))]}
    for name in others:
        limit = HOPELESS * min(min(known) for known in times.values())
        few = images // TASTE
        if few and _first(partial(seconds, name, few)) > limit:
            continue
        once = _first(partial(seconds, name, images))
        if once <= limit:
            times[name] = [once]
    spent = 0.0
    while len(times) > 1 and len(times[first]) < ROUNDS and spent < BUDGET_S:
        for name, known in times.items():
            known.append(seconds(name, images))
            spent += known[-1]
    medians = {name: statistics.median(known) for name, known in times.items()}
    chosen = first
    for name in medians:
        if medians[name] < (1 - MARGIN) * medians[chosen]:
            chosen = name
    return chosen


def _first(run: Callable[[], float]) -> float:
    """Time a first call, or the second where torch's preparations may have slowed the first."""
    once = run()
    return once if once > LONG_S else run()


class _Layer:
    """The layer that a network has for a shape, with its input and the gradient of its output."""

    def __init__(
        self, shape: SumShape, name: BackendName, library: str | None, device: str
    ) -> None:
        backends = Backends(rest=name, library=library)
        convs = [
            DepthwiseConv(shape.width, (rows, columns), dilation=dilation, backends=backends)
            for rows, columns, dilation in shape.kernels
        ]
        self.normed = shape.normed
        self.branches = nn.ModuleList(map(NormedConv, convs) if shape.normed else convs)
        self.last = nn.BatchNorm2d(shape.width) if shape.last else None
        layers = nn.ModuleList([*self.branches, *([] if self.last is None else [self.last])])
        layers.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = list(layers.parameters())
        sides = (shape.images, shape.width, shape.rows, shape.columns)
        # Values do not change the time, but for denormal ones; these are the same in every call.
        ramp = torch.linspace(-1, 1, math.prod(sides), device=device).view(sides)
        self.x_BCHW, self.grad_BCHW = (
            (sign * ramp).contiguous(memory_format=torch.channels_last) for sign in (1, -1)
        )

    def seconds(self, images: int) -> float:
        """Time a forward and a backward pass of the first images."""
        x_BCHW, grad_BCHW = self.x_BCHW[:images].requires_grad_(), self.grad_BCHW[:images]
        if x_BCHW.device.type != "cuda":
            start = time.process_time()
            self._step(x_BCHW, grad_BCHW)
            return time.process_time() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        self._step(x_BCHW, grad_BCHW)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    def _step(self, x_BCHW: Tensor, grad_BCHW: Tensor) -> None:
        if self.normed:
            y_BCHW = sum_of(x_BCHW, self.branches, self.last)
        else:
            (conv,) = self.branches
            y_BCHW = conv(x_BCHW)
        torch.autograd.grad(y_BCHW, [x_BCHW, *self.parameters], grad_BCHW)


def _seconds(layers: Mapping[BackendName, _Layer], name: BackendName, images: int) -> float:
    return layers[name].seconds(images)


@lru_cache(maxsize=10_000)
def _of_block(block: str, stage: Stage, kernel: int) -> tuple[SumShape, ...]:
    """Give the sums of one block, of no images on a map without pixels."""
    with torch.device("meta"):
        built = find_row(BLOCKS, block, where="block").build(stage, kernel)
    return tuple(_sums(built))


def _sums(module: nn.Module) -> Iterator[SumShape]:
    """Look for what calls `normed_sum`, the outermost first."""
    convs = [part for part in module.modules() if isinstance(part, DepthwiseConv)]
    if isinstance(module, ReparamKernel | Strips | NormedConv | DepthwiseConv):
        if convs:
            kernels = tuple((*conv.weight.shape[2:], conv.dilation) for conv in convs)
            normed, last = module not in convs, isinstance(module, DilatedReparam)
            yield SumShape(0, convs[0].width, 0, 0, kernels, normed, last)
        return
    for child in module.children():
        yield from _sums(child)


def _touching(shape: SumShape, kernel: tuple[int, int, int]) -> int:
    """Give the taps of a kernel that can touch a pixel of the map."""
    rows, columns, dilation = kernel
    tall, wide = (
        1 + 2 * min(side // 2, (map_side - 1) // dilation)
        for side, map_side in ((rows, shape.rows), (columns, shape.columns))
    )
    return tall * wide
