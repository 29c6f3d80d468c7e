"""Scenes for segmentation: Fashion-MNIST items before textures, with the class of every pixel.

Composed at load from the shipped items, so nothing is stored. All arithmetic is in whole numbers
(those that pass through float32 products stay below 2**24): every machine composes the same bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from evaluators.assembling import Arrays
from evaluators.images import SPLITS, ImageData, Split

NAME = "scenes"
SIDE = 64
COUNTS = {"train": 3000, "val": 600, "test": 600}
MOST_ITEMS = 5
"""Items of an image: 2 to 5, as often each."""

SIDES = range(22, 40)
"""Sides that an item is drawn at in pixels, 0.8 to 1.4 times its own 28."""

FAINTEST = 8
"""Least brightness of an item's own pixels; what is darker is background of its photograph."""

OCTAVES = {3: 32, 5: 24, 9: 16, 17: 10, 33: 6}
"""Side of each grid of the smooth noise, and how much brightness it takes or gives at most."""

SEED = 20170825
"""Of every draw; a split has a stream of its own."""

_UNIT = 64
"""Steps of a weight between two neighbouring pixels."""

_PART = 250
"""Textures that are made at a time: they stay in the processor's cache."""

_MARGIN = 24
"""Pixels around a scene while it is painted, so that items may be cut off at its sides."""

# Shapes: N images, n items of one size, s their side, H and W the sides of a scene.


def compose(items: ImageData) -> dict[str, Arrays]:
    """Give scenes (N, 64, 64) with masks: 0 is background, 1 + label an item's class.

    An image holds 2 to 5 items of the same split at random places and sizes, the later ones before
    the earlier. An item's brightness is stretched, shifted and, in a quarter of the cases,
    inverted, so that a pixel's brightness does not tell which item it belongs to; holes of dark
    cloth belong to the item. The ground is darker than most items: with ground of any brightness a
    network of 10 CPU seconds of training names it everywhere (mIoU 0.09 against 0.20).
    """
    arrays = {}
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([SEED, number])
        images, masks = composed(getattr(items, split), COUNTS[split], rng)
        where = f"{NAME}: {split}"
        arrays[split] = Arrays(images=images, labels=masks, images_where=where, labels_where=where)
    return arrays


