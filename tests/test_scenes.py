"""Scenes composed of the shipped items: exact masks, disjoint splits, the same bytes everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluators.data import load_data
from evaluators.images import ImageData, Split, describe
from evaluators.scenes import _drawn_at, backgrounds, composed, silhouettes


@pytest.fixture(scope="module")
def scenes() -> ImageData:
    return load_data("scenes")


def test_scenes_are_small_images_with_a_class_for_every_pixel(scenes: ImageData) -> None:
    facts = describe(scenes)
    assert facts["task"] == "segmentation"
    assert [facts[split] for split in ("train", "val", "test")] == [3000, 600, 600]
    assert facts["size"] == [64, 64]
    assert facts["num_classes"] == 11
    assert facts["classes"][0] == "background"
    assert facts["classes"][9] == "Bag"
    assert scenes.val.labels.shape == (600, 64, 64)
    assert scenes.val.labels.dtype == np.uint8
    assert facts["majority_share"] == pytest.approx(0.69, abs=0.02)


def test_the_hash_of_the_scenes_never_changes(scenes: ImageData) -> None:
    assert scenes.sha256.startswith("049b07946a5a5e30")


def test_segmentation_without_a_source_takes_the_scenes(scenes: ImageData) -> None:
    assert load_data(task="segmentation").sha256 == scenes.sha256


def test_every_class_has_its_share_of_every_split(scenes: ImageData) -> None:
    for split in (scenes.train, scenes.val, scenes.test):
        counts = np.bincount(split.labels.reshape(-1), minlength=11)
        assert counts[1:].min() > 0.012 * counts.sum()


def test_dark_holes_belong_to_the_item_and_a_gap_at_its_side_does_not() -> None:
    ring = np.zeros((2, 7, 7), dtype=np.uint8)
    ring[:, 1:6, 1:6] = 200
    ring[0, 3, 3] = 0
    ring[1, 3, 3:] = 0
    filled = silhouettes(ring)
    assert filled[0, 3, 3]
    assert not filled[1, 3, 3]
    assert filled.sum() == 25 + 22


def test_brightness_alone_does_not_tell_the_class_of_an_item(scenes: ImageData) -> None:
    pixels, classes = scenes.train.images[..., 0], scenes.train.labels
    levels = [pixels[classes == label] for label in range(1, 11)]
    means = np.array([level.mean() for level in levels])
    deviations = np.array([level.std() for level in levels])
    assert np.ptp(means) < 0.5 * deviations.min()
    # Nor is dark always background: items of inverted brightness are darker than most of it.
    background = pixels[classes == 0]
    darker = [(level < np.median(background)).mean() for level in levels]
    assert min(darker) > 0.03


def test_scenes_hold_several_items_of_different_classes(scenes: ImageData) -> None:
    seen = np.array([len(np.unique(mask)) - 1 for mask in scenes.val.labels])
    assert seen.min() >= 1
    assert seen.max() == 5
    assert 2.5 < seen.mean() < 3.5


def test_splits_are_composed_of_their_own_items_and_textures(scenes: ImageData) -> None:
    def whole(images: np.ndarray) -> set[bytes]:
        return {image.tobytes() for image in images}

    train, val, test = (whole(s.images) for s in (scenes.train, scenes.val, scenes.test))
    assert len(train) == 3000
    assert len(train | val | test) == 4200


def test_backgrounds_differ_in_level_slope_and_texture() -> None:
    made = backgrounds(300, np.random.default_rng(0)).astype(float)
    assert made.shape == (300, 64, 64)
    assert np.ptp(made.mean(axis=(1, 2))) > 50
    slopes = made[:, :, -8:].mean(axis=(1, 2)) - made[:, :, :8].mean(axis=(1, 2))
    assert slopes.min() < -30 < 30 < slopes.max()
    assert np.median(np.abs(np.diff(made, axis=2)).mean(axis=(1, 2))) > 1.2
    assert (made == 0).mean() < 0.05


def test_a_mask_is_where_an_item_was_painted_and_nowhere_else() -> None:
    squares = Split(images=np.full((40, 28, 28, 1), 255, np.uint8), labels=np.full(40, 3))
    images, masks = composed(squares, 100, np.random.default_rng(0))
    # The same draws with nothing in the items: what differs was painted.
    bare = replace(squares, images=np.zeros_like(squares.images))
    behind, nothing = composed(bare, 100, np.random.default_rng(0))
    assert not nothing.any()
    assert set(np.unique(masks)) == {0, 4}
    assert np.array_equal(images[masks == 0], behind[masks == 0])
    assert (images[masks > 0] != behind[masks > 0]).mean() > 0.97


def test_a_square_of_a_lone_brightness_stays_one_at_every_size() -> None:
    pixels = np.full((1, 28, 28), 200, dtype=np.uint8)
    for side in (22, 28, 39):
        values, alphas = _drawn_at(pixels, pixels > 0, side)
        assert values.shape == (1, side, side)
        assert (values == 200).all()
        assert (alphas == 255).all()
    half = pixels.copy()
    half[:, :, 14:] = 0
    values, alphas = _drawn_at(half, half > 0, 39)
    assert (alphas[0, 20] >= 128).sum() in (19, 20)
    # The photograph's black ground does not darken the rim.
    assert (values[alphas > 0] == 200).all()
