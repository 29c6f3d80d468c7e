"""A folder of image files as arrays: `{train,val,test}/<class>/<image>` or `<class>/<image>`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluators.assembling import Arrays
from evaluators.images import SPLITS, resized
from search_space.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)

MAX_BYTES = 8 * 1024**3
"""Pixels that are read at most: a data set is held whole in memory."""

GREY_MODES = frozenset({"1", "L"})
"""Pillow's modes that are read as one channel; every other one becomes red, green and blue."""

Listing = dict[str, list[Path]]
"""Image files of each class."""


def read_folder(
    path: Path, *, resize: tuple[int, int] | None
) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    """Read every image below a folder; classes are the folder names in alphabetical order.

    Images are one channel where all of them are grey, else three. Transparency is dropped.

    Args:
        path: the folder; where it has a folder `train`, its splits are `train`, `val` and `test`.
        resize: height and width to bring each image to; None needs images of one size.

    Returns:
        The arrays of each split found, and the class names in the order of their labels.

    Raises:
        DataError: for missing folders, classes without images, unreadable files or different sizes.
    """
    parts = {split: path / split for split in SPLITS if (path / split).is_dir()}
    if parts and "train" not in parts:
        raise DataError(
            f"{path}: must hold a folder train beside {' and '.join(parts)}, got none; "
            "add train/<class>/<image>"
        )
    parts = parts or {"train": path}
    listing = {split: _listing(folder) for split, folder in parts.items()}
    names = tuple(listing["train"])
    for split, classes in listing.items():
        unknown = sorted(set(classes) - set(names))
        if unknown:
            raise DataError(
                f"{parts[split] / unknown[0]}: every class must also be in train, got one that is "
                "not; add it to train or remove it"
            )
    mode = common_mode([file for part in listing.values() for file in _flat(part)])
    arrays = {}
    for split, classes in listing.items():
        labels = [names.index(name) for name, files in classes.items() for _ in files]
        arrays[split] = Arrays(
            images=read_images(_flat(classes), mode=mode, resize=resize),
            labels=np.array(labels, dtype=np.int64),
            images_where=str(parts[split]),
            labels_where=str(parts[split]),
        )
    return arrays, names


def _listing(folder: Path) -> Listing:
    classes = sorted(
        child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
    if not classes:
        raise DataError(
            f"{folder}: must hold one folder of images a class, got no folder; "
            "put the images into <class>/<image>"
        )
    listing = {}
    for child in classes:
        listing[child.name] = sorted(
            Path(home) / name
            for home, _, files in os.walk(child)
            for name in files
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        )
        if not listing[child.name]:
            known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
            raise DataError(
                f"{child}: must hold images ({known}), got none; fill the folder or remove it"
            )
    return listing


def _flat(classes: Listing) -> list[Path]:
    return [file for files in classes.values() for file in files]


def common_mode(files: Iterable[Path]) -> str:
    """Give Pillow's mode that all files are read in: "L" where all are grey, else "RGB".

    Raises:
        DataError: for an image of more than 8 bits a channel.
    """
    common = "L"
    for file in files:
        with opened(file) as image:
            mode = image.mode
        if mode.startswith(("I", "F")):
            raise DataError(
                f"{file}: must have 8 bits a channel, got Pillow's mode {mode!r}; "
                "convert it, or use .npz"
            )
        if mode not in GREY_MODES:
            common = "RGB"
    return common


def read_images(
    files: Sequence[Path], *, mode: str, resize: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """Read images of one size, or brought to one, as (N, H, W, C).

    Raises:
        DataError: for damaged files, different sizes, or more than memory may take.
    """
    whole: NDArray[np.uint8] | None = None
    for index, file in enumerate(files):
        pixels = _read_image(file, mode=mode)
        if resize is not None:
            pixels = resized(pixels[None], resize)[0]
        if whole is None:
            shape = (len(files), *pixels.shape)
            if int(np.prod(shape)) > MAX_BYTES:
                raise DataError(
                    f"{file.parent.parent}: images must fit into {MAX_BYTES >> 30} GB of memory, "
                    f"got {int(np.prod(shape)) / 2**30:.0f} GB; use --resize or fewer images"
                )
            whole = np.empty(shape, dtype=np.uint8)
        if pixels.shape != whole.shape[1:]:
            first, ours = whole.shape[1:3], pixels.shape[:2]
            raise DataError(
                f"{file}: images must have one size, got {ours[0]}x{ours[1]} against "
                f"{first[0]}x{first[1]} of {files[0]}; --resize HxW brings all to one size"
            )
        whole[index] = pixels
    assert whole is not None, "a listing has no empty class"
    return whole


def _read_image(file: Path, *, mode: str) -> NDArray[np.uint8]:
    with opened(file) as image:
        pixels = decoded(file, image, mode=mode)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def decoded(file: Path, image: Image.Image, *, mode: str | None = None) -> NDArray[np.uint8]:
    """Give the values of an opened image, converted to a mode; None keeps its own.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return np.asarray(image if mode is None else image.convert(mode), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(
            f"{file}: must be a whole image, got one that cannot be decoded ({error}); replace it"
        ) from error


def opened(file: Path) -> Image.Image:
    """Open an image file without decoding it.

    Raises:
        DataError: Pillow cannot read it.
    """
    try:
        return Image.open(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{file}: must be an image, got a file that Pillow cannot read; replace or remove it"
        ) from error
