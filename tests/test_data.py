"""Data sets from every source, and one clear sentence for everything that is none."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluators.data import load_data, torchvision_arrays
from evaluators.images import ImageData, describe, matched, resized
from search_space.errors import DataError


@pytest.fixture(scope="module")
def shipped() -> ImageData:
    return load_data()


def arrays(count: int = 20, *, size: int = 8, classes: int = 2, seed: int = 0) -> dict[str, Any]:
    """Make the arrays of a small MedMNIST-style file with all three splits."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
        made[f"{split}_labels"] = np.arange(count) % classes
    return made


def saved(path: Path, made: dict[str, Any]) -> str:
    np.savez(path / "set.npz", **made)
    return str(path / "set.npz")


def refusal(source: str, **options: Any) -> str:
    """Give the sentence that a source is refused with."""
    with pytest.raises(DataError) as caught:
        load_data(source, **options)
    text = str(caught.value)
    assert text.startswith(source.removeprefix("./"))
    assert "\n" not in text
    assert " must " in text
    return text


def tree(root: Path, folders: dict[str, int], *, size: int = 6, mode: str = "RGB") -> str:
    """Write so many random images into each folder below the root."""
    rng = np.random.default_rng(0)
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (size, size, *channels), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return str(root)


# ---- the shipped set


def test_the_shipped_set_is_a_balanced_fashion_mnist(shipped: ImageData) -> None:
    facts = describe(shipped)
    assert [facts[split] for split in ("train", "val", "test")] == [8000, 2000, 2000]
    assert facts["size"] == [28, 28]
    assert facts["channels"] == 1
    assert facts["num_classes"] == 10
    assert facts["majority_share"] == 0.1
    assert facts["classes"][9] == "Ankle boot"
    assert np.bincount(shipped.train.labels).tolist() == [800] * 10


def test_the_hash_of_the_shipped_set_never_changes(shipped: ImageData) -> None:
    assert shipped.sha256.startswith("bac7e2bf873629aa")


def test_the_shipped_set_is_found_by_its_name_however_it_is_spelled() -> None:
    assert load_data("Fashion-MNIST-12k").name == "fashion_mnist_12k"


