"""Ordinary least squares with t intervals, for effects that no matched design separates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Slopes:
    """What one unit of each of P columns adds, the others held."""

    value: Floats
    """(P,); nan where the rows cannot tell this column from the others, or it does not vary."""
    low: Floats
    """(P,) 95 % t interval; nan too where no row is left to tell the noise by."""
    high: Floats
    freedom: int
    """Rows minus what was estimated, the constant included."""


def slopes(columns: ArrayLike, values: ArrayLike) -> Slopes:
    """Regress values on columns and a constant.

    Args:
        columns: (N, P).
        values: (N,).
    """
    y = np.asarray(values, dtype=float)
    x = np.asarray(columns, dtype=float).reshape(len(y), -1)
    # Centred and scaled: log MACs of 15 beside shares of 1 must not decide the rank.
    spread = x.std(axis=0)
    varies = spread > 1e-9 * np.abs(x).max(axis=0, initial=0)
    spread = np.where(varies, spread, 1.0)
    scaled = np.where(varies, (x - x.mean(axis=0)) / spread, 0.0)
    fit, _, rank, sizes = np.linalg.lstsq(scaled, y - y.mean(), rcond=1e-9)
    _, _, axes = np.linalg.svd(scaled, full_matrices=False)
    axes, sizes = axes[:rank], sizes[:rank]
    # A column is told apart where its unit vector lies in the space that the rows span.
    alone = np.isclose((axes**2).sum(axis=0), 1.0)
    freedom = len(y) - int(rank) - 1
    half = np.full(x.shape[1], math.nan)
    if freedom > 0:
        left = float(np.sum((y - y.mean() - scaled @ fit) ** 2)) / freedom
        errors = np.sqrt(left * ((axes / sizes[:, None]) ** 2).sum(axis=0))
        half = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * errors / spread
    value = np.where(alone, fit / spread, math.nan)
    return Slopes(value=value, low=value - half, high=value + half, freedom=freedom)
