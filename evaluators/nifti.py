"""Volumes in NIfTI-1 files (`.nii`, `.nii.gz`): the header fields that an array needs, no more.

The format: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h (byte offsets as there).
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_space.errors import DataError

HEADER_BYTES = 348

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
"""numpy's type of each `datatype` code of whole and real numbers."""


def read_nifti(path: Path) -> NDArray[Any]:
    """Give the voxels of a volume, indexed (x, y, z) as stored, scaled where the file says so.

    Raises:
        DataError: the file is not there, damaged, or no single volume of numbers.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: must be a whole NIfTI file, got: {reason}; copy or install it again"
        ) from error
    orders = [o for o in "<>" if content[:4] == np.array(HEADER_BYTES, f"{o}i4").tobytes()]
    if not orders or content[344:347] != b"n+1":
        raise DataError(
            f"{path}: must be a NIfTI-1 file with its header, got another format; "
            "convert it to .nii.gz"
        )
    (order,) = orders

    def field(kind: str, offset: int, count: int = 1) -> list[float]:
        values: list[float] = np.frombuffer(content, f"{order}{kind}", count, offset).tolist()
        return values

    dimensions, *sides = (int(value) for value in field("i2", 40, 8))
    shape = tuple(sides[:3])
    if not 3 <= dimensions <= 7 or min(shape) < 1 or any(n > 1 for n in sides[3:dimensions]):
        raise DataError(
            f"{path}: must be one volume of three dimensions, got {sides[: max(dimensions, 0)]}; "
            "extract one"
        )
    (code,), (start,), (slope, shift) = field("i2", 70), field("f4", 108), field("f4", 112, 2)
    if code not in TYPES:
        raise DataError(
            f"{path}: voxels must be whole or real numbers, got NIfTI's type {code:g}; convert them"
        )
    dtype = np.dtype(f"{order}{TYPES[int(code)]}")
    if len(content) < start + math.prod(shape) * dtype.itemsize:
        raise DataError(
            f"{path}: must be a whole NIfTI file, got one that ends early; copy or install it again"
        )
    voxels = np.frombuffer(content, dtype, math.prod(shape), int(start)).reshape(shape, order="F")
    # A slope of 0 means that nothing is scaled.
    if slope == 0 or not math.isfinite(slope) or (slope, shift) == (1, 0):
        return voxels.astype(dtype.newbyteorder("="))
    return voxels * slope + shift
