"""What the pictures of a space show, as numbers: one source for the chart and for the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluators.edf import Distribution
from runs.page.charts import BLUE, GREY, ORANGE, SKY, VERMILION
from search_space.features import Feature

Floats = NDArray[np.float64]

ESTIMATORS: tuple[tuple[Literal["permutation", "ped_anova"], str, str, str, str], ...] = (
    ("permutation", "permutation of a random forest", BLUE, "circle", "o"),
    ("ped_anova", "PED-ANOVA", ORANGE, "square", "s"),
)
"""Field of `Importance`, name, colour, and marker in a chart and in a file."""

APART = 0.16
"""Of a row: how far the two estimators stand above and below its middle."""

SIDES = (("inside", BLUE), ("outside", ORANGE))
"""Field of `edf.Comparison` and colour."""
BAND = 0.2
"""Opacity of a band."""
SHOWN = 0.975
"""Share of each side that a picture holds: a few failures must not press all else together."""

GROUPS = (
    ("lower half", GREY, 0.3, 0.8),
    ("upper half", SKY, 0.5, 1.0),
    ("best tenth", VERMILION, 0.9, 1.6),
)
"""Name, colour, opacity and width of lines, by what the network reached, the best on top."""
SHARES = (0.5, 0.9)
"""Where the next group begins, as a share of the networks in the order of their scores."""

MOST_LINES = 600
"""Networks that are drawn; beyond them the lower ones are thinned out evenly."""
MOST_LEVELS = 8
"""Values of an axis beyond which it is a scale of which the ends are named."""
LETTERS = 26
"""Of a line between the sides of a phone."""
SPREAD = 0.72
"""Of the room of a value, what its lines take."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Steps:
    """A distribution function with its band, from the left to the right side of a picture."""

    errors: Floats
    """(E + 2,) in per cent."""
    shares: Floats
    """(E + 2,) each holds from its error to the next, as `low` and `high` do."""
    low: Floats
    high: Floats


def steps(side: Distribution, ends: tuple[float, float]) -> Steps:
    """Give the function of one side over a range of errors, which are shares."""

    def over(shares: Floats) -> Floats:
        return np.concatenate([[0.0], shares, [1.0]])

    shares = over(side.shares)
    return Steps(
        errors=100 * np.concatenate([[ends[0]], side.errors, [ends[1]]]),
        shares=shares,
        low=np.clip(shares - side.band, 0, 1),
        high=np.clip(shares + side.band, 0, 1),
    )


def span(sides: Sequence[Distribution], part: float = 1.0) -> tuple[float, float]:
    """Give a range of errors that holds some part of each side from the best, and a little more."""
    low = min(float(side.errors[0]) for side in sides)
    last = [np.searchsorted(side.shares, min(part, side.shares[-1])) for side in sides]
    high = max(float(side.errors[place]) for side, place in zip(sides, last, strict=True))
    pad = 0.04 * (high - low) or 0.01
    return max(0.0, low - pad), min(1.0, high + pad)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Row:
    """One axis of parallel coordinates."""

    name: str
    places: Floats
    """(N,) of each network from 0 to 1; nan where it has no value."""
    texts: tuple[str, ...]
    """(N,) the values in words."""
    ticks: tuple[tuple[float, str], ...]
    """Places and words of the values that are named."""
    bars: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    """From where to where the lines of each value lie, or those of all."""

    @property
    def crowded(self) -> bool:
        """Whether the words need two lines on a phone, taking turns."""
        return sum(len(word) + 2 for _, word in self.ticks) > LETTERS


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lines:
    """Parallel coordinates: N networks through some rows, worst score first."""

    rows: tuple[Row, ...]
    ids: tuple[str, ...]
    groups: NDArray[np.intp]
    """(N,) index into GROUPS."""
    networks: int
    """How many there are, drawn or not."""

    def of(self, group: int) -> tuple[Floats, NDArray[np.intp]]:
        """Give the (n, rows) places of the networks of a group, and which they are."""
        chosen = np.flatnonzero(self.groups == group)
        return np.array([row.places[chosen] for row in self.rows]).T, chosen


def lines(
    axes: Sequence[Feature], scales: Sequence[tuple[str, Floats, str]], ids: Sequence[str]
) -> Lines:
    """Lay out parallel coordinates.

    Args:
        axes: of the space, in which N networks differ.
        scales: name, (N,) values and format of each cost; the last is the score, more is better.
        ids: of the networks.
    """
    score = scales[-1][1]
    order = np.argsort(score, kind="stable")
    count = len(order)
    groups = np.searchsorted(SHARES, (np.arange(count) + 0.5) / max(count, 1), side="right")
    kept = _thinned(groups)
    order, groups = order[kept], groups[kept]
    rows = [_feature_row(axis, order) for axis in axes]
    rows += [_scale_row(name, values[order], form) for name, values, form in scales]
    return Lines(rows=tuple(rows), ids=tuple(ids[i] for i in order), groups=groups, networks=count)


def _thinned(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Keep all of the best group, and of the others as many as there is room for, evenly."""
    best = np.flatnonzero(groups == len(GROUPS) - 1)[-MOST_LINES // 2 :]
    rest = np.flatnonzero(groups < len(GROUPS) - 1)
    room = min(len(rest), MOST_LINES - len(best))
    even = np.linspace(0, max(len(rest) - 1, 0), room).round().astype(np.intp)
    return np.concatenate([rest[even], best])


def _feature_row(axis: Feature, order: NDArray[np.intp]) -> Row:
    """Lay out an axis; lines of one value lie side by side in the order of their scores."""
    codes, count = np.array(axis.codes)[order], len(axis.levels)
    texts = tuple(str(axis.values[i]) for i in order)
    if count > MOST_LEVELS:
        places = codes / (count - 1)
        numbers = np.array([v if isinstance(v, int | float) else np.nan for v in axis.levels])
        if np.isfinite(numbers).all():
            places = (numbers[codes] - numbers[0]) / (numbers[-1] - numbers[0])
        ticks = ((0.0, str(axis.levels[0])), (1.0, str(axis.levels[-1])))
        return Row(name=axis.name, places=places, texts=texts, ticks=ticks)
    half = SPREAD / 2
    bars = tuple(
        ((code + 0.5 - half) / count, (code + 0.5 + half) / count) for code in range(count)
    )
    places = np.empty(len(codes))
    for code in range(count):
        members = np.flatnonzero(codes == code)
        spread = (np.arange(len(members)) + 0.5) / max(len(members), 1) - 0.5
        places[members] = (code + 0.5 + SPREAD * spread) / count
    named = tuple(((code + 0.5) / count, str(level)) for code, level in enumerate(axis.levels))
    return Row(name=axis.name, places=places, texts=texts, ticks=named, bars=bars)


def _scale_row(name: str, values: Floats, form: str) -> Row:
    low, high = np.nanmin(values), np.nanmax(values)
    places = (
        (values - low) / (high - low) if high > low else np.where(np.isnan(values), values, 0.5)
    )
    texts = tuple("" if np.isnan(value) else format(value, form) for value in values)
    ticks = ((0.0, format(low, form)), (1.0, format(high, form)))
    return Row(name=name, places=places, texts=texts, ticks=ticks[: 2 if high > low else 1])
