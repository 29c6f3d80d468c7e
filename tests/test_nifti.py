"""NIfTI volumes, written here byte by byte."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.nifti import read_nifti
from search_space.errors import DataError
from tests.made_volumes import CODES, nifti


def volume(dtype: str = "i2") -> Any:
    return np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", CODES)
def test_every_type_is_read_in_both_byte_orders(tmp_path: Path, dtype: str, order: str) -> None:
    (tmp_path / "a.nii").write_bytes(nifti(volume(dtype), order=order))
    read = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(read, volume(dtype))
    assert read.dtype == np.dtype(dtype)


def test_a_packed_file_is_unpacked_and_scaled_where_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti(volume(), slope=0.5, shift=3)))
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii.gz"), volume() * 0.5 + 3)


def test_further_dimensions_of_one_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nifti(volume()[..., None]))
    assert read_nifti(tmp_path / "a.nii").shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must be a NIfTI-1 file with its header"),
        (b"hello" * 100, "must be a NIfTI-1 file with its header"),
        (nifti(volume())[:-1], "must be a whole NIfTI file, got one that ends early"),
        (nifti(volume())[:200], "must be a NIfTI-1 file with its header"),
        (gzip.compress(nifti(volume()))[:50], "must be a whole NIfTI file, got: "),
        (nifti(volume(), code=128), "voxels must be whole or real numbers, got NIfTI's type 128"),
        (nifti(np.zeros((2, 3, 4, 5), "u1")), r"must be one volume .*, got \[2, 3, 4, 5\]"),
        (nifti(np.zeros((2, 3), "u1")), r"must be one volume of three dimensions, got \[2, 3\]"),
    ],
)
def test_a_file_that_is_no_volume_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DataError, match=f"a.nii: {said}"):
        read_nifti(tmp_path / "a.nii")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.nii: must be a whole NIfTI file, got: No such file"):
        read_nifti(tmp_path / "a.nii")
