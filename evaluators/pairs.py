"""A folder of images with masks as arrays: `images/` and `masks/`, whole or for each split."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.assembling import Arrays
from evaluators.folders import (
    IMAGE_SUFFIXES,
    common_mode,
    decoded,
    opened,
    read_images,
)
from evaluators.images import SPLITS, resized_masks
from search_space.errors import DataError

IMAGES, MASKS = "images", "masks"

ID_MODES = frozenset({"1", "L", "P"})
"""Pillow's modes whose values are class ids: of a palette the number counts, not the colour."""

Pairs = dict[str, list[tuple[Path, Path]]]
"""Image and mask files of each split."""


def holds_pairs(path: Path) -> bool:
    """Say whether a folder is meant as images with masks, not as images of classes so called."""

    def meant(home: Path) -> bool:
        there = {child.name for child in home.iterdir() if child.is_dir()}
        return {IMAGES, MASKS} <= there or ({IMAGES, MASKS} >= there and bool(there))

    return any(meant(home) for home in (path, *(path / split for split in SPLITS)) if home.is_dir())


def read_pairs(path: Path, *, resize: tuple[int, int] | None) -> dict[str, Arrays]:
    """Read every image below `images` and its mask, called alike, below `masks`.

    Both stand in the folder itself, or in its folders train, val and test; or they hold these three
    folders. An image and its mask differ in their suffix at most (`a/1.jpg`, `a/1.png`). The value
    of a mask's pixel is the id of its class, 255 counts for none.

    Args:
        path: the folder.
        resize: height and width to bring each image (bilinear) and mask (nearest neighbour) to.

    Raises:
        DataError: for folders, images or masks that are missing or that do not fit one another.
    """
    pairs = {
        split: _paired(images, masks) for split, (images, masks) in _split_folders(path).items()
    }
    for found in pairs.values():
        for image, mask in found:
            _require_fit(image, mask)
    mode = common_mode(image for found in pairs.values() for image, _ in found)
    arrays = {}
    for split, found in pairs.items():
        images, masks = _split_folders(path)[split]
        arrays[split] = Arrays(
            images=read_images([image for image, _ in found], mode=mode, resize=resize),
            labels=_read_masks([mask for _, mask in found], resize=resize),
            images_where=str(images),
            labels_where=str(masks),
        )
    return arrays


def _split_folders(path: Path) -> dict[str, tuple[Path, Path]]:
    """Give the folder of images and that of masks of every split that is there."""
    outer = {split: (path / split / IMAGES, path / split / MASKS) for split in SPLITS}
    inner = {split: (path / IMAGES / split, path / MASKS / split) for split in SPLITS}
    for layout in (outer, inner):
        there = {s: homes for s, homes in layout.items() if any(home.is_dir() for home in homes)}
        if not there:
            continue
        missing = next(
            (home for homes in there.values() for home in homes if not home.is_dir()), None
        )
        if "train" not in there or missing:
            raise DataError(
                f"{path}: must hold images and masks of train, and of val and test where they "
                f"exist, got no folder {missing or layout['train'][0]}; add it"
            )
        return there
    return {"train": (path / IMAGES, path / MASKS)}


def _paired(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    pictures, answers = _files(images), _files(masks)
    for name, file in pictures.items():
        if name not in answers:
            raise DataError(
                f"{file}: must have a mask, got no {masks / name} with a suffix of images; add it"
            )
    for name, file in answers.items():
        if name not in pictures:
            raise DataError(
                f"{file}: must have an image, got no {images / name} with a suffix of images; "
                "add it or remove the mask"
            )
    return [(file, answers[name]) for name, file in pictures.items()]


def _files(folder: Path) -> dict[str, Path]:
    """Give the image files below a folder by their path in it without the suffix, sorted."""
    files: dict[str, Path] = {}
    for file in sorted(Path(home) / name for home, _, names in os.walk(folder) for name in names):
        if file.suffix.lower() not in IMAGE_SUFFIXES or file.name.startswith("."):
            continue
        name = str(file.relative_to(folder).with_suffix(""))
        if name in files:
            raise DataError(
                f"{file}: must be the only file of its name, got {files[name].name} beside it; "
                "rename or remove one"
            )
        files[name] = file
    if not files:
        known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise DataError(f"{folder}: must hold images ({known}), got none; fill the folder")
    return files


def _require_fit(image: Path, mask: Path) -> None:
    with opened(image) as picture, opened(mask) as answer:
        if answer.mode not in ID_MODES:
            raise DataError(
                f"{mask}: must have one class id of 8 bits a pixel (grey or palette), got Pillow's "
                f"mode {answer.mode!r}; convert it, ids 0 to 254 and 255 for pixels that do not "
                "count"
            )
        if answer.format == "JPEG":
            raise DataError(
                f"{mask}: must keep its class ids exactly, got JPEG, which blurs them; make the "
                "mask anew as PNG"
            )
        if answer.size != picture.size:
            (width, height), (wide, high) = answer.size, picture.size
            raise DataError(
                f"{mask}: a mask must have the size of its image, got {height}x{width} against "
                f"{high}x{wide} of {image}; make them equal"
            )


def _read_masks(files: list[Path], *, resize: tuple[int, int] | None) -> NDArray[np.uint8]:
    masks = []
    for file in files:
        with opened(file) as answer:
            # Not converted: the values of a palette image are its ids.
            mask = decoded(file, answer)
        masks.append(mask if resize is None else resized_masks(mask[None], resize)[0])
    return np.stack(masks).astype(np.uint8)
