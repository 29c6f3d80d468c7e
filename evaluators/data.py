"""Real images from what the user names: shipped, torchvision's, a folder or an `.npz` file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from evaluators import mri, scenes
from evaluators.archives import read_archive
from evaluators.assembling import Arrays, assemble
from evaluators.folders import read_folder
from evaluators.images import ImageData, Split, Task, describe, matched
from evaluators.pairs import holds_pairs, read_pairs
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

HOLDS: dict[str, Task] = {
    DEFAULT: "classification",
    **dict.fromkeys(TORCHVISION, "classification"),
    scenes.NAME: "segmentation",
    mri.NAME: "segmentation",
}
"""What the known names serve."""


def load_data(
    source: str | None = None,
    *,
    task: Task | None = None,
    resize: tuple[int, int] | None = None,
    root: Path | None = None,
    seed: int = 0,
) -> ImageData:
    """Read a data set, whole, into memory.

    Args:
        source: None for the shipped set of the task; `fashion_mnist_12k`, `scenes`, `mri` or a name
            in `TORCHVISION`; a folder `{train,val,test}/<class>/<image>` or `<class>/<image>`, or
            one with `images` and `masks`; or an `.npz` file with the arrays of MedMNIST or Keras,
            or `*_images` and `*_masks`. A known name wins over a folder called like it: write
            `./cifar10`.
        task: what the data must serve; None takes what the source holds, of both the labels.
        resize: height and width to bring every image to (bilinear), masks by nearest neighbour;
            None never resizes.
        root: folder that keeps what torchvision downloads, and the first place where the files of
            `mri` are looked for; torchvision's sets need it.
        seed: of the splits that are cut from train where the source has none.

    Raises:
        DataError: where the source is not there, does not serve the task, or is not a data set as
            `assemble` checks it.
    """
    if resize is not None and min(resize) < 1:
        raise DataError(f"resize: must be two sides of at least 1 pixel, got {resize}; write 32x32")
    if source is None:
        source = scenes.NAME if task == "segmentation" else DEFAULT
    name = known(source)
    if name is None:
        try:
            return _load_path(source, task=task, resize=resize, seed=seed)
        except OSError as error:
            raise DataError(
                f"{source}: must be readable, got: {error.strerror or error}; check the path"
            ) from error
    _require_task(source, HOLDS[name], task)
    if name == DEFAULT:
        return _load_shipped(resize=resize, seed=seed)
    if name == scenes.NAME:
        return _load_scenes(resize=resize)
    if name == mri.NAME:
        return _load_mri(resize=resize, root=root)
    return _load_torchvision(name, resize=resize, root=root, seed=seed)


def known(source: str) -> str | None:
    """Give the name in `HOLDS` that a source spells, with any case, `-` and `_`; None: no name."""

    def plain(name: str) -> str:
        return name.lower().replace("_", "").replace("-", "")

    return next((name for name in HOLDS if plain(name) == plain(source)), None)


def _require_task(source: str, found: Task, task: Task | None) -> None:
    if task in (None, found):
        return
    needed, got, advice = {
        "segmentation": ("masks", "one label an image", "scenes, mri, images with masks"),
        "classification": ("one label an image", "masks", "a folder of images a class"),
    }[task or found]
    raise DataError(
        f"{source}: must hold {needed} for {task}, got {got}; "
        f"name other data ({advice}), or leave --task out"
    )


def _load_path(
    source: str, *, task: Task | None, resize: tuple[int, int] | None, seed: int
) -> ImageData:
    path = Path(source).expanduser()
    if source.strip() and path.is_dir():
        found: Task = "segmentation" if holds_pairs(path) else "classification"
        _require_task(source, found, task)
        names: tuple[str, ...] = ()
        if found == "segmentation":
            arrays = read_pairs(path, resize=resize)
        else:
            arrays, names = read_folder(path, resize=resize)
        return assemble(
            arrays,
            name=path.resolve().name,
            source=f"folder {path}",
            seed=seed,
            task=found,
            class_names=dict(enumerate(names)),
        )
    if path.is_file():
        arrays, style = read_archive(path, task)
        return assemble(
            arrays,
            name=path.stem,
            source=f"{path} ({style.name} keys)",
            seed=seed,
            task=style.task,
            resize=resize,
        )
    hint = nearest(source, list(HOLDS))
    raise DataError(
        f"{source!r}: must be a folder of images, an .npz file or a known name, got none of these; "
        f"check the path, or as a name: {hint}"
    )


def _load_shipped(*, resize: tuple[int, int] | None, seed: int) -> ImageData:
    home = resources.files("evaluators") / "assets" / f"{DEFAULT}.npz"
    with resources.as_file(home) as path:
        arrays, _ = read_archive(path, "classification")
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


def _load_mri(*, resize: tuple[int, int] | None, root: Path | None) -> ImageData:
    return assemble(
        mri.read(root),
        name=mri.NAME,
        source=mri.SOURCE,
        seed=0,
        task="segmentation",
        class_names=dict(enumerate(mri.CLASSES)),
        resize=resize,
    )


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
