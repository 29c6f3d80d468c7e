"""What a linear classifier reaches on the same data: the number that a network has to beat."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from evaluators.images import ImageData, Split, resized

STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse penalties that are tried; the validation split picks one."""

MAX_ITERATIONS = 100
MAX_PIXELS = 1024
"""Values of one image beyond which images are shrunk: the fit stays within seconds."""

MAX_IMAGES = 10_000
"""Training images beyond which a random part is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """Accuracy of multinomial logistic regression on the pixels."""

    val_accuracy: float
    test_accuracy: float
    note: str
    """How it was fitted, in a few words: images used, size, penalty."""


def linear_baseline(data: ImageData) -> Baseline:
    """Fit multinomial logistic regression with a ridge penalty to the training pixels.

    Deterministic, on one thread; 5 s for the shipped data (one core). Images of more than 1,024
    values are shrunk, and of more than 10,000 training images a seeded choice is used; the note
    says so. The fit stops after 100 iterations of L-BFGS, converged or not: longer fits of the
    shipped data change no digit that is printed.
    """
    size = _shrunk(data)
    chosen = np.arange(len(data.train))
    if len(chosen) > MAX_IMAGES:
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:MAX_IMAGES])
    train = Split(images=data.train.images[chosen], labels=data.train.labels[chosen])
    pixels = _pixels(train, size)
    val, test = _pixels(data.val, size), _pixels(data.test, size)
    fitted = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=1e-3)
            model.fit(pixels, train.labels)
            fitted.append((float(model.score(val, data.val.labels)), strength, model))
        accuracy, strength, model = max(fitted, key=lambda row: row[0])
        test_accuracy = float(model.score(test, data.test.labels))
    shape = f"{size[0]}x{size[1]}x{data.channels}"
    note = f"logistic regression on {len(train)} images of {shape}, C = {strength:g}"
    return Baseline(val_accuracy=accuracy, test_accuracy=test_accuracy, note=note)


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
