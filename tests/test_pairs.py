"""Folders of images with masks: how the two are matched, and every way in which they do not fit."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluators.data import load_data
from evaluators.images import IGNORED
from evaluators.pairs import holds_pairs
from search_space.errors import DataError

SIDES = (6, 8)


def picture(seed: int = 0, *shape: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, shape or SIDES, dtype=np.uint8))


def mask(*ids: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Make a mask whose columns take the ids in turn."""
    return np.resize(np.array(ids, dtype=np.uint8), SIDES)


def saved(home: Path, *, count: int = 10, first: int = 0, ids: tuple[int, ...] = (0, 1)) -> Path:
    """Write so many images with masks below `home`."""
    for part in ("images", "masks"):
        (home / part).mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        picture(index).save(home / f"images/{index}.png")
        Image.fromarray(mask(*ids)).save(home / f"masks/{index}.png")
    return home


def refusal(path: Path, **options: Any) -> str:
    """Give the sentence that a folder is refused with, its own path shortened."""
    with pytest.raises(DataError) as caught:
        load_data(str(path), **options)
    text = str(caught.value)
    assert "\n" not in text
    assert " must " in text
    return text.replace(str(path), ".")


def test_images_and_masks_become_a_dense_data_set(tmp_path: Path) -> None:
    data = load_data(str(saved(tmp_path / "set", ids=(0, 7, IGNORED))))
    assert data.task == "segmentation"
    assert data.classes == ("0", "7")
    assert [len(data.train), len(data.val), len(data.test)] == [6, 2, 2]
    assert data.source.endswith("val and test cut from train (a fifth of the images, seed 0)")
    np.testing.assert_array_equal(data.val.labels[0], mask(0, 1, IGNORED))
    assert data.train.labels.dtype == np.uint8


def test_splits_may_hold_the_two_folders(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        saved(tmp_path / split, count=number + 2, first=10 * number)
    data = load_data(str(tmp_path))
    assert [len(data.train), len(data.val), len(data.test)] == [2, 3, 4]


def test_the_two_folders_may_hold_splits(tmp_path: Path) -> None:
    home = saved(tmp_path, count=8)
    for part in ("images", "masks"):
        for split, names in {"train": range(6), "val": range(6, 8)}.items():
            (home / part / split).mkdir()
            for name in names:
                (home / part / f"{name}.png").rename(home / part / split / f"{name}.png")
    data = load_data(str(home))
    assert [len(data.train), len(data.val), len(data.test)] == [5, 2, 1]


def test_a_mask_is_found_by_its_path_whatever_the_suffixes(tmp_path: Path) -> None:
    saved(tmp_path, count=4)
    for part in ("images", "masks"):
        (tmp_path / part / "more").mkdir()
    picture(9, *SIDES, 3).save(tmp_path / "images/more/0.JPG", format="JPEG")
    Image.fromarray(mask(1, 1)).save(tmp_path / "masks/more/0.bmp")
    (tmp_path / "masks/notes.txt").write_text("not an image")
    data = load_data(str(tmp_path))
    assert data.channels == 3
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 5


def test_the_numbers_of_a_palette_are_the_ids(tmp_path: Path) -> None:
    saved(tmp_path, count=5)
    for index in range(5):
        painted = Image.frombytes("P", SIDES[::-1], mask(0, 3, IGNORED).tobytes())
        painted.putpalette([200, 10, 10, 10, 200, 10] * 128)
        painted.save(tmp_path / f"masks/{index}.png")
    data = load_data(str(tmp_path))
    assert data.classes == ("0", "3")
    np.testing.assert_array_equal(data.train.labels[0], mask(0, 1, IGNORED))


def test_a_mask_of_one_bit_has_classes_0_and_1(tmp_path: Path) -> None:
    saved(tmp_path, count=5)
    for index in range(5):
        Image.fromarray(mask(0, 1).astype(bool)).save(tmp_path / f"masks/{index}.png")
    assert load_data(str(tmp_path)).classes == ("0", "1")


def test_resizing_takes_the_nearest_pixel_of_a_mask(tmp_path: Path) -> None:
    saved(tmp_path, count=4, ids=(0, 9, IGNORED))
    picture(5, 9, 5).save(tmp_path / "images/big.png")
    Image.fromarray(np.full((9, 5), 9, dtype=np.uint8)).save(tmp_path / "masks/big.png")
    assert "images must have one size" in refusal(tmp_path)
    data = load_data(str(tmp_path), resize=(12, 4))
    assert data.size == (12, 4)
    wanted = Image.fromarray(mask(0, 1, IGNORED)).resize((4, 12), Image.Resampling.NEAREST)
    small = [m for s in (data.train, data.val, data.test) for m in s.labels if m.min() == 0]
    np.testing.assert_array_equal(small[0], np.asarray(wanted))


def test_images_shared_by_train_and_val_are_counted_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, split in enumerate(("train", "val", "test")):
        saved(tmp_path / "set" / split, count=3, first=2 * number)
    with caplog.at_level(logging.WARNING):
        load_data(str(tmp_path / "set"))
    assert [r.getMessage() for r in caplog.records] == [
        "set: 1 of 3 val images also occur in train"
    ]


def breaks(what: str, home: Path) -> None:
    """Make one mistake in a good folder of ten."""
    image, answer = home / "images/4.png", home / "masks/4.png"
    match what:
        case "no mask":
            answer.unlink()
        case "no image":
            image.unlink()
        case "two masks":
            Image.fromarray(mask(0, 1)).save(answer.with_suffix(".bmp"))
        case "other size":
            Image.fromarray(np.zeros((6, 9), dtype=np.uint8)).save(answer)
        case "16 bit":
            Image.fromarray(np.full(SIDES, 400, dtype=np.uint16)).save(answer)
        case "colour":
            picture(0, *SIDES, 3).save(answer)
        case "jpeg":
            answer.unlink()
            Image.fromarray(mask(0, 1)).save(answer.with_suffix(".jpg"))
        case "damaged":
            answer.write_bytes(answer.read_bytes()[:40])
        case "no image file":
            answer.write_bytes(b"hello")
        case "16 bit image":
            Image.fromarray(np.full(SIDES, 400, dtype=np.uint16)).save(image)
        case "binary":
            for file in (home / "masks").iterdir():
                Image.fromarray(mask(0, 255)).save(file)
        case "nothing counts":
            for file in (home / "masks").iterdir():
                Image.fromarray(mask(255)).save(file)
        case "one class":
            for file in (home / "masks").iterdir():
                Image.fromarray(mask(2)).save(file)
        case "no images":
            for file in (home / "images").iterdir():
                file.unlink()
        case "no masks at all":
            for file in (home / "masks").iterdir():
                file.unlink()
            (home / "masks").rmdir()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no mask", "./images/4.png: must have a mask, got no ./masks/4 with a suffix"),
        ("no image", "./masks/4.png: must have an image, got no ./images/4 with a suffix"),
        ("two masks", "./masks/4.png: must be the only file of its name, got 4.bmp beside it"),
        ("other size", "a mask must have the size of its image, got 6x9 against 6x8 of ./images"),
        ("16 bit", "./masks/4.png: must have one class id of 8 bits a pixel .* mode 'I;16';"),
        ("colour", "./masks/4.png: must have one class id of 8 bits a pixel .* mode 'RGB';"),
        ("jpeg", "./masks/4.jpg: must keep its class ids exactly, got JPEG"),
        ("damaged", "./masks/4.png: must be "),
        ("no image file", "./masks/4.png: must be an image, got a file that Pillow cannot read"),
        ("16 bit image", "./images/4.png: must have 8 bits a channel"),
        ("binary", "./masks: must name at least two classes, got only label 0 and 255, which does"),
        ("nothing counts", "./masks: must hold pixels that count, got 255"),
        ("one class", "./masks: must name at least two classes, got only label 2; there is noth"),
        ("no images", "./images: must hold images .*, got none"),
        ("no masks at all", "./masks: must hold images .*, got none"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, what: str, said: str) -> None:
    home = saved(tmp_path / "set")
    breaks(what, home)
    text = refusal(home)
    assert re.search(said, text), text


def test_a_class_that_only_val_has_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "train", count=3)
    saved(tmp_path / "val", count=3, first=3, ids=(0, 1, 5))
    text = refusal(tmp_path)
    assert text.startswith("./val/masks: every label must also occur in train, got 5 which does")


