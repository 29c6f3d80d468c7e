"""Masks in `.npz` files and in arrays: ids, sizes, what does not count, and how they are cut."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluators.data import load_data
from evaluators.images import IGNORED, class_counts, describe, resized_masks
from evaluators.masks import checked_masks, chosen_to_cut, renumbered
from search_space.errors import DataError


def arrays(count: int = 10, *, size: int = 8, seed: int = 0) -> dict[str, Any]:
    """Make the arrays of a small file with masks of classes 0 to 2."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
        made[f"{split}_masks"] = rng.integers(0, 3, (count, size, size), dtype=np.uint8)
    return made


def saved(path: Path, made: dict[str, Any]) -> str:
    np.savez(path / "set.npz", **made)
    return str(path / "set.npz")


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_data(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert " must " in text
    return text


def test_an_npz_file_with_masks_is_read(tmp_path: Path) -> None:
    made = arrays()
    data = load_data(saved(tmp_path, made))
    assert data.task == "segmentation"
    assert data.train.images.shape == (10, 8, 8, 1)
    np.testing.assert_array_equal(data.val.labels, made["val_masks"])
    assert data.source.endswith("(mask keys)")
    assert describe(data)["task"] == "segmentation"


def test_ids_are_numbered_from_zero_and_255_stays(tmp_path: Path) -> None:
    made = arrays()
    for split in ("train", "val", "test"):
        ids = np.array([4, 9, 200], dtype=np.int64)[made[f"{split}_masks"]]
        made[f"{split}_masks"] = ids[..., None]
    made["val_masks"][0] = IGNORED
    data = load_data(saved(tmp_path, made))
    assert data.classes == ("4", "9", "200")
    assert (data.val.labels[0] == IGNORED).all()
    np.testing.assert_array_equal(data.train.labels, arrays()["train_masks"])


def test_254_is_the_last_class_and_255_none() -> None:
    masks = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert np.array_equal(checked_masks(masks, "here"), masks)
    assert class_counts(masks).tolist() == [1] * 255


def test_booleans_are_two_classes(tmp_path: Path) -> None:
    made = arrays()
    for split in ("train", "val", "test"):
        made[f"{split}_masks"] = made[f"{split}_masks"] > 0
    assert load_data(saved(tmp_path, made)).classes == ("0", "1")


def test_the_majority_is_of_the_pixels_that_count(tmp_path: Path) -> None:
    made = arrays()
    made["val_masks"][:] = 0
    made["val_masks"][:, 0] = 1
    made["val_masks"][:, 4:] = IGNORED
    assert describe(load_data(saved(tmp_path, made)))["majority_share"] == 0.75


def test_a_file_with_labels_and_masks_serves_both_tasks(tmp_path: Path) -> None:
    made = arrays()
    for split in ("train", "val", "test"):
        made[f"{split}_labels"] = np.arange(10) % 2
    source = saved(tmp_path, made)
    assert load_data(source).task == "classification"
    assert load_data(source, task="classification").task == "classification"
    assert load_data(source, task="segmentation").task == "segmentation"


def test_the_hash_knows_the_masks(tmp_path: Path) -> None:
    made = arrays()
    before = load_data(saved(tmp_path, made)).sha256
    assert load_data(saved(tmp_path, made)).sha256 == before
    made["test_masks"][0, 0, 0] = IGNORED
    assert load_data(saved(tmp_path, made)).sha256 != before


def test_val_and_test_are_cut_from_train_with_every_class_left(tmp_path: Path) -> None:
    made = {key: value for key, value in arrays(20).items() if key.startswith("train")}
    made["train_masks"][7, 0, 0] = 3
    data = load_data(saved(tmp_path, made))
    assert [len(data.train), len(data.val), len(data.test)] == [13, 3, 4]
    assert (data.train.labels == 3).any()
    assert load_data(saved(tmp_path, made), seed=1).sha256 != data.sha256


def test_no_image_is_cut_that_alone_holds_a_class() -> None:
    masks = np.zeros((4, 2, 2), dtype=np.uint8)
    masks[:, 0, 0] = [1, 2, 3, 3]
    for seed in range(8):
        chosen = chosen_to_cut(masks, 0.5, seed=seed)
        assert chosen.tolist() in ([False, False, True, False], [False, False, False, True])


@pytest.mark.parametrize("size", [(8, 8), (3, 5), (13, 32), (4, 16)])
def test_resizing_is_pillows_nearest_neighbour(size: tuple[int, int]) -> None:
    masks = arrays()["train_masks"]
    for mask, ours in zip(masks, resized_masks(masks, size), strict=True):
        theirs = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_resizing_a_file_brings_masks_along(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path, arrays()), resize=(16, 4))
    assert data.test.images.shape == (10, 16, 4, 1)
    assert data.test.labels.shape == (10, 16, 4)


