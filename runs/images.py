"""The images of a run: where they are, the form in which networks read them, a decoded copy.

Every training is a process of its own, so it must come to its images fast. The driver decodes them
once; the children map the copy into memory and share it. 10 ms instead of 0.1 s for the shipped
set, and instead of minutes for a folder of JPEGs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data import known, load_data, matched
from evaluators.images import SPLITS, ImageData, Split, Task
from search_space.errors import DataError, RunError

COPY_NAME = ".images"
"""Folder of the decoded copy in the run directory, there while a session runs."""
WORDS = ("name", "source", "classes", "sha256", "mean_std")
"""What a decoded copy keeps beside the arrays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """Where a child finds the images, and the form in which the networks read them."""

    source: str | None
    root: str | None
    resize: tuple[int, int] | None
    size: tuple[int, int]
    channels: int
    sha256: str
    """Hash of the images that the run began with, before any channel is repeated."""
    task: Task | None = None
    """What the data must serve, as asked for; None takes what the source holds."""
    copy: str | None = None
    """Folder of a decoded copy; None reads the source."""

    def load(self) -> ImageData:
        """Read the data set as the networks take it.

        Raises:
            DataError: it is not there any more, or holds other images.
        """
        data = self.original() if self.copy is None else read_copy(Path(self.copy))
        return matched(data, size=self.size, channels=self.channels)

    def original(self) -> ImageData:
        """Read the source itself, as it is.

        Raises:
            DataError: it is not there any more, or holds other images.
        """
        root = Path(self.root) if self.root else None
        data = load_data(self.source, task=self.task, resize=self.resize, root=root)
        if data.sha256 != self.sha256:
            raise DataError(
                f"{self.source or data.name}: must hold the images that the run began with "
                f"(sha256 {self.sha256[:12]}...), got others ({data.sha256[:12]}...); "
                "put the old ones back, or start a new run"
            )
        return data

    def fields(self) -> dict[str, Any]:
        """Give what run.yaml keeps: everything but the copy."""
        found = {key: value for key, value in asdict(self).items() if key != "copy"}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> DataSource:
        """Read what `fields` gave."""
        resize, size = fields["resize"], fields["size"]
        return cls(
            **{
                **fields,
                "resize": None if resize is None else (int(resize[0]), int(resize[1])),
                "size": (int(size[0]), int(size[1])),
            }
        )


def lasting(source: str | None) -> str | None:
    """Give a source that means the same from any folder: paths become absolute, names stay."""
    if source is None or known(source):
        return source
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


@contextmanager
def decoded(source: DataSource, data: ImageData, directory: Path) -> Iterator[DataSource]:
    """Keep a decoded copy of the images in the run directory for the time of a `with` block.

    Raises:
        RunError: it cannot be written.
    """
    folder = directory / COPY_NAME
    try:
        write_copy(data, folder)
        yield replace(source, copy=str(folder.resolve()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_copy(data: ImageData, folder: Path) -> None:
    """Write a data set as plain arrays; what is there already goes.

    Raises:
        RunError: it cannot be written.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in SPLITS:
            split: Split = getattr(data, name)
            np.save(folder / f"{name}_images.npy", split.images)
            np.save(folder / f"{name}_labels.npy", split.labels)
        words = {key: getattr(data, key) for key in WORDS}
        (folder / "words.json").write_text(json.dumps(words), encoding="ascii")
    except OSError as error:
        raise RunError(
            f"{folder}: must take a copy of the images, "
            f"{error.strerror or 'the disk took a part of them'}; make room there"
        ) from error


def read_copy(folder: Path) -> ImageData:
    """Read a data set that `write_copy` wrote, mapped into memory.

    Raises:
        DataError: it is not whole.
    """
    try:
        splits = {}
        for name in SPLITS:
            # "c": a process may write to its view, no other sees it; torch wants writable memory.
            images, labels = (
                np.load(folder / f"{name}_{part}.npy", mmap_mode="c", allow_pickle=False)
                for part in ("images", "labels")
            )
            splits[name] = Split(images=images, labels=labels)
        words = json.loads((folder / "words.json").read_text(encoding="ascii"))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{folder}: must hold the images of this run, got: {error}; resume the run"
        ) from error
    data = ImageData(
        name=words["name"],
        source=words["source"],
        classes=tuple(words["classes"]),
        sha256=words["sha256"],
        **splits,
    )
    # A child would go through all pixels for it, 15 ms for the shipped data: a step or two.
    vars(data)["mean_std"] = tuple(map(tuple, words["mean_std"]))
    return data
