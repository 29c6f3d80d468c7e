"""From the arrays that a source holds to a data set: every check that all sources share."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.images import (
    IGNORED,
    SPLITS,
    ImageData,
    Labels,
    Split,
    Task,
    resized,
    resized_masks,
    shape_text,
)
from evaluators.masks import checked_masks, chosen_to_cut, present, renumbered
from search_space.errors import DataError

logger = logging.getLogger(__name__)

MAX_CHANNELS = 16
"""A last axis beyond this is a side in pixels: the array is a volume or has its channels first."""

CUT_SHARE = 0.2
"""Share of the training images that becomes the val (or test) split where a source has none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Arrays:
    """What a source read for one split, before any check."""

    images: NDArray[Any]
    labels: NDArray[Any]
    """One label an image, or one mask."""
    images_where: str
    """File and array of the images, for messages."""
    labels_where: str
    """File and array of the labels, for messages."""


def assemble(
    arrays: Mapping[str, Arrays],
    *,
    name: str,
    source: str,
    seed: int,
    task: Task = "classification",
    class_names: Mapping[int, str] | None = None,
    resize: tuple[int, int] | None = None,
) -> ImageData:
    """Check what a source read and make a data set of it.

    A missing val or test split is cut from train: a seeded fifth of every class, test first; of
    images with masks a seeded fifth that leaves every class in train. Labels, and the ids in masks,
    become 0 to n - 1 in the order of their values; 255 in a mask is no class. Floats count as 0 to
    1 where no pixel of any split is above 1, else as 0 to 255; both are rounded to whole steps of
    1/255.

    Args:
        arrays: what was read of `train` and, where they exist, of `val` and `test`.
        name: short name for tables.
        source: where the data came from, in a few words.
        seed: of the splits that are cut.
        task: "classification" takes `labels` for labels, "segmentation" for masks.
        class_names: name of each label of the source; a label without one is named by its number.
        resize: height and width to bring every image to (bilinear) and every mask (nearest
            neighbour); None leaves them.

    Raises:
        DataError: for wrong shapes, pixels or labels, one class only, or too few images to split.
    """
    check = _checked_labels if task == "classification" else _checked_masks
    labels: dict[str, Labels] = {split: check(part) for split, part in arrays.items()}
    images = _checked_images(arrays, resize=resize)
    for part in arrays.values():
        _require_pairs(part, task)
    if task == "segmentation" and resize is not None:
        labels = {split: resized_masks(masks, resize) for split, masks in labels.items()}
    values = _checked_classes(arrays, labels)
    whole = {
        split: Split(images=images[split], labels=_numbered(labels[split], values))
        for split in arrays
    }
    names = class_names or {}
    classes = tuple(names.get(value, str(value)) for value in values.tolist())
    cut = [split for split in ("test", "val") if split not in whole]
    for split in cut:
        where = arrays["train"].labels_where
        whole["train"], whole[split] = _cut(whole["train"], seed=seed, classes=classes, where=where)
    if cut:
        share = "a fifth of each class" if task == "classification" else "a fifth of the images"
        source += f", {' and '.join(reversed(cut))} cut from train ({share}, seed {seed})"
    _warn_of_leaks(whole, name=name)
    train, val, test = (whole[split] for split in SPLITS)
    digest = _digest(whole, classes)
    return ImageData(
        name=name, source=source, train=train, val=val, test=test, classes=classes, sha256=digest
    )


def _checked_labels(part: Arrays) -> NDArray[np.int64]:
    labels, where = part.labels, part.labels_where
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{where}: must be one label an image, (N,) or (N, 1), got shape {labels.shape}; "
            "of one-hot rows take `argmax(axis=1)`"
        )
    if len(labels) == 0:
        raise DataError(f"{where}: must hold at least one label, got none; fill it or leave it out")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where}: must be whole numbers, got {labels.dtype}; store them as int64")
    if int(labels.min()) < 0:
        raise DataError(
            f"{where}: must be 0 or more, got {int(labels.min())}; drop unlabelled images"
        )
    if int(labels.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where}: must fit into int64, got {int(labels.max())}; count from 0")
    return labels.astype(np.int64)


def _checked_masks(part: Arrays) -> NDArray[np.uint8]:
    return checked_masks(part.labels, part.labels_where)


def _require_pairs(part: Arrays, task: Task) -> None:
    """Refuse images and labels, or images and masks, that do not belong together."""
    kind = "label" if task == "classification" else "mask"
    if len(part.images) != len(part.labels):
        raise DataError(
            f"{part.images_where}: must hold one image a {kind}, got {len(part.images)} "
            f"images and {len(part.labels)} {kind}s in {part.labels_where}; make them equal"
        )
    theirs, ours = part.images.shape[1:3], part.labels.shape[1:3]
    if task == "segmentation" and theirs != ours:
        raise DataError(
            f"{part.labels_where}: masks must have the size of their images, got "
            f"{ours[0]}x{ours[1]} against {theirs[0]}x{theirs[1]} of {part.images_where}; "
            "make them equal"
        )


def _numbered(labels: Labels, values: NDArray[np.int64]) -> Labels:
    if labels.ndim == 3:
        return renumbered(labels, values)
    return np.searchsorted(values, labels).astype(np.int64)


def _values(labels: Labels) -> NDArray[np.int64]:
    return present(labels) if labels.ndim == 3 else np.unique(labels).astype(np.int64)