def composed(
    items: Split, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Give so many scenes (N, 64, 64) of the items, and masks: 0, or 1 + the label of an item."""
    scenes = _bordered(backgrounds(count, rng))
    masks = np.zeros_like(scenes)
    pixels = items.images[..., 0]
    shapes = silhouettes(pixels)
    numbers = rng.integers(2, MOST_ITEMS + 1, count)
    # Every item of the split is used before one is used again.
    order = np.concatenate(
        [rng.permutation(len(items)) for _ in range(5 * count // len(items) + 1)]
    )
    used = 0
    for layer in range(MOST_ITEMS):
        places = np.flatnonzero(numbers > layer)
        chosen = order[used : used + len(places)]
        used += len(places)
        sides = rng.integers(SIDES.start, SIDES.stop, len(places))
        # The middle of an item lies in the scene, at least 12 pixels from its sides.
        middles = rng.integers(12, SIDE - 12, (2, len(places)))
        levels = rng.integers(110, 220, len(places)).astype(np.int16)
        gains = rng.integers(40, 96, len(places)) * rng.choice((-1, 1, 1, 1), len(places))
        gains = gains.astype(np.int16)
        for side in SIDES:
            of_side = np.flatnonzero(sides == side)
            if not len(of_side):
                continue
            ids = chosen[of_side]
            values, alphas = _drawn_at(pixels[ids], shapes[ids], side)
            shift = (values - 128) * gains[of_side, None, None] // _UNIT
            shown = np.clip(levels[of_side, None, None] + shift, 0, 255).astype(np.uint16)
            rows, columns = (
                m[of_side, None] + _MARGIN - side // 2 + np.arange(side) for m in middles
            )
            window = (places[of_side, None, None], rows[:, :, None], columns[:, None, :])
            behind = scenes[window]
            scenes[window] = (alphas * shown + (255 - alphas) * behind + 127) // 255
            classes = (items.labels[ids] + 1).astype(np.uint8)[:, None, None]
            masks[window] = np.where(alphas >= 128, classes, masks[window])
    inner = slice(_MARGIN, _MARGIN + SIDE)
    return scenes[:, inner, inner].copy(), masks[:, inner, inner].copy()


def silhouettes(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Give where the items (N, H, W) are: their bright pixels and the holes that these enclose."""
    # The middle plane alone connects: holes are holes of one image, never of the stack.
    plane = np.zeros((3, 3, 3), dtype=np.bool_)
    plane[1] = [[False, True, False], [True, True, True], [False, True, False]]
    filled: NDArray[np.bool_] = binary_fill_holes(pixels >= FAINTEST, structure=plane)
    return filled


def backgrounds(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Give textures (N, 64, 64): a level, a slope of light, smooth noise and a grating."""
    parts = [_textures(min(_PART, count - start), rng) for start in range(0, count, _PART)]
    return np.concatenate(parts)


def _textures(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    def draws(low: int, high: int, *shape: int) -> NDArray[np.int64]:
        return rng.integers(low, high, (count, *shape))

    # In steps of a brightness of 1 / whole.
    whole = _UNIT**2
    canvas = np.empty((count, SIDE, SIDE), dtype=np.float32)
    canvas[:] = draws(30, 90, 1, 1) * whole
    place = np.arange(SIDE) - SIDE // 2
    canvas += (draws(-64, 65, 1, 1) * _UNIT * place[:, None]).astype(np.float32)
    canvas += (draws(-64, 65, 1, 1) * _UNIT * place).astype(np.float32)
    for grid, most in OCTAVES.items():
        canvas += _stretched(draws(-128, 128, grid, grid) * draws(0, most, 1, 1) // 128, SIDE)
    # Half of the scenes have a grating.
    height = np.maximum(draws(-14, 15, 1), 0)
    wave = (np.rint(128 * np.sin(np.arange(256) * (np.pi / 128))) * height * (whole // 128)).astype(
        np.float32
    )
    # Bytes, since a phase begins anew after 256 steps.
    down, across = ((draws(-48, 49, 1) * place).astype(np.uint8) for _ in range(2))
    phase = down[:, :, None] + across[:, None, :]
    canvas += np.take_along_axis(wave, phase.reshape(count, -1), axis=1).reshape(canvas.shape)
    # Truncated, not divided with //, which takes ten times as long.
    return (np.clip(canvas, 0, 255 * whole) / whole).astype(np.uint8)


def _drawn_at(
    pixels: NDArray[np.uint8], shapes: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Give brightness and opacity (n, s, s), both 0 to 255, of items drawn at another side."""
    whole = _UNIT**2
    covered = _stretched(shapes, side)
    # The mean over the item's own pixels: its photograph's black ground must not darken its rim.
    inked = _stretched(np.where(shapes, pixels, 0), side)
    # These quotients lie far enough below the next whole number to be truncated rightly.
    values = (inked / np.maximum(covered, 1)).astype(np.int16)
    return values, ((covered * 255 + whole // 2) / whole).astype(np.uint16)


def _stretched(images: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Give images (N, a, a) at another side, bilinear, times `_UNIT` squared and exact."""
    weights = _weights(images.shape[1], side)
    product: NDArray[np.float32] = weights @ images.astype(np.float32) @ weights.T
    return product


@cache
def _weights(old: int, new: int) -> NDArray[np.float32]:
    """Give bilinear weights (new, old), whole numbers that sum to `_UNIT` in each row."""
    # Positions in steps of 1 / _UNIT between the middles of the outermost pixels' far sides.
    places = np.clip(
        ((2 * np.arange(new) + 1) * old * _UNIT // new - _UNIT) // 2, 0, (old - 1) * _UNIT
    )
    first, step = np.divmod(places, _UNIT)
    weights = np.zeros((new, old), dtype=np.float32)
    weights[np.arange(new), first] = _UNIT - step
    weights[np.arange(new), np.minimum(first + 1, old - 1)] += step
    return weights


def _bordered(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