def test_numbering_sends_every_id_to_its_place() -> None:
    masks = np.array([[[9, 255], [4, 9]]], dtype=np.uint8)
    assert renumbered(masks, np.array([4, 9])).tolist() == [[[1, 255], [0, 1]]]


def whole(value: Any, dtype: Any = np.int64) -> Any:
    masks = arrays()["train_masks"].astype(dtype)
    masks[1, 2, 3] = value
    return masks


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train_masks", whole(256), "class ids must be 0 to 254, or 255 .*, got 256; renumber"),
        ("train_masks", whole(-1), "class ids must be 0 to 254, or 255 .*, got -1; renumber"),
        ("val_masks", whole(7), "every label must also occur in train, got 7 which does not"),
        ("val_masks", whole(0.5, np.float32), "must be whole numbers, got float32;"),
        (
            "val_masks",
            np.zeros((10, 8, 8, 3), int),
            r"must be one class id .*shape \(10, 8, 8, 3\)",
        ),
        ("val_masks", np.zeros(10, int), r"must be one class id a pixel, .*got shape \(10,\)"),
        ("val_masks", np.zeros((0, 8, 8), int), r"must hold at least one pixel, got shape \(0, 8"),
        ("val_masks", np.full((10, 8, 8), 255), "must hold pixels that count, got 255 "),
        ("val_masks", np.zeros((10, 8, 9), int), "must have the size of their .* 8x9 against 8x8"),
        ("train_masks", np.zeros((10, 8, 8), int), "must name at least two classes, got only lab"),
        ("val_images", np.zeros((9, 8, 8), np.uint8), "must hold one image a mask, got 9 images a"),
        ("train_images", np.zeros((10, 3, 32, 32)), "must be .*; move channels last with"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(
    tmp_path: Path, key: str, value: Any, said: str
) -> None:
    text = refusal(saved(tmp_path, arrays() | {key: value}))
    assert re.match(f"{key}: (masks )?{said}", text.removeprefix(f"{tmp_path}/set.npz: ")), text


def test_a_missing_array_of_masks_is_named(tmp_path: Path) -> None:
    made = arrays()
    del made["val_masks"]
    assert refusal(saved(tmp_path, made)).endswith("add val_masks")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("segmentation", "must hold train_images and train_masks, got "),
        ("classification", "must hold train_images and train_labels, got "),
    ],
)
def test_a_file_that_does_not_serve_the_task_is_refused(
    tmp_path: Path, task: str, said: str
) -> None:
    other = {"segmentation": "labels", "classification": "masks"}[task]
    made = {"train_images": np.zeros((4, 8, 8), np.uint8), f"train_{other}": np.arange(4)}
    text = refusal(saved(tmp_path, made), task=task)
    assert said in text


def test_a_keras_file_has_no_masks(tmp_path: Path) -> None:
    made = {"x_train": np.zeros((4, 8, 8), np.uint8), "y_train": np.arange(4) % 2}
    text = refusal(saved(tmp_path, made), task="segmentation")
    assert "must hold train_images, train_masks for segmentation" in text


@pytest.mark.parametrize(
    ("source", "task", "said"),
    [
        ("fashion_mnist_12k", "segmentation", "must hold masks for segmentation, got one label"),
        ("cifar10", "segmentation", "must hold masks for segmentation, got one label an image"),
        ("scenes", "classification", "must hold one label an image for classification, got masks"),
        ("MRI", "classification", "must hold one label an image for classification, got masks"),
    ],
)
def test_a_name_that_does_not_serve_the_task_is_refused(source: str, task: str, said: str) -> None:
    assert refusal(source, task=task).startswith(f"{source}: {said}")
