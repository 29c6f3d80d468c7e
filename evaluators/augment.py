"""Images changed for a long training: RandAugment, random erasing, mixup and cutmix, on tensors.

Every draw comes from a generator of numpy that the caller seeds for each step, so that a training
that goes on sees what it would have seen. Masks are not moved: in segmentation leave out what is
geometric, and do not erase or mix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Shapes: B batch, C channels, H height, W width. Pixels are 0 to 255, in float32.

DEVIATION = 0.5
"""Of the magnitude between images, in tenths of the most."""
MOST_TURN = math.radians(30)
MOST_SHEAR = 0.3
MOST_MOVE = 0.45
"""In shares of the side."""
MOST_CHANGE = 0.9
"""Of brightness, contrast, saturation and sharpness, as a share."""
ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = 0.3
"""Least height over width of an erased rectangle; the most is its inverse."""

Change = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Pixels (B, C, H, W), strengths from 0 to 1 and signs (both (B, 1, 1, 1)) to pixels."""


class Mixture(NamedTuple):
    """A batch of which every image may be a part of two."""

    images: Tensor
    """(B, C, H, W)"""
    labels: Tensor
    """(B,)"""
    others: Tensor
    """(B,) labels of what was mixed in."""
    share: float
    """Weight of the loss against `labels`; the rest is that against `others`."""


