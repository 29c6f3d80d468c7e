"""The forward convolution of the compiled backend, written in numba, for the comparison."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

LANES = 32
"""Images of a tile."""
Floats = npt.NDArray[np.float32]


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def convolve(x: Floats, y: Floats, weights: Floats, dilation: int) -> None:
    """Convolve maps [C][tiles][H][W][LANES] with kernels [C][Kh][Kw]; taps outside are left out.

    Four taps of a row at a time, so that a sum is loaded and stored once for four products.
    """
    channels, tiles, rows, columns, lanes = x.shape
    up, left = weights.shape[1] // 2, weights.shape[2] // 2
    for c in range(channels):
        for tile in range(tiles):
            for h in range(rows):
                out = y[c, tile, h].reshape(columns * lanes)
                out[:] = 0
                for i in range(weights.shape[1]):
                    source = h + (i - up) * dilation
                    if source < 0 or source >= rows:
                        continue
                    row = x[c, tile, source].reshape(columns * lanes)
                    j = 0
                    while j < weights.shape[2]:
                        shift = (j - left) * dilation
                        first, end = max(0, -shift), min(columns, columns - shift)
                        if j + 4 <= weights.shape[2]:
                            # Columns of the map on which all four taps lie.
                            begin, stop = first, min(columns, columns - shift - 3 * dilation)
                            if begin < stop:
                                w0, w1 = weights[c, i, j], weights[c, i, j + 1]
                                w2, w3 = weights[c, i, j + 2], weights[c, i, j + 3]
                                size, step = (stop - begin) * lanes, dilation * lanes
                                a = (begin + shift) * lanes
                                own = out[begin * lanes : stop * lanes]
                                x0, x1 = row[a : a + size], row[a + step : a + step + size]
                                x2 = row[a + 2 * step : a + 2 * step + size]
                                x3 = row[a + 3 * step : a + 3 * step + size]
                                for n in range(size):
                                    own[n] += w0 * x0[n] + w1 * x1[n] + w2 * x2[n] + w3 * x3[n]
                            else:
                                begin = stop = 0
                            for more in range(4):
                                lean = shift + more * dilation
                                _edges(
                                    row,
                                    out,
                                    weights[c, i, j + more],
                                    lean,
                                    (max(0, -lean), min(columns, columns - lean)),
                                    (begin, stop),
                                    lanes,
                                )
                            j += 4
                        else:
                            _edges(row, out, weights[c, i, j], shift, (first, end), (0, 0), lanes)
                            j += 1


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _edges(
    row: Floats,
    out: Floats,
    weight: float,
    shift: int,
    all_of: tuple[int, int],
    done: tuple[int, int],
    lanes: int,
) -> None:
    """Add one tap on the columns `all_of` but those that are `done`."""
    first, end = all_of
    before = min(end, done[0]) if done[1] > done[0] else end
    _add(row, out, weight, shift * lanes, first * lanes, before * lanes)
    if done[1] > done[0]:
        _add(row, out, weight, shift * lanes, max(first, done[1]) * lanes, end * lanes)


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _add(row: Floats, out: Floats, weight: float, shift: int, begin: int, end: int) -> None:
    # Slices from 0 on: of an index that may be negative the compiler makes no vectors.
    own, source = out[begin:end], row[begin + shift : end + shift]
    for n in range(own.size):
        own[n] += weight * source[n]
