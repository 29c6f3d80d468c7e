"""The arrays of an `.npz` file, called as MedMNIST or Keras call them, or with masks."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.assembling import Arrays
from evaluators.images import SPLITS, Task
from search_space.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """How the arrays of a file are called; `{}` stands for the split."""

    name: str
    task: Task
    images: str
    labels: str

    def keys(self, split: str) -> tuple[str, str]:
        """Give the names of the images and of the labels or masks of a split."""
        return self.images.format(split), self.labels.format(split)


STYLES = (
    Style(name="MedMNIST", task="classification", images="{}_images", labels="{}_labels"),
    Style(name="Keras", task="classification", images="x_{}", labels="y_{}"),
    Style(name="mask", task="segmentation", images="{}_images", labels="{}_masks"),
)

_DAMAGE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


def read_archive(path: Path, task: Task | None) -> tuple[dict[str, Arrays], Style]:
    """Read the arrays of every split that an `.npz` file holds.

    Args:
        path: the file.
        task: what to read where it holds both labels and masks; None prefers labels.

    Raises:
        DataError: the file is damaged, or lacks images, labels or, for segmentation, masks.
    """
    try:
        # Opened here, since numpy leaves a file open that it cannot read.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{path}: must be an .npz archive, got a single array; use `np.savez`"
                )
            with archive:
                style = _style(path, archive.files, task)
                return _splits(path, archive, style), style
    except _DAMAGE as error:
        # numpy says "pickled" of whatever is not a zip archive; that would lead the reader astray.
        raise DataError(
            f"{path}: must be a whole .npz archive, got a file that cannot be read as one; "
            "copy or save it again"
        ) from error


def _style(path: Path, there: list[str], task: Task | None) -> Style:
    fitting = [style for style in STYLES if task in (None, style.task)]
    whole = [style for style in fitting if {*style.keys("train")} <= {*there}]
    begun = [style for style in fitting if style.keys("train")[0] in there]
    if whole or begun:
        return (whole or begun)[0]
    needed = " or ".join(", ".join(style.keys("train")) for style in fitting)
    purpose = f" for {task}" if task else ""
    raise DataError(
        f"{path}: must hold {needed}{purpose} (and the same of val and test where they exist), "
        f"got {', '.join(there) or 'no array'}; rename the arrays"
    )


def _splits(path: Path, archive: Any, style: Style) -> dict[str, Arrays]:
    arrays = {}
    for split in SPLITS:
        keys = style.keys(split)
        there = [key for key in keys if key in archive.files]
        if not there and split != "train":
            continue
        if len(there) < len(keys):
            missing = next(key for key in keys if key not in there)
            raise DataError(
                f"{path}: must hold {' and '.join(keys)}, got {', '.join(archive.files)}; "
                f"add {missing}"
            )
        images, labels = (_array(path, archive, key) for key in keys)
        where = [f"{path}: {key}" for key in keys]
        arrays[split] = Arrays(
            images=images, labels=labels, images_where=where[0], labels_where=where[1]
        )
    return arrays


def _array(path: Path, archive: Any, key: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = archive[key]
    except _DAMAGE as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{path}: {key}: must be an array of numbers, got Python objects, which are never "
                "read because they can run code; make one array of equal-sized images"
            ) from error
        raise DataError(
            f"{path}: {key}: must be whole, got a damaged array; copy or save the file again"
        ) from error
    return array
