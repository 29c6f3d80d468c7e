"""Scenes composed of the shipped items: exact masks, disjoint splits, the same bytes everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators.data import load_data
from evaluators.images import ImageData, describe
from evaluators.scenes import silhouettes


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
    assert facts["majority_share"] == pytest.approx(0.72, abs=0.02)


def test_the_hash_of_the_scenes_never_changes(scenes: ImageData) -> None:
    assert scenes.sha256.startswith("cbee701298202839")


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
