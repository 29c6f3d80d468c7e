"""Brain parcellation: coronal slices of an MRI scan of the head, with the lobe of every pixel.

Scan and atlas are templates of MRIcron, which Debian packages as `mricron-data`: `ch2`, the mean of
27 scans of one person, and `aal`, its 116 regions by Automated Anatomical Labeling (Tzourio-Mazoyer
et al., NeuroImage 2002). Neither is shipped here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.assembling import Arrays
from evaluators.nifti import read_nifti
from search_space.errors import DataError

NAME = "mri"
FILES = ("ch2.nii.gz", "aal.nii.gz")
PACKAGE = "mricron-data"

PLACES = (
    Path("/usr/share/mricron/templates"),  # the Debian package
    Path("/usr/local/share/mricron/templates"),
    Path("/opt/mricron/templates"),
)
"""Where the files are looked for after the folder that the user names."""

SIDE = 96
"""Sides of an image in pixels, each of 1 mm."""

REGIONS = {
    "frontal": 1,
    "limbic": 29,  # insula, cingulum, hippocampus, amygdala
    "occipital": 43,
    "parietal": 57,
    "subcortical": 71,  # caudate, putamen, pallidum, thalamus
    "temporal": 79,
    "cerebellum": 91,
}
"""First region of the atlas that belongs to each class; the rest, and 0, is background."""

LAST_REGION = 116
CLASSES = ("background", *REGIONS)

MIDLINE = 2
"""Voxels on each side of the middle plane that are left out: the two halves do not touch."""

SLAB, GAP = 16, 4
"""Slices of the second half that go together to val or to test, and that are dropped between."""

SOURCE = (
    "MRIcron's templates ch2 and aal: coronal slices, 1 mm; left half train, "
    f"mirrored right half val and test in slabs of {SLAB} slices, {GAP} apart"
)

LEAST_SHARE = 0.02
"""Share of an image's pixels that must be brain."""


def read(root: Path | None) -> dict[str, Arrays]:
    """Give slices (N, 96, 96) and masks of both halves of the head, which share no voxel.

    A slice of one half is 88 mm wide, padded with black to 96, and 181 mm high, cut into three
    windows of 96 that overlap. The left half trains. The right half is mirrored, so that it looks
    alike, and slabs of it validate and test in turns; the slices between two slabs are dropped. All
    is one head, so what is measured is the way to a network, not its use on other people.

    Args:
        root: folder that is searched before `PLACES`; None searches these alone.

    Raises:
        DataError: the files are in no place, or are not these volumes.
    """
    home = _home(root)
    head, atlas = (read_nifti(home / name) for name in FILES)
    if head.shape != atlas.shape or head.shape[0] < 2 * MIDLINE + 3:
        raise DataError(
            f"{home}: {' and '.join(FILES)} must be of one head, got volumes of {head.shape} and "
            f"{atlas.shape}; reinstall {PACKAGE}"
        )
    if atlas.min() < 0 or atlas.max() > LAST_REGION or (atlas != np.rint(atlas)).any():
        raise DataError(
            f"{home / FILES[1]}: must hold regions 0 to {LAST_REGION}, got {atlas.min():g} to "
            f"{atlas.max():g}; reinstall {PACKAGE}"
        )
    # Brighter than all but a thousandth is fat and vessels: cut off, so that tissue keeps contrast.
    brightest = max(float(np.percentile(head, 99.9)), 1.0)
    pixels = np.clip(np.rint(head / brightest * 255.0), 0, 255).astype(np.uint8)
    classes = np.searchsorted(list(REGIONS.values()), atlas, side="right").astype(np.uint8)
    half = head.shape[0] // 2 - MIDLINE
    slices = np.arange(head.shape[1])
    turn, place = np.divmod(slices, SLAB + GAP)
    chosen = {
        "train": slices,
        "val": slices[(turn % 2 == 0) & (place < SLAB)],
        "test": slices[(turn % 2 == 1) & (place < SLAB)],
    }
    arrays = {}
    for split, numbers in chosen.items():
        images, masks = (
            _windows((v if split == "train" else v[::-1])[:half, numbers])
            for v in (pixels, classes)
        )
        brain = (masks > 0).mean(axis=(1, 2)) >= LEAST_SHARE
        where = f"{NAME}: {split}"
        arrays[split] = Arrays(
            images=images[brain], labels=masks[brain], images_where=where, labels_where=where
        )
    return arrays


def _home(root: Path | None) -> Path:
    places = [*([root, root / "templates"] if root else []), *PLACES]
    for place in places:
        if all((place / name).is_file() for name in FILES):
            return place
    raise DataError(
        f"{NAME}: must find {' and '.join(FILES)}, got them in none of "
        f"{', '.join(map(str, places))}; run: apt-get install {PACKAGE}, "
        "or name their folder with --data-root"
    )


def _windows(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut (x, y, z) into coronal images (N, 96, 96): top of the head up, middle plane at the right.

    Every window down a slice overlaps its neighbours by about a half.
    """
    slices = volume.transpose(1, 2, 0)[:, ::-1]
    wide, high = max(0, SIDE - slices.shape[2]), max(0, SIDE - slices.shape[1])
    padding = ((0, 0), (high // 2, high - high // 2), (wide // 2, wide - wide // 2))
    slices = np.pad(slices, padding)[:, :, -SIDE:]
    count = 2 * -(-slices.shape[1] // SIDE) - 1
    tops = np.linspace(0, slices.shape[1] - SIDE, count).astype(int)
    windows = np.stack([slices[:, top : top + SIDE] for top in tops], axis=1)
    return windows.reshape(-1, SIDE, SIDE)
