"""Real images from what the user names: shipped, torchvision's, a folder or an `.npz` file."""

from __future__ import annotations

import os
import zipfile
import zlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators import scenes
from evaluators.assembling import Arrays, assemble
from evaluators.folders import read_folder
from evaluators.images import SPLITS, ImageData, Split, Task, describe, matched
from search_space.errors import DataError, nearest

__all__ = ["DEFAULT", "ImageData", "Split", "describe", "load_data", "matched"]

DEFAULT = "fashion_mnist_12k"
"""The shipped set: 12,000 images of Fashion-MNIST (Zalando SE, MIT), its notice beside the file."""

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "fashionmnist": "FashionMNIST",
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "svhn": "SVHN",
}
"""Class in `torchvision.datasets` of each name, written without `-` and `_`."""

NPZ_KEYS = {
    "MedMNIST": {split: (f"{split}_images", f"{split}_labels") for split in SPLITS},
    "Keras": {split: (f"x_{split}", f"y_{split}") for split in SPLITS},
}
"""Names of the image and label arrays of each split, by the data sets that use them."""


def load_data(
    source: str | None = None,
    *,
    task: Task | None = None,
    resize: tuple[int, int] | None = None,
    root: Path | None = None,
    seed: int = 0,
) -> ImageData:
    """Read a data set for classification, whole, into memory.

    Args:
        source: None or `fashion_mnist_12k` for the shipped set; a name in `TORCHVISION`; a folder
            `{train,val,test}/<class>/<image>` or `<class>/<image>`; or an `.npz` file with the
            arrays of MedMNIST or Keras. A known name wins over a folder called like it: write
            `./cifar10`.
        task: what the data must serve; None takes what the source holds.
        resize: height and width to bring every image to (bilinear); None never resizes.
        root: folder that keeps what torchvision downloads; needed for its sets only.
        seed: of the splits that are cut from train where the source has none.

    Raises:
        DataError: where the source is not there, or is not a data set as `assemble` checks it.
    """
    if resize is not None and min(resize) < 1:
        raise DataError(f"resize: must be two sides of at least 1 pixel, got {resize}; write 32x32")
    if source is None:
        source = scenes.NAME if task == "segmentation" else DEFAULT
    if _plain(source) == scenes.NAME:
        return _load_scenes(resize=resize)
    if _plain(source) == _plain(DEFAULT):
        return _load_shipped(resize=resize, seed=seed)
    if _plain(source) in TORCHVISION and os.sep not in source:
        return _load_torchvision(_plain(source), resize=resize, root=root, seed=seed)
    try:
        return _load_path(source, resize=resize, seed=seed)
    except OSError as error:
        raise DataError(
            f"{source}: must be readable, got: {error.strerror or error}; check the path"
        ) from error


def _load_path(source: str, *, resize: tuple[int, int] | None, seed: int) -> ImageData:
    path = Path(source).expanduser()
    if source.strip() and path.is_dir():
        arrays, names = read_folder(path, resize=resize)
        return assemble(
            arrays,
            name=path.resolve().name,
            source=f"folder {path}",
            seed=seed,
            class_names=dict(enumerate(names)),
        )
    if path.is_file():
        arrays, style = _npz_arrays(path)
        return assemble(
            arrays, name=path.stem, source=f"{path} ({style} keys)", seed=seed, resize=resize
        )
    hint = nearest(source, [DEFAULT, *TORCHVISION])
    raise DataError(
        f"{source!r}: must be a folder of images, an .npz file or a known name, got none of these; "
        f"check the path, or as a name: {hint}"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _load_shipped(*, resize: tuple[int, int] | None, seed: int) -> ImageData:
    home = resources.files("evaluators") / "assets" / f"{DEFAULT}.npz"
    with resources.as_file(home) as path:
        arrays, _ = _npz_arrays(path)
    return assemble(
        arrays,
        name=DEFAULT,
        source="shipped: a balanced subset of Fashion-MNIST (Zalando SE, MIT licence)",
        seed=seed,
        class_names=dict(enumerate(FASHION_CLASSES)),
        resize=resize,
    )


def _load_scenes(*, resize: tuple[int, int] | None) -> ImageData:
    return assemble(
        scenes.compose(_load_shipped(resize=None, seed=0)),
        name=scenes.NAME,
        source="shipped: composed of Fashion-MNIST items (Zalando SE, MIT licence) on textures",
        seed=0,
        task="segmentation",
        class_names=dict(enumerate(("background", *FASHION_CLASSES))),
        resize=resize,
    )


# ---------------------------------------------------------------------------- .npz


def _npz_arrays(path: Path) -> tuple[dict[str, Arrays], str]:
    try:
        # Opened here, since numpy leaves a file open that it cannot read.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{path}: must be an .npz archive, got a single array; use `np.savez`"
                )
            with archive:
                return _read_archive(path, archive)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # numpy says "pickled" of whatever is not a zip archive; that would lead the reader astray.
        raise DataError(
            f"{path}: must be a whole .npz archive, got a file that cannot be read as one; "
            "copy or save it again"
        ) from error


