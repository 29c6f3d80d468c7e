"""Effective receptive fields: how far a middle unit of each stage really sees, and in numbers.

Source: RepLKNet, arXiv 2203.06717, section 4 and appendix, and its official scripts. The input
gradient of the middle unit, summed over channels behind a ReLU, is cut at zero, summed over the
colours and averaged over images. Ours: every stage; the map is scaled to a fixed peak before the
logarithm, so that the magnitude of a network's gradients does not matter; numbers that need no
logarithm beside it; |gradient| beside its positive part; the true centre of the unit; a search that
does not fail at the border; a warning where the image is too small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from builders import Network
from builders.layers import DropPath

Floats = NDArray[np.float64]

PEAK = 1e3
"""Largest value of a map before log10(1 + x); RepLKNet leaves it to the network."""
SHARES = (0.20, 0.30, 0.50, 0.99)
"""Shares of the log map for which the published tables give the smallest square."""
FRAME = 32
"""The frame that must stay empty is this part of the shorter side wide, at least one pixel."""
FRAME_SHARE = 0.01
"""Share of the mass in that frame from which a map counts as saturated."""
BRANCH = 0.03
"""Deviation of what a block of an untrained network adds to its input, over that of the input.

At 0.03 a block of 31 x 31 random weights spreads about as much |gradient| (31 times 0.03) as runs
past it. From 0.1 on unireplknet_t and replknet_31b both fill a window of 512 pixels, and which of
them has the larger sigma there depends on the seed.
"""
PIXELS = 512 * 512
"""Pixels of the images that are measured at a time: one image of 512 x 512, or 64 of 64 x 64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How far a map reaches around its centre."""

    r: tuple[float, ...]
    """Area of the smallest centred squares that hold `SHARES` of the log map, over the image's."""
    sides_px: tuple[float, ...]
    """Sides of these squares in pixels; where one passes the border, r counts what is inside."""
    sigma_px: float
    """sqrt(sum p d^2 / 2) in pixels, p the map over its sum, d the distance from the centre."""
    area50: float
    """Least share of the pixels that holds half of the map, without the logarithm."""
    area95: float
    """The same for 95 %."""
    frame: float
    """Share of the map in the outermost frame, `FRAME` of the shorter side wide."""
    saturated: bool
    """The 99 % square passes the border, or the frame holds more than `FRAME_SHARE`: the image cuts
    the field, and `sigma_px` is a lower bound."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Field:
    """What the middle unit of a stage sees, averaged over images."""

    stage: int
    """1 for the first."""
    centre: tuple[float, float]
    """Row and column of the pixel that the unit stands on, or half-way between two."""
    map: Floats
    """(H, W), the positive part of the gradient summed over the colours."""
    absolute: Floats
    """(H, W), the same of |gradient|: what pushes the unit down counts as well."""
    images: int
    """Images in the average."""
    skipped: int
    """Images left out because a gradient was not finite."""


def receptive_fields(
    network: Network,
    images_NCHW: Tensor,
    *,
    last: bool = False,
    report: Callable[[int], None] = lambda _: None,
) -> list[Field]:
    """Measure the effective receptive field of every stage.

    Args:
        network: in eval mode and best merged, which is several times faster; its parameters must
            not ask for gradients.
        images_NCHW: normalised as the network was trained, on its device.
        last: whether the last stage alone is asked for, which is several times faster.
        report: called with the number of images that are done.

    Raises:
        ValueError: every image was skipped.
    """
    count, _, height, width = images_NCHW.shape
    sums: list[list[Floats]] = []
    used: list[int] = []
    centres: list[tuple[float, float]] = []
    done = first = 0
    for part_BCHW in torch.split(images_NCHW, max(1, PIXELS // (height * width))):
        x_BCHW = part_BCHW.detach().clone().requires_grad_()
        maps = network.features(x_BCHW)
        if not sums:
            sides = [(int(each.shape[2]), int(each.shape[3])) for each in maps]
            centres = unit_centres(network, sides)
            sums = [[np.zeros((height, width)) for _ in range(2)] for _ in maps]
            used = [0] * len(maps)
        first = len(maps) - 1 if last else 0
        for number, map_BCHW in enumerate(maps[first:], first):
            grad_BCHW = _middle_gradient(map_BCHW, x_BCHW, keep=number + 1 < len(maps))
            kept = torch.isfinite(grad_BCHW).all(dim=(1, 2, 3))
            grad_BCHW = grad_BCHW[kept]
            used[number] += len(grad_BCHW)
            for total, signed in zip(
                sums[number], (grad_BCHW.relu(), grad_BCHW.abs()), strict=True
            ):
                total += signed.sum(dim=(0, 1), dtype=torch.float64).cpu().numpy()
        done += len(x_BCHW)
        report(done)
    if not all(used[first:]):
        raise ValueError("no image gave a finite gradient")
    return [
        Field(
            stage=number + 1,
            centre=centres[number],
            map=positive / used[number],
            absolute=absolute / used[number],
            images=used[number],
            skipped=count - used[number],
        )
        for number, (positive, absolute) in enumerate(sums[first:], first)
    ]


def unit_centres(network: Network, sides: Iterable[tuple[int, int]]) -> list[tuple[float, float]]:
    """Give the pixel (row, column) that the middle unit of every stage's map stands on.

    The middle unit is number side // 2, as in RepLKNet's script. A convolution of side k, stride s
    and padding p puts unit i on i s + (k - 1) / 2 - p of its input. So unit 8 of 16 stands on pixel
    256 of 512 behind 3 x 3 convolutions, and on 271.5 behind patches without overlap.

    Args:
        network: its stem and transitions alone have strides, and no parallel convolutions.
        sides: height and width of every stage's map.
    """
    start, step = [0.0, 0.0], [1, 1]
    centres = []
    for sizes, part in zip(sides, [network.stem, *network.transitions], strict=True):
        for conv in part.modules():
            if not isinstance(conv, nn.Conv2d):
                continue  # a DepthwiseConv keeps every pixel in its place
            for axis in (0, 1):
                padding = conv.padding[axis]
                assert isinstance(padding, int)
                reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1) / 2
                start[axis] += step[axis] * (reach - padding)
                step[axis] *= conv.stride[axis]
        row, column = (start[axis] + step[axis] * (sizes[axis] // 2) for axis in (0, 1))
        centres.append((row, column))
    return centres


def extent(map_HW: Floats, centre: tuple[float, float], *, peak: float = PEAK) -> Extent:
    """Measure a map around its centre.

    A square holds the pixels whose row and column are at most so far from the centre; it is cut at
    the border, so that one is always found. Its side is odd where the centre is a pixel, even where
    it lies between two.

    Args:
        map_HW: not negative, somewhere positive.
        centre: row and column in pixels, whole or halves.
        peak: what the largest value is scaled to before log10(1 + x).

    Raises:
        ValueError: the map is zero everywhere.
    """
    top, total = float(map_HW.max()), float(map_HW.sum())
    if not top > 0:
        raise ValueError("the gradient is zero everywhere")
    height, width = map_HW.shape
    rows, columns = (
        np.abs(np.arange(side) - middle)
        for side, middle in zip((height, width), centre, strict=True)
    )
    halves, ring = np.unique(np.maximum.outer(rows, columns), return_inverse=True)
    # A gradient may be so small that total or peak / top leave the range: divide by the top first.
    linear = map_HW / top
    logged = np.log1p(linear * peak)  # whatever the base, the shares are the same
    held = np.cumsum(np.bincount(ring.ravel(), weights=logged.ravel()))
    areas = np.cumsum(np.bincount(ring.ravel())) / map_HW.size
    found = [int(np.argmax(held > share * held[-1])) for share in SHARES]
    nearest = min(*centre, height - 1 - centre[0], width - 1 - centre[1])
    frame = _frame_share(linear)
    squares = (rows**2)[:, None] + columns**2
    return Extent(
        r=tuple(float(areas[index]) for index in found),
        sides_px=tuple(float(2 * halves[index] + 1) for index in found),
        sigma_px=float(np.sqrt((linear * squares).sum() / (total / top) / 2)),
        area50=_least_area(linear, 0.50),
        area95=_least_area(linear, 0.95),
        frame=frame,
        saturated=bool(halves[found[-1]] > nearest or frame > FRAME_SHARE),
    )


@torch.no_grad()
def settle(network: nn.Module, images_BCHW: Tensor) -> None:
    """Bring an untrained network, in place, to where its blocks act; it stays in eval mode.

    As drawn it shows its initialisation instead of its architecture. A layer scale of 1e-6 switches
    every block off; a batch norm that has seen no image normalises nothing; and what a block adds
    to its input is anything from 4 % (ConvNeXt, no norm at the end of a block) to 100 % of it (the
    others, first block of a stage). So one pass over the images sets the statistics of all batch
    norms and scales what every block adds to `BRANCH` of the deviation of what it is added to.

    Args:
        network: in the training form, without drop path.
        images_BCHW: normalised, best of the size that will be measured.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain average
        elif isinstance(scale := getattr(module, "scale", None), nn.Parameter):
            nn.init.ones_(scale)
    with _branches_scaled(network):
        network(images_BCHW)
    network.eval()


