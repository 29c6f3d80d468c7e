"""Image data in memory: what a data set is, and how it is fitted to the input of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from search_space.errors import DataError

SPLITS = ("train", "val", "test")

Task = Literal["classification", "segmentation"]
"""Name one class an image, or one of each pixel."""

Labels = NDArray[np.integer[Any]]
"""One label an image: (N,) int64, 0 to classes - 1; or masks (N, H, W) uint8, with `IGNORED`."""

IGNORED = 255
"""Value in a mask of a pixel that is not counted, neither in a loss nor in a metric: as in VOC."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """Some images with their labels, or with their masks."""

    images: NDArray[np.uint8]
    """(N, H, W, C), 0 to 255."""
    labels: Labels
    """(N,) int64, 0 to classes - 1; or masks (N, H, W) uint8 with `IGNORED` beside these."""

    def __len__(self) -> int:
        """Give the number of images."""
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """A data set for one task: three splits of equal-sized images, whole in memory."""

    name: str
    """Short name for tables."""
    source: str
    """Where it came from and how its splits were made, in a few words."""
    train: Split
    val: Split
    """What a search sees."""
    test: Split
    """What is looked at once, for the final networks."""
    classes: tuple[str, ...]
    """Name of each label."""
    sha256: str
    """Hash of the content as loaded: shapes, pixels, labels and class names of all splits."""

    @property
    def task(self) -> Task:
        """What a network learns from it: masks make it segmentation."""
        return "segmentation" if self.train.labels.ndim == 3 else "classification"

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        _, height, width, _ = self.train.images.shape
        return height, width

    @property
    def channels(self) -> int:
        """Colours of a pixel: 1 for grey, 3 for red, green and blue."""
        return int(self.train.images.shape[3])

    @cached_property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the training pixels of each channel, in units of 0 to 255.

        A constant channel has standard deviation 1, so that dividing by it is harmless.
        """
        values = np.arange(256, dtype=np.float64)
        means, deviations = [], []
        for channel in range(self.channels):
            counts = np.bincount(self.train.images[..., channel].reshape(-1), minlength=256)
            mean = float(counts @ values / counts.sum())
            variance = float(counts @ (values - mean) ** 2 / counts.sum())
            means.append(mean)
            deviations.append(variance**0.5 if variance > 0 else 1.0)
        return tuple(means), tuple(deviations)


def matched(data: ImageData, *, size: tuple[int, int], channels: int) -> ImageData:
    """Give the data as a network with this input reads it: one channel is repeated to three.

    Raises:
        DataError: for any other difference of shapes.
    """
    if data.size == size and data.channels == channels:
        return data
    if data.size != size or data.channels != 1 or channels != 3:
        theirs, ours = shape_text(*data.size, data.channels), shape_text(*size, channels)
        hint = f"--resize {size[0]}x{size[1]} brings the images to it" if data.size != size else ""
        hint = hint or "one channel becomes three, nothing else is converted"
        raise DataError(
            f"{data.name}: images must fit the space's input of {ours} (H x W x channels), "
            f"got {theirs}; change `input` in the space or leave it out, or {hint}"
        )
    train, val, test = (
        replace(split, images=np.repeat(split.images, 3, axis=3))
        for split in (data.train, data.val, data.test)
    )
    return replace(data, train=train, val=val, test=test)


def describe(data: ImageData) -> dict[str, Any]:
    """Give what a plan prints about the data; plain values only.

    `majority_share` is of the images of val, in segmentation of their pixels that count.
    """
    counts = class_counts(data.val.labels)
    return {
        "name": data.name,
        "task": data.task,
        "source": data.source,
        "train": len(data.train),
        "val": len(data.val),
        "test": len(data.test),
        "size": list(data.size),
        "channels": data.channels,
        "num_classes": data.num_classes,
        "classes": list(data.classes),
        "majority_share": float(counts.max() / counts.sum()),
        "sha256": data.sha256,
    }


def class_counts(labels: Labels) -> NDArray[np.intp]:
    """Count the images of each label (N,), or the pixels of each class of masks (N, H, W)."""
    if labels.ndim == 1:
        return np.bincount(labels)
    counts = np.zeros(IGNORED + 1, dtype=np.intp)
    # Part by part: bincount takes eight bytes a pixel.
    for start in range(0, len(labels), 256):
        counts += np.bincount(labels[start : start + 256].reshape(-1), minlength=IGNORED + 1)
    return counts[:IGNORED]


def resized_masks(masks: Labels, size: tuple[int, int]) -> Labels:
    """Bring masks (N, H, W) to another height and width: each pixel takes its nearest one's class.

    The middle of a new pixel falls into exactly one old pixel, as in Pillow's `NEAREST`.
    """
    rows, columns = (
        ((2 * np.arange(new) + 1) * old) // (2 * new)
        for old, new in zip(masks.shape[1:], size, strict=True)
    )
    return masks[:, rows[:, None], columns[None, :]]


def resized(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring images (N, H, W, C) to another height and width: bilinear, widened when shrinking.

    The triangle filter covers the whole area of each new pixel, as Pillow's `BILINEAR` does, so
    that shrinking does not alias.
    """
    down = _triangle_weights(images.shape[1], size[0])
    across = _triangle_weights(images.shape[2], size[1])
    result = np.empty((len(images), *size, images.shape[3]), dtype=np.uint8)
    for start in range(0, len(images), 256):
        part = images[start : start + 256].astype(np.float32)
        part = np.einsum("hH,nHWc->nhWc", down, part, optimize=True)
        part = np.einsum("wW,nhWc->nhwc", across, part, optimize=True)
        result[start : start + 256] = np.clip(np.rint(part), 0, 255).astype(np.uint8)
    return result


def _triangle_weights(old: int, new: int) -> NDArray[np.float32]:
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    distance = np.abs((np.arange(old) + 0.5)[None, :] - centres[:, None]) / reach
    weights = np.clip(1.0 - distance, 0.0, None)
    normed: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normed


def shape_text(height: int, width: int, channels: int) -> str:
    """Give `HxWxC`."""
    return f"{height}x{width}x{channels}"