def mixed(
    images_BCHW: Tensor, labels: Tensor, rng: np.random.Generator, *, mixup: float, cutmix: float
) -> Mixture:
    """Mix a batch with itself in reverse order, by mixup or by cutmix.

    Source: mixup, arXiv 1710.09412; CutMix, 1905.04899; one share a batch as in timm.

    Args:
        images_BCHW: normalised.
        labels: (B,).
        rng: draws.
        mixup: a of the Beta(a, a) from which the share comes; 0: not this one.
        cutmix: the same of cutmix; where both are 0 nothing is mixed.
    """
    kinds = [(kind, a) for kind, a in (("mixup", mixup), ("cutmix", cutmix)) if a > 0]
    if not kinds:
        return Mixture(images_BCHW, labels, labels, 1.0)
    kind, concentration = kinds[rng.integers(len(kinds))]
    share = float(rng.beta(concentration, concentration))
    others = images_BCHW.flip(0)
    if kind == "mixup":
        return Mixture(torch.lerp(others, images_BCHW, share), labels, labels.flip(0), share)
    height, width = images_BCHW.shape[-2:]
    side = math.sqrt(1 - share)
    rows, columns = (_around(rng, side, length) for length in (height, width))
    images = images_BCHW.clone()
    images[:, :, rows, columns] = others[:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mixture(images, labels, labels.flip(0), 1 - area / (height * width))


def erased(images_BCHW: Tensor, rng: np.random.Generator, *, share: float) -> Tensor:
    """Put noise of deviation 1 into a rectangle of some of the images.

    Source: random erasing, arXiv 1708.04896, with the areas and the noise of timm.

    Args:
        images_BCHW: normalised; changed in place.
        rng: draws.
        share: of the images.
    """
    _, channels, height, width = images_BCHW.shape
    for image in np.flatnonzero(rng.random(len(images_BCHW)) < share):
        area = rng.uniform(*ERASED_AREA) * height * width
        aspect = math.exp(rng.uniform(math.log(ERASED_ASPECT), -math.log(ERASED_ASPECT)))
        high = max(1, min(height, round(math.sqrt(area * aspect))))
        wide = max(1, min(width, round(math.sqrt(area / aspect))))
        top, left = (int(rng.integers(n + 1)) for n in (height - high, width - wide))
        noise = torch.from_numpy(rng.standard_normal((channels, high, wide), dtype=np.float32))
        images_BCHW[image, :, top : top + high, left : left + wide] = noise.to(images_BCHW.device)
    return images_BCHW


def rand_augment(
    pixels_BCHW: Tensor,
    rng: np.random.Generator,
    *,
    operations: int,
    share: float,
    magnitude: float,
    geometric: bool,
    fill_C: Tensor,
) -> Tensor:
    """Change every image by a few operations drawn at random.

    Source: RandAugment, arXiv 1909.13719, with the "increasing" strengths of timm. Ours, in a few
    lines of tensor operations: histograms are not equalised, and pixels between two are bilinear.

    Args:
        pixels_BCHW: 0 to 255; left as it is.
        rng: draws.
        operations: for each image.
        share: chance of each operation.
        magnitude: of 10.
        geometric: whether images are turned, sheared and moved too.
        fill_C: what comes in from outside then.
    """
    changes = list(PHOTOMETRIC) + [saturated] * (pixels_BCHW.shape[1] == 3)
    changes += [_moving(kind, fill_C) for kind in GEOMETRIC if geometric]
    pixels_BCHW = pixels_BCHW.clone()
    count = len(pixels_BCHW)
    for _ in range(operations):
        chosen = rng.integers(len(changes), size=count)
        level = np.clip(rng.normal(magnitude, DEVIATION, count), 0, 10) / 10
        sign = rng.choice([-1.0, 1.0], count)
        chosen[rng.random(count) >= share] = -1
        for number, change in enumerate(changes):
            some = np.flatnonzero(chosen == number)
            if len(some):
                which = torch.from_numpy(some).to(pixels_BCHW.device)
                strength, way = (_column(values[some], pixels_BCHW) for values in (level, sign))
                changed = change(pixels_BCHW[which], strength, way)
                pixels_BCHW[which] = changed.clamp(0, 255)
    return pixels_BCHW


def brighter(pixels: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Scale all pixels, up or down."""
    return pixels * (1 + sign * MOST_CHANGE * level)


def contrasted(pixels: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Move pixels away from the mean of their image, or towards it."""
    return _away(pixels, pixels.mean(dim=(1, 2, 3), keepdim=True), level, sign)


def saturated(pixels: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Move colours away from grey, or towards it."""
    return _away(pixels, pixels.mean(dim=1, keepdim=True), level, sign)


def sharpened(pixels: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Move pixels away from the mean of their neighbours, or towards it."""
    smooth = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return _away(pixels, smooth, level, sign)


def posterised(pixels: Tensor, level: Tensor, _sign: Tensor) -> Tensor:
    """Keep four bits or fewer of a pixel, at least one."""
    step = 2 ** (4 + (4 * level).floor().clamp(max=3))
    return (pixels / step).floor() * step


def solarised(pixels: Tensor, level: Tensor, _sign: Tensor) -> Tensor:
    """Turn round what is brighter than a threshold."""
    return torch.where(pixels >= 256 * (1 - level), 255 - pixels, pixels)


def lifted(pixels: Tensor, level: Tensor, _sign: Tensor) -> Tensor:
    """Add to what is darker than the middle."""
    return torch.where(pixels < 128, pixels + 110 * level, pixels)


def inverted(pixels: Tensor, _level: Tensor, _sign: Tensor) -> Tensor:
    """Swap dark and bright."""
    return 255 - pixels


def stretched(pixels: Tensor, _level: Tensor, _sign: Tensor) -> Tensor:
    """Bring the darkest pixel of each channel to 0 and the brightest to 255."""
    low = pixels.amin(dim=(2, 3), keepdim=True)
    high = pixels.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (pixels - low) * 255 / (high - low).clamp(min=1e-6), pixels)


PHOTOMETRIC: tuple[Change, ...] = (
    *(brighter, contrasted, sharpened, posterised, solarised, lifted, inverted, stretched),
)
"""Operations that leave every pixel where it is; with three colours `saturated` joins them."""

GEOMETRIC = ("turn", "shear across", "shear down", "move across", "move down")


def _moving(kind: str, fill_C: Tensor) -> Change:
    """Give an operation that moves pixels."""

    def change(pixels: Tensor, level: Tensor, sign: Tensor) -> Tensor:
        by_B = (sign * level).flatten()
        theta_B23 = torch.eye(2, 3, device=pixels.device).repeat(len(pixels), 1, 1)
        if kind == "turn":
            height, width = pixels.shape[-2:]
            cosine, sine = (MOST_TURN * by_B).cos(), (MOST_TURN * by_B).sin()
            theta_B23[:, 0, 0] = theta_B23[:, 1, 1] = cosine
            # The grid is in shares of each side; a turn is one of pixels.
            theta_B23[:, 0, 1] = -sine * height / width
            theta_B23[:, 1, 0] = sine * width / height
        elif kind == "shear across":
            theta_B23[:, 0, 1] = MOST_SHEAR * by_B
        elif kind == "shear down":
            theta_B23[:, 1, 0] = MOST_SHEAR * by_B
        else:
            # The grid goes from -1 to 1.
            theta_B23[:, int(kind == "move down"), 2] = 2 * MOST_MOVE * by_B
        grid = F.affine_grid(theta_B23, list(pixels.shape), align_corners=False)
        fill = fill_C.view(1, -1, 1, 1)
        return F.grid_sample(pixels - fill, grid, align_corners=False) + fill

    return change


def _away(pixels: Tensor, middle: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return middle + (1 + sign * MOST_CHANGE * level) * (pixels - middle)


def _around(rng: np.random.Generator, share: float, length: int) -> slice:
    """Give a part of a side around a point drawn on it, cut where the side ends."""
    reach, centre = round(length * share), int(rng.integers(length))
    start = centre - reach // 2
    return slice(max(0, start), min(length, start + reach))


def _column(values: np.ndarray[tuple[int], np.dtype[np.float64]], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like).view(-1, 1, 1, 1)