def _middle_gradient(map_BCHW: Tensor, x_BCHW: Tensor, *, keep: bool) -> Tensor:
    """Give the input gradient of the middle unit of each image, (B, C, H, W)."""
    height, width = map_BCHW.shape[2:]
    unit = map_BCHW[:, :, height // 2, width // 2].relu().sum()
    (grad,) = torch.autograd.grad(unit, x_BCHW, retain_graph=keep)
    return grad


def _least_area(map_HW: Floats, share: float) -> float:
    held = np.cumsum(np.sort(map_HW, axis=None)[::-1])
    return float(np.searchsorted(held, share * held[-1]) + 1) / map_HW.size


def _frame_share(map_HW: Floats) -> float:
    thick = max(1, min(map_HW.shape) // FRAME)
    outer = map_HW.copy()
    outer[thick:-thick, thick:-thick] = 0
    return float(outer.sum() / map_HW.sum())


@contextmanager
def _branches_scaled(network: nn.Module) -> Iterator[None]:
    """Scale every branch where it ends, so that the next block sees what this one then adds.

    Each branch runs through a `DropPath` on its way to its shortcut. It ends in the module before:
    one with a layer scale, or a batch norm.
    """
    end: list[nn.Module] = []
    stream: list[Tensor] = []

    def enter(_block: nn.Module, inputs: tuple[Any, ...]) -> None:
        stream[:] = [inputs[0]]

    def ended(module: nn.Module, _inputs: tuple[Any, ...], _output: Tensor) -> None:
        end[:] = [module]

    def add(_drop_path: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        y_BCHW, shares = inputs[0], (_deviation(stream[0]), _deviation(inputs[0]))
        # A map of one pixel and one image does not vary: then the branch stays as it is.
        factor = BRANCH * shares[0] / shares[1] if min(shares) > 0 else 1.0
        _multiply(end[0], factor, y_BCHW.shape[1])
        stream[:] = [stream[0] + factor * y_BCHW]
        return (factor * y_BCHW,)

    hooks = []
    for module in network.modules():
        if isinstance(module, DropPath):
            hooks.append(module.register_forward_pre_hook(add))
        elif isinstance(module, nn.BatchNorm2d) or hasattr(module, "scale"):
            hooks.append(module.register_forward_hook(ended))
        elif any(isinstance(child, DropPath) for child in module.children()):
            hooks.append(module.register_forward_pre_hook(enter))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _multiply(module: nn.Module, factor: float, width: int) -> None:
    """Multiply what a module puts out, `width` channels, by its own parameters."""
    if isinstance(module, nn.BatchNorm2d):
        module.weight.mul_(factor)
        module.bias.mul_(factor)
    elif isinstance(module.scale, nn.Parameter):
        module.scale.mul_(factor)
    else:
        module.scale = nn.Parameter(torch.full((width,), factor))


def _deviation(x_BCHW: Tensor) -> float:
    """Give the root of the mean variance of the channels."""
    return float(x_BCHW.var(dim=(0, 2, 3), correction=0).mean().sqrt())
