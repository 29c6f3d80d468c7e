"""A run's decoded copy of images with masks, and what a run keeps of where they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluators.data import load_data
from runs.images import DataSource, decoded, lasting


def test_a_copy_keeps_the_masks_and_maps_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = {}
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = rng.integers(0, 256, (6, 8, 8), dtype=np.uint8)
        made[f"{split}_masks"] = rng.choice([0, 1, 2, 255], (6, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", **made)
    data = load_data(str(tmp_path / "set.npz"), task="segmentation")
    source = DataSource(
        source=str(tmp_path / "set.npz"),
        root=None,
        resize=None,
        size=(8, 8),
        channels=3,
        sha256=data.sha256,
        task="segmentation",
    )
    assert source.load().task == "segmentation"
    assert DataSource.from_fields(source.fields()) == source
    with decoded(source, data, tmp_path) as copied:
        read = copied.load()
        assert read.task == "segmentation"
        assert read.channels == 3
        for name in ("train", "val", "test"):
            theirs, ours = getattr(read, name).labels, getattr(data, name).labels
            assert isinstance(theirs, np.memmap)
            assert theirs.dtype == np.uint8
            np.testing.assert_array_equal(theirs, ours)


def test_a_run_that_kept_no_task_reads_as_before() -> None:
    fields = {"source": None, "root": None, "resize": None, "size": [28, 28], "channels": 1}
    assert DataSource.from_fields({**fields, "sha256": "x"}).task is None


def test_names_stay_names_from_any_folder() -> None:
    for name in ("scenes", "MRI", "cifar-10", "Fashion_MNIST"):
        assert lasting(name) == name
