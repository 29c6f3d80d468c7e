"""Masks of class ids as a source holds them: every check, and a cut that keeps all classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluators.images import IGNORED, Labels, class_counts
from search_space.errors import DataError


def checked_masks(masks: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    """Give masks (N, H, W) as bytes: ids 0 to 254, and 255 (`IGNORED`) where nothing counts.

    Args:
        masks: (N, H, W) or (N, H, W, 1), whole numbers or booleans.
        where: file and array, for messages.

    Raises:
        DataError: for other shapes, other numbers, or no pixel that counts.
    """
    given = masks.shape
    if masks.ndim == 4 and masks.shape[3] == 1:
        masks = masks[..., 0]
    if masks.ndim != 3:
        raise DataError(
            f"{where}: must be one class id a pixel, (N, H, W), got shape {given}; "
            "of one-hot maps take `argmax(axis=-1)`"
        )
    if masks.size == 0:
        raise DataError(
            f"{where}: must hold at least one pixel, got shape {given}; fill it or leave it out"
        )
    if masks.dtype.kind not in "iub":
        raise DataError(f"{where}: must be whole numbers, got {masks.dtype}; store them as uint8")
    low, high = int(masks.min()), int(masks.max())
    if low < 0 or high > IGNORED:
        raise DataError(
            f"{where}: class ids must be 0 to {IGNORED - 1}, or {IGNORED} where a pixel does not "
            f"count, got {low if low < 0 else high}; renumber the classes"
        )
    counted = masks.astype(np.uint8)
    if not class_counts(counted).any():
        raise DataError(
            f"{where}: must hold pixels that count, got {IGNORED} (does not count) everywhere; "
            "give the pixels class ids from 0"
        )
    return counted


def present(masks: Labels) -> NDArray[np.int64]:
    """Give the ids that occur in masks, sorted, without `IGNORED`."""
    return np.flatnonzero(class_counts(masks)).astype(np.int64)


def renumbered(masks: Labels, values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Give masks in which the ids `values` became 0 to n - 1; `IGNORED` stays."""
    table = np.full(IGNORED + 1, IGNORED, dtype=np.uint8)
    table[values] = np.arange(len(values))
    return table[masks]


def chosen_to_cut(masks: Labels, share: float, *, seed: int) -> NDArray[np.bool_]:
    """Choose a seeded share of the images (N,), so that every class stays in one that is kept.

    At least one image is chosen where that can be; fewer than the share where classes are rare.
    """
    holds = np.stack([class_counts(mask[None]) > 0 for mask in masks])
    kept = holds.sum(axis=0)
    wanted = max(1, round(share * len(masks)))
    taken = np.zeros(len(masks), dtype=np.bool_)
    for index in np.random.default_rng(seed).permutation(len(masks)):
        if taken.sum() == wanted:
            break
        # An image whose classes are all in another kept one can go.
        if np.all(kept[holds[index]] > 1):
            taken[index] = True
            kept = kept - holds[index]
    return taken