def test_no_shipped_image_is_in_two_splits(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_data()
    assert caplog.records == []


def test_mean_and_deviation_are_of_the_training_pixels(shipped: ImageData) -> None:
    (mean,), (deviation,) = shipped.mean_std
    assert mean == pytest.approx(73.104, abs=1e-3)
    assert deviation == pytest.approx(89.983, abs=1e-3)


def test_a_constant_channel_has_deviation_one(tmp_path: Path) -> None:
    made = arrays()
    for split in ("train", "val", "test"):
        made[f"{split}_images"][:] = 7
    assert load_data(saved(tmp_path, made)).mean_std == ((7.0,), (1.0,))


def test_the_door_of_the_room_gives_what_the_modules_hold() -> None:
    import evaluators

    assert evaluators.load_data is load_data
    assert "train_briefly" in dir(evaluators)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = evaluators.nothing


# ---- .npz files


def test_an_npz_file_with_medmnist_keys_is_read(tmp_path: Path) -> None:
    made = arrays(classes=3)
    data = load_data(saved(tmp_path, made))
    assert data.train.images.shape == (20, 8, 8, 1)
    assert data.train.images.dtype == np.uint8
    assert np.array_equal(data.val.images[..., 0], made["val_images"])
    assert data.classes == ("0", "1", "2")
    assert data.name == "set"


def test_keras_keys_without_val_cut_a_fifth_of_every_class_from_train(tmp_path: Path) -> None:
    made = arrays(50, classes=5)
    keras = {
        f"{short}_{split}": made[f"{split}_{long}"]
        for split in ("train", "test")
        for short, long in (("x", "images"), ("y", "labels"))
    }
    data = load_data(saved(tmp_path, keras))
    assert np.bincount(data.train.labels).tolist() == [8] * 5
    assert np.bincount(data.val.labels).tolist() == [2] * 5
    assert len(data.test) == 50
    assert "val cut from train" in data.source


def test_a_cut_depends_on_the_seed_alone(tmp_path: Path) -> None:
    made = arrays(50)
    for key in ("val_images", "val_labels", "test_images", "test_labels"):
        del made[key]
    source = saved(tmp_path, made)
    assert load_data(source).sha256 == load_data(source).sha256
    assert load_data(source, seed=1).sha256 != load_data(source).sha256
    data = load_data(source)
    assert [len(data.train), len(data.val), len(data.test)] == [32, 8, 10]
    everything = {i.tobytes() for s in (data.train, data.val, data.test) for i in s.images}
    assert len(everything) == 50


def test_labels_in_a_column_are_flattened_and_numbered_from_zero(tmp_path: Path) -> None:
    made = arrays()
    for split in ("train", "val", "test"):
        made[f"{split}_labels"] = (made[f"{split}_labels"] * 6 + 3)[:, None].astype(np.uint8)
    data = load_data(saved(tmp_path, made))
    assert data.train.labels[:3].tolist() == [0, 1, 0]
    assert data.train.labels.dtype == np.int64
    assert data.classes == ("3", "9")


def test_floats_up_to_one_are_stretched_to_bytes(tmp_path: Path) -> None:
    made = arrays()
    wanted = made["train_images"].copy()
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = made[f"{split}_images"].astype(np.float32) / 255
    assert np.array_equal(load_data(saved(tmp_path, made)).train.images[..., 0], wanted)


def test_floats_beyond_one_in_any_split_count_as_bytes(tmp_path: Path) -> None:
    made = arrays()
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = made[f"{split}_images"].astype(np.float64)
    made["val_images"][:] = 1.0
    data = load_data(saved(tmp_path, made))
    assert data.val.images.max() == 1
    assert np.array_equal(data.train.images[..., 0], made["train_images"].astype(np.uint8))


def test_whole_numbers_within_bytes_are_accepted_and_booleans_become_black_and_white(
    tmp_path: Path,
) -> None:
    made = arrays()
    made["train_images"] = made["train_images"].astype(np.int64)
    made["val_images"] = made["val_images"] > 127
    data = load_data(saved(tmp_path, made))
    assert data.train.images.dtype == np.uint8
    assert set(np.unique(data.val.images).tolist()) == {0, 255}


def test_images_shared_by_train_and_val_are_counted_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = arrays()
    made["val_images"][:3] = made["train_images"][:3]
    with caplog.at_level(logging.WARNING):
        load_data(saved(tmp_path, made))
    assert [r.getMessage() for r in caplog.records] == [
        "set: 3 of 20 val images also occur in train"
    ]


def with_pixel(value: float) -> Any:
    """Make float images of which one pixel has the value."""
    images: Any = arrays()["val_images"].astype(np.float32)
    images[3, 2, 1] = value
    return images


def grey(*shape: int) -> Any:
    return np.zeros(shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("val_images", with_pixel(np.nan), "pixels must be finite, got 1 that are NaN or infinite"),
        ("val_images", with_pixel(np.inf), "pixels must be finite, got 1 that are NaN or infinite"),
        (
            "val_images",
            with_pixel(300),
            r"pixels must lie in 0 to 255 \(or 0 to 1\), got 0 to 300;",
        ),
        ("val_images", with_pixel(-1), r"pixels must lie in 0 to 255 \(or 0 to 1\), got -1 to "),
        ("train_images", grey(20, 8), r"must be \(N, H, W\) or .*, got shape \(20, 8\);"),
        ("train_images", grey(20, 3, 32, 32), r"must be .*; move channels last with `transpose"),
        ("train_images", grey(20, 28, 28, 28), "must be .* with at most 16 channels, got shape"),
        ("train_images", np.full((20, 8, 8), "a"), "pixels must be numbers, got <U1;"),
        ("train_images", grey(20, 0, 8), r"must hold at least one pixel, got shape \(20, 0, 8\)"),
        (
            "val_images",
            grey(20, 9, 8),
            "images must have one size in all splits, got 9x8x1 .*8x8x1",
        ),
        ("val_images", grey(19, 8, 8), "must hold one image a label, got 19 images and 20 labels"),
        ("train_labels", np.zeros(20, int), "must name at least two classes, got only label 0"),
        ("train_labels", np.zeros(20), "must be whole numbers, got float64;"),
        ("train_labels", np.arange(20) - 1, "must be 0 or more, got -1;"),
        (
            "train_labels",
            np.arange(20, dtype=np.uint64) + 2**63,
            "must fit into int64, got 9223372036854775827; count from 0",
        ),
        (
            "train_labels",
            np.eye(20, dtype=int),
            r"must be one label .*got shape \(20, 20\); .*argmax",
        ),
        ("train_labels", np.zeros(0, int), "must hold at least one label, got none"),
        (
            "val_labels",
            np.full(20, 7),
            "every label must also occur in train, got 7 which does not",
        ),
        ("train_images", np.array([[1], [2, 3]], dtype=object), "must be .*, got Python objects"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(
    tmp_path: Path, key: str, value: Any, said: str
) -> None:
    text = refusal(saved(tmp_path, arrays() | {key: value}))
    assert re.match(f"{key}: {said}", text.removeprefix(f"{tmp_path}/set.npz: ")), text


def test_missing_arrays_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    text = refusal(saved(tmp_path, {"pictures": np.zeros(3), "answers": np.zeros(3)}))
    assert "must hold train_images, train_labels or x_train, y_train" in text
    assert "got pictures, answers" in text


def test_images_without_their_labels_are_refused(tmp_path: Path) -> None:
    made = arrays()
    del made["val_labels"]
    text = refusal(saved(tmp_path, made))
    assert "must hold val_images and val_labels" in text
    assert text.endswith("add val_labels")


def test_a_class_too_small_to_split_is_refused(tmp_path: Path) -> None:
    made = arrays()
    made["train_labels"][:] = 0
    made["train_labels"][0] = 1
    del made["val_images"], made["val_labels"]
    made["test_labels"][:] = 0
    assert "got too few of '1'" in refusal(saved(tmp_path, made))


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 but no archive"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    assert "must be a whole .npz archive" in refusal(str(tmp_path / "set.npz"))


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, arrays()))
    path.write_bytes(path.read_bytes()[:2000])
    assert "must be a whole .npz archive" in refusal(str(path))


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, arrays()))
    content = bytearray(path.read_bytes())
    content[600] ^= 0xFF
    path.write_bytes(content)
    assert "train_images: must be whole, got a damaged array" in refusal(str(path))


