"""What a linear classifier reaches on the same data: the number that a network has to beat."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from evaluators.images import IGNORED, ImageData, Labels, Split, resized

STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse penalties that are tried; the validation split picks one."""

MAX_ITERATIONS = 100
MAX_PIXELS = 1024
"""Values of one image beyond which images are shrunk: the fit stays within seconds."""

MAX_IMAGES = 10_000
"""Training images beyond which a random part is used."""


PATCH = 5
"""Side of the square around a pixel that names its class in segmentation."""

MAX_PATCHES = 20_000
"""Training pixels that are fitted in segmentation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """Accuracy of multinomial logistic regression on the pixels."""

    val_accuracy: float
    test_accuracy: float
    """Share of the images, in segmentation of the pixels that count."""
    val_miou: float | None = None
    test_miou: float | None = None
    """Mean intersection over union in segmentation; None in classification."""
    note: str
    """How it was fitted, in a few words: images used, size, penalty."""


def linear_baseline(data: ImageData) -> Baseline:
    """Fit multinomial logistic regression with a ridge penalty to the training pixels.

    In segmentation each pixel is classified by the 5 x 5 pixels around it, black beyond the sides;
    a seeded choice of 20,000 pixels is fitted, all of val and test are scored.

    Deterministic, on one thread; 5 s for the shipped data (one core). Images of more than 1,024
    values are shrunk, and of more than 10,000 training images a seeded choice is used; the note
    says so. The fit stops after 100 iterations of L-BFGS, converged or not: longer fits of the
    shipped data change no digit that is printed.
    """
    if data.task == "segmentation":
        return _patch_baseline(data)
    size = _shrunk(data)
    chosen = np.arange(len(data.train))
    if len(chosen) > MAX_IMAGES:
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:MAX_IMAGES])
    train = Split(images=data.train.images[chosen], labels=data.train.labels[chosen])
    pixels = _pixels(train, size)
    val, test = _pixels(data.val, size), _pixels(data.test, size)
    fitted = []
    with threadpool_limits(1):
        for strength in STRENGTHS:
            model = _fitted(pixels, train.labels, strength)
            fitted.append((float(model.score(val, data.val.labels)), strength, model))
        accuracy, strength, model = max(fitted, key=lambda row: row[0])
        test_accuracy = float(model.score(test, data.test.labels))
    shape = f"{size[0]}x{size[1]}x{data.channels}"
    note = f"logistic regression on {len(train)} images of {shape}, C = {strength:g}"
    return Baseline(val_accuracy=accuracy, test_accuracy=test_accuracy, note=note)


def _fitted(inputs: NDArray[Any], labels: Labels, strength: float) -> LogisticRegression:
    model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(inputs, labels)


def _patch_baseline(data: ImageData) -> Baseline:
    counted = np.flatnonzero(data.train.labels != IGNORED)
    chosen = np.sort(np.random.default_rng(0).permutation(counted)[:MAX_PATCHES])
    image, *place = np.unravel_index(chosen, data.train.labels.shape)
    inputs = _patches(data.train.images)[image, *place].reshape(len(chosen), -1) / 255.0
    with threadpool_limits(1):
        model = _fitted(inputs, data.train.labels.flat[chosen], 1.0)
        val, test = (_confusion(model, split, data.num_classes) for split in (data.val, data.test))
    return Baseline(
        val_accuracy=float(val.trace() / val.sum()),
        test_accuracy=float(test.trace() / test.sum()),
        val_miou=mean_iou(val),
        test_miou=mean_iou(test),
        note=f"logistic regression on {len(chosen)} patches of {PATCH}x{PATCH}x{data.channels}",
    )


def _patches(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a view (N, H, W, C, PATCH, PATCH) of the square around every pixel."""
    rim = PATCH // 2
    padded = np.pad(images, ((0, 0), (rim, rim), (rim, rim), (0, 0)))
    return sliding_window_view(padded, (PATCH, PATCH), axis=(1, 2))


def _confusion(model: LogisticRegression, split: Split, classes: int) -> NDArray[np.intp]:
    """Count the pixels of each true class (row) that are named each class (column)."""
    table = np.zeros((classes, classes), dtype=np.intp)
    # Part by part: every pixel becomes PATCH x PATCH numbers.
    for start in range(0, len(split), 25):
        truth = split.labels[start : start + 25].reshape(-1)
        counts = truth != IGNORED
        patches = _patches(split.images[start : start + 25]).reshape(len(truth), -1)
        named = model.predict(patches[counts] / np.float32(255.0))
        cells = truth[counts].astype(np.intp) * classes + named
        table += np.bincount(cells, minlength=classes**2).reshape(table.shape)
    return table


def mean_iou(confusion: NDArray[np.intp]) -> float:
    """Give the mean intersection over union of the classes that occur or are named anywhere.

    Args:
        confusion: pixels of each true class (row) that are named each class (column).
    """
    hits = confusion.diagonal()
    unions = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    there = unions > 0
    return float((hits[there] / unions[there]).mean())


def _shrunk(data: ImageData) -> tuple[int, int]:
    height, width = data.size
    scale = math.sqrt(MAX_PIXELS / (height * width * data.channels))
    if scale >= 1:
        return height, width
    return max(1, int(height * scale)), max(1, int(width * scale))


def _pixels(split: Split, size: tuple[int, int]) -> NDArray[np.float64]:
    images = split.images
    if images.shape[1:3] != size:
        images = resized(images, size)
    return images.reshape(len(images), -1) / 255.0
