"""The linear classifier that a network has to beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluators.baseline import _patches, linear_baseline, mean_iou
from evaluators.data import load_data
from evaluators.images import IGNORED, ImageData, Split


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


# ---- of every pixel


def banded(*, ignored: bool = False) -> ImageData:
    """Make images whose bright pixels are class 1, of which some do not count."""
    rng = np.random.default_rng(0)
    splits = {}
    for name in ("train", "val", "test"):
        images = rng.integers(0, 256, (20, 12, 10, 1), dtype=np.uint8)
        masks = (images[..., 0] > 127).astype(np.uint8)
        if ignored:
            # What does not count says the opposite: it would spoil the fit.
            masks = np.where(rng.random(masks.shape) < 0.4, IGNORED, masks).astype(np.uint8)
        splits[name] = Split(images=images, labels=masks)
    return ImageData(name="bands", source="", classes=("0", "1"), sha256="", **splits)


@pytest.mark.parametrize("ignored", [False, True])
def test_pixels_are_told_by_the_square_around_them(ignored: bool) -> None:  # noqa: FBT001
    found = linear_baseline(banded(ignored=ignored))
    assert found.val_accuracy > 0.93
    assert found.test_accuracy > 0.93
    assert found.val_miou is not None
    assert 0.86 < found.val_miou < found.val_accuracy
    assert " patches of 5x5x1" in found.note
    assert found == linear_baseline(banded(ignored=ignored))


def test_no_mean_of_intersections_in_classification(few: ImageData) -> None:
    found = linear_baseline(cut(few, 60, 50))
    assert found.val_miou is None
    assert found.test_miou is None


def test_the_square_of_a_corner_is_black_beyond_the_sides() -> None:
    images = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 4, 1)
    corner = _patches(images)[0, 0, 0, 0]
    assert corner.tolist() == [
        [0] * 5,
        [0] * 5,
        [0, 0, 1, 2, 3],
        [0, 0, 5, 6, 7],
        [0, 0, 9, 10, 11],
    ]


def test_the_mean_of_intersections_is_of_the_classes_that_occur() -> None:
    from sklearn.metrics import confusion_matrix, jaccard_score

    rng = np.random.default_rng(0)
    truth, named = rng.integers(0, 4, (2, 500))
    ours = mean_iou(confusion_matrix(truth, named, labels=range(6)))
    assert ours == pytest.approx(jaccard_score(truth, named, average="macro"))
