"""The brain parcellation: two halves of a head that share no voxel, of a small head made here."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators import mri
from evaluators.data import load_data
from evaluators.images import ImageData, describe
from search_space.errors import DataError
from tests.made_volumes import nifti

SHAPE = (21, 60, 110)
HERE = any(all((place / name).is_file() for name in mri.FILES) for place in mri.PLACES)


def small_head(seed: int = 0) -> tuple[Any, Any]:
    """Make a scan of noise, and an atlas in which each voxel says where it is."""
    scan = np.random.default_rng(seed).integers(0, 255, SHAPE, dtype=np.uint8)
    atlas = np.resize(np.arange(1, 117, dtype=np.uint8), SHAPE)
    return scan, atlas


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name, voxels in zip(mri.FILES, small_head(), strict=True):
        (tmp_path / name).write_bytes(gzip.compress(nifti(voxels), 1))
    return tmp_path


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_data("mri", root=root)
    return str(caught.value)


def test_slices_of_the_two_halves_become_splits(home: Path) -> None:
    data = load_data("mri", root=home)
    facts = describe(data)
    assert facts["classes"][1:4] == ["frontal", "limbic", "occipital"]
    assert facts["size"] == [96, 96]
    # 60 slices in three windows each; slabs of 16, 4 apart: val, test, val.
    assert [facts[split] for split in ("train", "val", "test")] == [180, 96, 48]


def test_a_slice_stands_upright_with_the_middle_plane_at_the_right(home: Path) -> None:
    arrays, (scan, _) = mri.read(home), small_head()
    brightest = np.percentile(scan, 99.9)
    wanted = np.clip(np.rint(scan / brightest * 255), 0, 255)
    margin = (96 - 8) // 2
    # Slices 0 to 2; the top window begins at the head's top, the bottom one ends at its end.
    images = arrays["train"].images.reshape(60, 3, 96, 96)[:, :, :, margin : margin + 8]
    np.testing.assert_array_equal(images[2, 0], wanted[:8, 2, ::-1][:, :96].T)
    np.testing.assert_array_equal(images[2, 2], wanted[:8, 2, ::-1][:, -96:].T)
    mirrored = arrays["val"].images.reshape(32, 3, 96, 96)[:, :, :, margin : margin + 8]
    np.testing.assert_array_equal(mirrored[5, 0], wanted[:12:-1, 5, ::-1][:, :96].T)
    assert not arrays["train"].images[..., :margin].any()


def test_regions_become_lobes(home: Path) -> None:
    arrays, (_, atlas) = mri.read(home), small_head()
    masks = arrays["train"].labels.reshape(60, 3, 96, 96)[7, 0]
    regions = atlas[:8, 7, ::-1][:, :96].T
    margin = (96 - 8) // 2
    for region, lobe in {1: 1, 28: 1, 29: 2, 42: 2, 43: 3, 70: 4, 71: 5, 90: 6, 116: 7}.items():
        assert (masks[:, margin : margin + 8][regions == region] == lobe).all()
    assert not masks[:, :margin].any()


def test_slices_without_brain_are_left_out(home: Path) -> None:
    _, atlas = small_head()
    atlas[:, 30:] = 0
    (home / mri.FILES[1]).write_bytes(gzip.compress(nifti(atlas), 1))
    assert len(mri.read(home)["train"].images) == 90


def test_files_in_templates_below_the_folder_are_found(home: Path) -> None:
    (home / "templates").mkdir()
    for name in mri.FILES:
        (home / name).rename(home / "templates" / name)
    assert load_data("mri", root=home).name == "mri"


def test_missing_files_are_named_with_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mri, "PLACES", (tmp_path / "nowhere",))
    text = refusal(tmp_path)
    assert text.startswith("mri: must find ch2.nii.gz and aal.nii.gz, got them in none of ")
    assert "run: apt-get install mricron-data, or name their folder with --data-root" in text
    assert str(tmp_path / "nowhere") in text


@pytest.mark.parametrize(
    ("name", "voxels", "said"),
    [
        ("aal.nii.gz", np.zeros((5, 6, 7), "u1"), "must be of one head, got volumes of (21, 60"),
        ("aal.nii.gz", np.full(SHAPE, 117, "u1"), "must hold regions 0 to 116, got 117 to 117"),
        ("aal.nii.gz", np.full(SHAPE, 0.5, "f4"), "must hold regions 0 to 116, got 0.5 to 0.5"),
    ],
)
def test_other_volumes_are_refused(home: Path, name: str, voxels: Any, said: str) -> None:
    (home / name).write_bytes(gzip.compress(nifti(voxels), 1))
    text = refusal(home)
    assert said in text
    assert text.endswith("reinstall mricron-data")


@pytest.fixture(scope="module")
def real() -> ImageData:
    if not HERE:
        pytest.skip("mricron-data is not installed")
    return load_data("mri")


def test_the_real_head_has_every_lobe_in_every_split(real: ImageData) -> None:
    assert [len(real.train), len(real.val), len(real.test)] == [521, 192, 223]
    for split in (real.train, real.val, real.test):
        shares = np.bincount(split.labels.reshape(-1), minlength=8) / split.labels.size
        assert shares[0] < 0.75
        assert shares[1:].min() > 0.01


@pytest.mark.skipif(not HERE, reason="mricron-data is not installed")
def test_the_lobes_are_those_that_the_atlas_names() -> None:
    place = next(p for p in mri.PLACES if (p / mri.FILES[1]).is_file())
    rows = [line.split() for line in (place / "aal.nii.txt").read_text().splitlines() if line]
    # The first digit of a region's code is its lobe; 3 and 4 are insula and the limbic regions.
    lobe_of = {"2": 1, "3": 2, "4": 2, "5": 3, "6": 4, "7": 5, "8": 6, "9": 7}
    starts = list(mri.REGIONS.values())
    for number, _, code in rows:
        assert np.searchsorted(starts, int(number), side="right") == lobe_of[code[0]]
    assert len(rows) == mri.LAST_REGION