def test_a_single_array_is_not_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", np.zeros(3))
    assert "must be an .npz archive, got a single array" in refusal(str(tmp_path / "set.npy"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("cifar11", r"^'cifar11': must be a folder .*did you mean 'cifar10'\?$"),
        ("no/such/folder", r"^'no/such/folder': must be .*must be one of: fashion_mnist_12k, "),
        ("", r"^'': must be a folder of images, an .npz file or a known name, got none"),
        ("x" * 5000, r"^x+: must be readable, got: File name too long"),
    ],
    ids=["name", "path", "empty", "long"],
)
def test_a_source_that_is_nowhere_suggests_what_to_write(source: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_data(source)


# ---- folders


def test_a_folder_with_three_splits_is_read_with_its_class_names(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"train/cat": 3, "train/dog": 2, "val/dog": 1, "test/cat": 2})
    data = load_data(root)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.val.labels.tolist() == [1]
    assert data.train.images.shape == (5, 6, 6, 3)
    assert data.name == "set"


def test_a_folder_of_classes_alone_is_split_with_every_class_in_every_split(tmp_path: Path) -> None:
    data = load_data(tree(tmp_path / "set", {"cat": 10, "dog": 5}))
    assert np.bincount(data.test.labels).tolist() == [2, 1]
    assert np.bincount(data.val.labels).tolist() == [2, 1]
    assert np.bincount(data.train.labels).tolist() == [6, 3]
    assert data.source.endswith("val and test cut from train (a fifth of each class, seed 0)")


def test_grey_images_are_one_channel_until_one_has_colour(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"cat": 3, "dog": 3}, mode="L")
    assert load_data(root).channels == 1
    Image.new("RGBA", (6, 6), (255, 0, 0, 9)).save(tmp_path / "set/cat/red.png")
    data = load_data(root)
    corners = np.concatenate([s.images[:, 0, 0] for s in (data.train, data.val, data.test)])
    assert data.channels == 3
    assert [255, 0, 0] in corners.tolist()


def test_images_in_nested_folders_count_and_other_files_do_not(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"cat/old": 3, "dog": 3})
    (tmp_path / "set/dog/notes.txt").write_text("not an image")
    (tmp_path / "set/dog/.hidden.png").write_text("not an image")
    data = load_data(root)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.val) + len(data.test) == 6


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "must hold one folder of images a class" in refusal(str(tmp_path))


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"cat": 2, "dog": 0})
    assert refusal(root).startswith(f"{root}/dog: must hold images (bmp, gif, jpeg, jpg, ")


def test_a_tree_without_train_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"val/cat": 2, "val/dog": 2})
    assert "must hold a folder train beside val" in refusal(root)


def test_a_class_that_only_val_has_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"train/cat": 3, "train/dog": 3, "val/cow": 1})
    assert refusal(root).startswith(f"{root}/val/cow: every class must also be in train")