def _read_archive(path: Path, archive: Any) -> tuple[dict[str, Arrays], str]:
    style = next((s for s, keys in NPZ_KEYS.items() if keys["train"][0] in archive.files), "")
    if not style:
        needed = " or ".join(", ".join(keys["train"]) for keys in NPZ_KEYS.values())
        raise DataError(
            f"{path}: must hold {needed} (and the same of val and test where they exist), "
            f"got {', '.join(archive.files) or 'no array'}; rename the arrays"
        )
    arrays = {}
    for split, keys in NPZ_KEYS[style].items():
        there = [key for key in keys if key in archive.files]
        if not there and split != "train":
            continue
        if len(there) < len(keys):
            missing = next(key for key in keys if key not in there)
            raise DataError(
                f"{path}: must hold {' and '.join(keys)}, got {', '.join(archive.files)}; "
                f"add {missing}"
            )
        images, labels = (_read_array(path, archive, key) for key in keys)
        where = [f"{path}: {key}" for key in keys]
        arrays[split] = Arrays(
            images=images, labels=labels, images_where=where[0], labels_where=where[1]
        )
    return arrays, style


def _read_array(path: Path, archive: Any, key: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = archive[key]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{path}: {key}: must be an array of numbers, got Python objects, which are never "
                "read because they can run code; make one array of equal-sized images"
            ) from error
        raise DataError(
            f"{path}: {key}: must be whole, got a damaged array; copy or save the file again"
        ) from error
    return array


# ---------------------------------------------------------------------------- torchvision


def _load_torchvision(
    name: str, *, resize: tuple[int, int] | None, root: Path | None, seed: int
) -> ImageData:
    if root is None:
        raise DataError(
            f"{name}: must have a folder to keep the download in, got none; give `root`"
        )
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, OSError) as error:
        # A torchvision made for another torch fails with RuntimeError, or on a missing library.
        raise DataError(
            f"{name}: must be read with torchvision, got a failing import ({error}); "
            "run: pip install torchvision"
        ) from error
    kind = getattr(datasets, TORCHVISION[name])
    # SVHN alone names its splits; the others say train or not.
    flags: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})
    if name == "svhn":
        flags = ({"split": "train"}, {"split": "test"})
    try:
        train, test = (kind(root=str(root), download=True, **flag) for flag in flags)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: must be in {root} or be downloadable, got: {reason}; "
            "check the network or put the files there"
        ) from error
    return assemble(
        {
            "train": torchvision_arrays(train, f"{name} train"),
            "test": torchvision_arrays(test, f"{name} test"),
        },
        name=name,
        source=f"torchvision's {TORCHVISION[name]}",
        seed=seed,
        class_names=dict(enumerate(getattr(train, "classes", ()))),
        resize=resize,
    )


def torchvision_arrays(dataset: Any, where: str) -> Arrays:
    """Give the images (N, H, W[, C]) and labels of a torchvision data set, however it has them."""
    images = np.asarray(dataset.data)
    if images.ndim == 4 and images.shape[1] == 3 and images.shape[3] != 3:
        images = images.transpose(0, 2, 3, 1)
    labels = np.asarray(dataset.labels if hasattr(dataset, "labels") else dataset.targets)
    return Arrays(images=images, labels=labels, images_where=where, labels_where=where)