@pytest.mark.parametrize(
    ("gone", "said"),
    [("train", "got no folder ./train/images"), ("val/masks", "got no folder ./val/masks")],
)
def test_a_missing_folder_of_a_split_is_named(tmp_path: Path, gone: str, said: str) -> None:
    for number, split in enumerate(("train", "val")):
        saved(tmp_path / split, count=2, first=2 * number)
    (tmp_path / gone).rename(tmp_path / "away")
    text = refusal(tmp_path, task="segmentation")
    assert text.startswith(".: must hold images and masks of train, ")
    assert said in text


def test_an_image_whose_classes_no_other_has_stays_in_train(tmp_path: Path) -> None:
    saved(tmp_path, count=5)
    Image.fromarray(mask(0, 1, 2)).save(tmp_path / "masks/3.png")
    for seed in range(5):
        data = load_data(str(tmp_path), seed=seed)
        assert data.classes == ("0", "1", "2")
        assert (data.train.labels == 2).any()


def test_images_that_cannot_be_spared_are_not_cut(tmp_path: Path) -> None:
    saved(tmp_path, count=2)
    assert "must have an image to cut a split from" in refusal(tmp_path)


def test_classes_called_like_masks_are_classes(tmp_path: Path) -> None:
    for name in ("masks", "no masks"):
        (tmp_path / name).mkdir()
        for index in range(3):
            picture(index + len(name)).save(tmp_path / name / f"{index}.png")
    assert not holds_pairs(tmp_path)
    assert load_data(str(tmp_path)).task == "classification"
    assert ": must hold masks for segmentation" in refusal(tmp_path, task="segmentation")


def test_masks_are_no_data_for_classification(tmp_path: Path) -> None:
    text = refusal(saved(tmp_path), task="classification")
    assert text.startswith(".: must hold one label an image for classification, got masks; ")
