"""The knee of a front: where more accuracy begins to cost much more, and how sure that is.

Which network is the knee depends on noise and on how the axes are scaled, so it is looked for in
many worlds drawn from the intervals, and on a logarithmic and on a linear axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.fronts import nondominated
from runs.front_view import View

Floats = npt.NDArray[np.float64]

WORLDS = 500
"""A share is off by 2.3 points at most."""
CLEAR = 0.5
"""Share of the worlds in which a network must be the knee to be called so."""
LEAST = 3
"""Networks of a front; between two there is no bend."""
NORMAL_95 = 1.96


@dataclass(frozen=True, kw_only=True, slots=True)
class Knee:
    """The network that is the knee most often."""

    network: str
    share: float
    """Of the worlds, 0 to 1."""
    log: bool
    """Whether the axis across is logarithmic."""

    @property
    def clear(self) -> bool:
        """Whether it may be called the knee."""
        return self.share >= CLEAR


def knees(view: View) -> list[Knee]:
    """Look for the knee on a logarithmic and on a linear axis.

    It is the network of the front with the largest distance to the chord between the ends, after
    both axes are scaled to the range of the front.

    Returns:
        Empty where the view has no joined front of estimates over a cost above 0.
    """
    if not (view.joined and view.estimated and view.positive):
        return []
    points = view.points.dropna(subset=["x", "y"])
    rng = np.random.default_rng(0)
    places = [
        points[name].to_numpy() + _sd(points[f"{name}_low"], points[f"{name}_high"]) * draw
        for name, draw in zip("xy", rng.standard_normal((2, WORLDS, len(points))), strict=True)
    ]
    found = []
    for log in (True, False):
        counts = np.zeros(len(points), dtype=int)
        for x, y in zip(*places, strict=True):
            place = knee_of(x, -y if view.up.direction == "min" else y, log=log)
            if place is not None:
                counts[place] += 1
        best = int(counts.argmax())
        found.append(
            Knee(network=str(points["id"].iloc[best]), share=float(counts[best] / WORLDS), log=log)
        )
    return found


def knee_of(cost: Floats, worth: Floats, *, log: bool) -> int | None:
    """Give the place of the knee among networks (N,); None where the front does not bend.

    Args:
        cost: less is better.
        worth: more is better.
        log: whether costs are scaled as their logarithms.
    """
    front = np.flatnonzero(nondominated(np.column_stack([cost, -worth])))
    if len(front) < LEAST or (log and cost[front].min() <= 0):
        return None
    xs, ys = (np.log(cost[front]) if log else cost[front]), worth[front]
    if not (np.ptp(xs) and np.ptp(ys)):
        return None
    # Both ends of the chord have 0.
    above = (ys - ys.min()) / np.ptp(ys) - (xs - xs.min()) / np.ptp(xs)
    return int(front[above.argmax()]) if above.max() > 0 else None


def _sd(low: object, high: object) -> Floats:
    """Give what half a 95 % interval says; 0 where it is not known."""
    width: Floats = np.asarray(high, dtype=float) - np.asarray(low, dtype=float)
    known: Floats = np.where(np.isfinite(width), width, 0.0)
    return known / (2 * NORMAL_95)