def test_a_single_class_folder_is_refused(tmp_path: Path) -> None:
    assert "at least two classes" in refusal(tree(tmp_path / "set", {"cat": 5}))


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"cat": 2, "dog": 2})
    (tmp_path / "set/dog/9.png").write_bytes(b"no image")
    assert refusal(root).startswith(f"{root}/dog/9.png: must be an image")


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"cat": 2, "dog": 2}, size=64)
    whole = (tmp_path / "set/dog/1.png").read_bytes()
    (tmp_path / "set/dog/1.png").write_bytes(whole[: len(whole) // 2])
    assert refusal(root).startswith(f"{root}/dog/1.png: must be a whole image")


def test_sixteen_bit_images_are_refused_instead_of_clipped(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"cat": 2, "dog": 2}, mode="L")
    Image.fromarray(np.full((6, 6), 4000, dtype=np.uint16)).save(tmp_path / "set/dog/1.png")
    assert refusal(root).startswith(f"{root}/dog/1.png: must have 8 bits a channel")


def test_images_of_different_sizes_need_resize(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"cat": 5, "dog": 4})
    Image.new("RGB", (9, 7)).save(tmp_path / "set/dog/4.png")
    text = refusal(root)
    assert text.startswith(f"{root}/dog/4.png: images must have one size, got 7x9 against 6x6 of ")
    assert load_data(root, resize=(12, 10)).size == (12, 10)


# ---- torchvision


def test_torchvision_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    text = refusal("cifar10", root=tmp_path)
    assert text.endswith("run: pip install torchvision")


def test_a_torchvision_of_another_torch_is_named_with_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision").mkdir()
    failing = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (tmp_path / "torchvision/__init__.py").write_text(failing)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    text = refusal("cifar100", root=tmp_path)
    assert "got a failing import (operator torchvision::nms does not exist)" in text


def test_a_download_without_a_folder_to_keep_it_is_refused() -> None:
    assert refusal("cifar10").startswith("cifar10: must have a folder to keep the download in")


class _Svhn:
    """Keeps its arrays as torchvision's SVHN does: channels first, labels called labels."""

    data = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    labels = np.array([0, 1])


def test_channels_first_arrays_of_torchvision_are_turned() -> None:
    read = torchvision_arrays(_Svhn(), "svhn train")
    assert read.images.shape == (2, 4, 5, 3)
    assert read.images[1, 2, 3, 1] == _Svhn.data[1, 1, 2, 3]
    assert read.labels.tolist() == [0, 1]


# ---- to the input of a network


def test_one_channel_is_repeated_to_three(shipped: ImageData) -> None:
    data = matched(shipped, size=(28, 28), channels=3)
    assert data.channels == 3
    assert np.array_equal(data.val.images[..., 2], shipped.val.images[..., 0])
    assert data.sha256 == shipped.sha256


def test_matching_data_stay_the_same_object(shipped: ImageData) -> None:
    assert matched(shipped, size=(28, 28), channels=1) is shipped


@pytest.mark.parametrize(
    ("size", "channels", "said"),
    [
        ((32, 32), 1, r"^fashion_mnist_12k: .* input of 32x32x1 .*, got 28x28x1; .*--resize 32x32"),
        ((28, 28), 4, r"^fashion_mnist_12k: .* input of 28x28x4 .*, got 28x28x1; "),
    ],
)
def test_any_other_difference_names_both_shapes(
    shipped: ImageData, size: tuple[int, int], channels: int, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        matched(shipped, size=size, channels=channels)


def test_resize_brings_every_split_to_the_size() -> None:
    data = load_data(resize=(32, 24))
    assert data.size == (32, 24)
    assert data.test.images.shape == (2000, 32, 24, 1)


@pytest.mark.parametrize("size", [(32, 32), (14, 14), (7, 40), (28, 28)])
def test_resizing_is_pillows_bilinear_within_one_step(
    shipped: ImageData, size: tuple[int, int]
) -> None:
    ours = resized(shipped.val.images[:20], size)[..., 0].astype(int)
    for image, mine in zip(shipped.val.images[:20, ..., 0], ours, strict=True):
        theirs = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        assert np.abs(mine - np.asarray(theirs, dtype=int)).max() <= 1


def test_a_size_without_pixels_is_refused() -> None:
    with pytest.raises(DataError, match=r"^resize: must be two sides of at least 1 pixel"):
        load_data(resize=(0, 32))