def _checked_classes(
    arrays: Mapping[str, Arrays], labels: Mapping[str, Labels]
) -> NDArray[np.int64]:
    values = _values(labels["train"])
    if len(values) < 2:
        dense = labels["train"].ndim == 3
        found, advice = f"only label {int(values[0])}", "there is nothing to tell apart"
        if dense and (labels["train"] == IGNORED).any():
            found += f" and {IGNORED}, which does not count"
            advice = f"give what {IGNORED} marks an id of its own, as 1"
        raise DataError(
            f"{arrays['train'].labels_where}: must name at least two classes, got {found}; {advice}"
        )
    for split, part in arrays.items():
        unknown = np.setdiff1d(_values(labels[split]), values)
        if len(unknown):
            raise DataError(
                f"{part.labels_where}: every label must also occur in train, got {int(unknown[0])} "
                "which does not; move such images to train or drop them"
            )
    if "val" in labels and len(_values(labels["val"])) < 2:
        logger.warning(
            "%s: names one class alone: scores say how often a network names it, and nothing else",
            arrays["val"].labels_where,
        )
    return values


def _checked_images(
    arrays: Mapping[str, Arrays], *, resize: tuple[int, int] | None
) -> dict[str, NDArray[np.uint8]]:
    shaped = {split: _with_channels(part) for split, part in arrays.items()}
    bounds = {
        split: _pixel_bounds(shaped[split], part.images_where) for split, part in arrays.items()
    }
    floats = [split for split in arrays if shaped[split].dtype.kind == "f"]
    unit = bool(floats) and max(bounds[split][1] for split in floats) <= 1.0
    images = {}
    for split, array in shaped.items():
        if array.dtype.kind == "f":
            array = np.rint(array * 255.0 if unit else array)
        elif array.dtype.kind == "b":
            array = array * np.uint8(255)
        images[split] = np.ascontiguousarray(array, dtype=np.uint8)
        if resize is not None:
            images[split] = resized(images[split], resize)
    for split, part in arrays.items():
        if images[split].shape[1:] != images["train"].shape[1:]:
            theirs, ours = (
                shape_text(*images["train"].shape[1:]),
                shape_text(*images[split].shape[1:]),
            )
            raise DataError(
                f"{part.images_where}: images must have one size in all splits, got {ours} "
                f"(H x W x channels) against {theirs} in train; --resize HxW brings all to one size"
            )
    return images


def _with_channels(part: Arrays) -> NDArray[Any]:
    images, where = part.images, part.images_where
    if images.dtype.kind not in "uifb":
        raise DataError(f"{where}: pixels must be numbers, got {images.dtype}; store them as uint8")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not 1 <= images.shape[3] <= MAX_CHANNELS:
        first = images.ndim == 4 and images.shape[1] <= 4
        advice = (
            "move channels last with `transpose(0, 2, 3, 1)`" if first else "store one image a row"
        )
        raise DataError(
            f"{where}: must be (N, H, W) or (N, H, W, C) with at most {MAX_CHANNELS} channels, "
            f"got shape {part.images.shape}; {advice}"
        )
    if images.size == 0:
        raise DataError(
            f"{where}: must hold at least one pixel, got shape {part.images.shape}; "
            "fill it or leave it out"
        )
    return images


def _pixel_bounds(images: NDArray[Any], where: str) -> tuple[float, float]:
    low, high = float(images.min()), float(images.max())
    # The minimum of an array that holds NaN is NaN, so these two see every bad pixel.
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(images)))
        raise DataError(
            f"{where}: pixels must be finite, got {bad} that are NaN or infinite; repair them"
        )
    if low < 0 or high > 255:
        raise DataError(
            f"{where}: pixels must lie in 0 to 255 (or 0 to 1), got {low:g} to {high:g}; "
            "undo the normalisation"
        )
    return low, high


def _cut(split: Split, *, seed: int, classes: tuple[str, ...], where: str) -> tuple[Split, Split]:
    if split.labels.ndim == 3:
        taken = chosen_to_cut(split.labels, CUT_SHARE, seed=seed)
        if not taken.any():
            raise DataError(
                f"{where}: must have an image to cut a split from whose classes other images have "
                f"too, got none among {len(split)}; add images or give val and test"
            )
    else:
        taken = _fifth_of_each(split.labels, seed=seed, classes=classes, where=where)
    kept, cut = (
        Split(images=split.images[mask], labels=split.labels[mask]) for mask in (~taken, taken)
    )
    return kept, cut


def _fifth_of_each(
    labels: Labels, *, seed: int, classes: tuple[str, ...], where: str
) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    taken = np.zeros(len(labels), dtype=np.bool_)
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise DataError(
                f"{where}: each class must have at least two images to cut a split from (three "
                f"where val and test are both missing), got too few of {name!r}; add images"
            )
        taken[rng.permutation(members)[: max(1, round(CUT_SHARE * len(members)))]] = True
    return taken


def _warn_of_leaks(splits: Mapping[str, Split], *, name: str) -> None:
    def keys(split: Split) -> list[bytes]:
        return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in split.images]

    seen = set(keys(splits["train"]))
    for split in ("val", "test"):
        count = sum(key in seen for key in keys(splits[split]))
        if count:
            total = len(splits[split])
            logger.warning("%s: %d of %d %s images also occur in train", name, count, total, split)


def _digest(splits: Mapping[str, Split], classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr(classes).encode())
    for name in SPLITS:
        split = splits[name]
        digest.update(f"{name} {split.images.shape}".encode())
        digest.update(np.ascontiguousarray(split.images).data)
        kind = "u1" if split.labels.ndim == 3 else "<i8"
        digest.update(np.ascontiguousarray(split.labels, dtype=kind).data)
    return digest.hexdigest()
