"""The linear classifier that a network has to beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluators.baseline import linear_baseline
from evaluators.data import load_data
from evaluators.images import ImageData, Split


def part(split: Split, count: int) -> Split:
    return Split(images=split.images[:count], labels=split.labels[:count])


def cut(data: ImageData, train: int, rest: int) -> ImageData:
    return replace(
        data, train=part(data.train, train), val=part(data.val, rest), test=part(data.test, rest)
    )


@pytest.fixture(scope="module")
def few() -> ImageData:
    return cut(load_data(), 600, 500)


def test_a_few_hundred_images_give_the_same_good_guess_every_time(few: ImageData) -> None:
    first = linear_baseline(few)
    assert first == linear_baseline(few)
    assert 0.75 < first.val_accuracy < 0.85
    assert 0.75 < first.test_accuracy < 0.85
    assert first.note.startswith("logistic regression on 600 images of 28x28x1, C = 0.")


def test_large_colour_images_are_shrunk_and_the_note_says_so(few: ImageData) -> None:
    def grown(split: Split) -> Split:
        return replace(split, images=np.repeat(split.images.repeat(2, 1).repeat(2, 2), 3, axis=3))

    large = replace(few, train=grown(few.train), val=grown(few.val), test=grown(few.test))
    found = linear_baseline(large)
    assert " of 18x18x3," in found.note
    assert found.val_accuracy > 0.7


def test_random_labels_are_guessed_at_chance(few: ImageData) -> None:
    rng = np.random.default_rng(0)
    noise = replace(few.train, labels=rng.permutation(few.train.labels))
    assert linear_baseline(replace(few, train=noise)).val_accuracy < 0.2


@pytest.mark.slow
def test_the_shipped_set_has_a_linear_accuracy_of_83_per_cent() -> None:
    found = linear_baseline(load_data())
    assert found.test_accuracy == pytest.approx(0.8345, abs=0.003)
    assert found.val_accuracy == pytest.approx(0.852, abs=0.003)
