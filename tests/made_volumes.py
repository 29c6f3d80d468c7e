"""Volumes in NIfTI-1 files, written byte by byte."""

from __future__ import annotations

import struct
from typing import Any

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "u2": 512}


def nifti(
    voxels: Any,
    *,
    order: str = "<",
    slope: float = 0.0,
    shift: float = 0.0,
    code: int | None = None,
) -> bytes:
    """Give a NIfTI-1 file of an array as its format's documentation lays it out."""
    header = bytearray(352)
    header[0:4] = struct.pack(f"{order}i", 348)
    sides = [voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim)]
    header[40:56] = struct.pack(f"{order}8h", *sides)
    header[70:72] = struct.pack(f"{order}h", code or CODES[voxels.dtype.str[1:]])
    header[108:120] = struct.pack(f"{order}3f", 352, slope, shift)
    header[344:348] = b"n+1\0"
    return bytes(header) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")
