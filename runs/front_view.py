"""What stands where in a picture of the front: the same points for page, file and test.

Where trainings were repeated, a front is one of estimates, and each network has a probability to
be on it: the score of one seed alone would put lucky networks there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluators.estimates import front_probability
from evaluators.fronts import nondominated
from runs.ranking import OBJECTIVES, Objective, front
from runs.wording import SCORES, Facts

Floats = npt.NDArray[np.float64]

LIKELY, POSSIBLE = 0.5, 0.1
"""Probabilities of membership from which a marker is filled, and from which it is hollow."""
COSTS = ("latency", "macs", "params")
"""What may lie across, whatever the search looked for."""
NAMES = {
    "likely": "on the front: 50 % or more",
    "possible": "10 to 50 %",
    "faint": "below 10 %",
}
SURE = {"likely": "on the front", "possible": "perhaps on the front", "faint": "trial"}
"""What markers mean, with probabilities and where nobody knows them."""
UNTRAINED = "reference network, not trained"
LOG_FROM = 5.0
"""Ratio of the largest to the smallest cost from which an axis is logarithmic."""
SCORED_BY = ("miou", "accuracy", "val_loss")
"""What else may go up, where the search looked for a score."""
DRAWS = 1000
"""Worlds behind a probability that the run did not ask for: it is off by 1.6 points at most."""
NORMAL_95 = 1.96
SHADES = ("#0072b2", "#8a929b", "#d55e00")
"""Small to large kernels: blue, grey, vermilion (after Okabe and Ito), which colour-blind readers
tell apart on a light and on a dark ground."""

_ENDS = {"latency_ms": ("latency_low_ms", "latency_high_ms")}
_ESTIMATE = ("estimate_low", "estimate_high")
"""Columns of the ends of a 95 % interval."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """One pair of axes, and every network that has a place on them."""

    up: Objective
    across: Objective | None
    """None: the number of the trial."""
    points: pd.DataFrame
    """A row a network, best first: trial, id, x, y, x_low, x_high, y_low, y_high (NaN where not
    known), `number` of the front's table (NA beside it), `on_front` of these axes, `chance` to be
    on it (NaN: not known), `kernels`, `kernel` (the largest, 0: unknown), and `worth`: likely,
    possible or faint."""
    searched: bool
    """Whether the front is the one that the run searched for; else that of these two axes."""
    joined: bool
    """Whether a line in steps says what the front reaches: two objectives, both drawn."""
    estimated: bool
    """Whether y is an estimate from repeated trainings."""

    @property
    def chances(self) -> bool:
        """Whether membership has probabilities."""
        return bool(self.points["chance"].notna().any())

    @property
    def empty(self) -> bool:
        """Whether no network has a place."""
        return not bool(self.points[["x", "y"]].notna().all(axis=1).any())

    @property
    def names(self) -> dict[str, str]:
        """What the markers mean, by worth."""
        return NAMES if self.chances else SURE

    @property
    def colours(self) -> dict[int, str]:
        """The colour of each largest kernel that networks have, small to large."""
        known = sorted({int(kernel) for kernel in self.points["kernel"]})
        places = np.linspace(0, len(SHADES) - 1, max(len(known), 2))
        shades = np.array([[int(shade[i : i + 2], 16) for i in (1, 3, 5)] for shade in SHADES])
        mixed = [
            [round(float(np.interp(place, range(len(SHADES)), shades[:, i]))) for i in range(3)]
            for place in places
        ]
        return {
            kernel: f"#{red:02x}{green:02x}{blue:02x}"
            for kernel, (red, green, blue) in zip(known, mixed, strict=False)
        }

    @property
    def positive(self) -> bool:
        """Whether the axis across can be logarithmic: a cost above 0."""
        known = self.points["x"].dropna()
        return self.across is not None and len(known) > 0 and bool((known > 0).all())

    @property
    def logarithmic(self) -> bool:
        """Whether it should be: costs lie far apart."""
        return self.positive and self.points["x"].max() > LOG_FROM * self.points["x"].min()

    @property
    def best(self) -> pd.DataFrame:
        """The front of these axes, along it."""
        along = self.points["x"] if self.across is None else self.across.loss(self.points["x"])
        order = pd.DataFrame({"x": along, "y": self.up.loss(self.points["y"])})
        order = order[self.points["on_front"]].sort_values(["x", "y"])
        return self.points.loc[order.index]

    def steps(self) -> Floats:
        """Give the corners (n, 2) of the line in steps; none where the front is not joined."""
        if not self.joined:
            return np.empty((0, 2))
        corners: list[tuple[float, float]] = []
        for x, y in self.best[["x", "y"]].itertuples(index=False):
            if corners:
                # Between two networks nothing is reached but what the cheaper one reaches.
                corners.append((x, corners[-1][1]))
            corners.append((x, y))
        return np.array(corners, dtype=float).reshape(-1, 2)

    def limits(self) -> tuple[float, float] | None:
        """Give the range of y that shows what matters: a few bad trials must not press the rest.

        Everything of the front, its intervals and 19 of 20 trials lie inside.
        """
        sign = 1 if self.up.direction == "max" else -1
        drawn = sign * self.points[["y", "y_low", "y_high"]].to_numpy(dtype=float)
        if not np.isfinite(drawn[:, 0]).any():
            return None
        # The best of the ranking, and what is marked, with their intervals.
        held = drawn[((self.points["worth"] != "faint") | (self.points.index == 0)).to_numpy()]
        low = min(np.nanquantile(drawn[:, 0], 0.05), np.nanmin(held))
        high = max(np.nanmax(drawn[:, 0]), np.nanmax(held))
        # At least a hundredth, so that one trial alone gets no axis of rounding errors.
        pad = max(0.06 * (high - low), 0.005 * max(abs(high), 1e-9))
        ends = sorted((sign * float(low - pad), sign * float(high + pad)))
        return ends[0], ends[1]

    def outside(self) -> int:
        """Count the networks that lie beyond `limits`."""
        ends = self.limits()
        if ends is None:
            return 0
        return int(((self.points["y"] < ends[0]) | (self.points["y"] > ends[1])).sum())


KINDS = ("recommended", "published", "corners", "reference")
"""Of marks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """Networks that a reader looks for, by their ids."""

    recommended: str = ""
    published: frozenset[str] = frozenset()
    """Stand for published networks; the search began with them."""
    corners: frozenset[str] = frozenset()
    """Smallest, middle and largest of the space, with which it began too."""
    reference: Mapping[str, Any] | None = None
    """The network beside which every latency is measured: id, latency_ms, macs, params; it need
    not have been trained."""

    def of(self, points: pd.DataFrame, kind: str) -> pd.DataFrame:
        """Give the rows with such an `id` that have a mark, one of `KINDS`."""
        wanted: dict[str, frozenset[str]] = {
            "recommended": frozenset({self.recommended}),
            "published": self.published,
            "corners": self.corners,
            "reference": frozenset({str((self.reference or {}).get("id"))}),
        }
        return points[points["id"].isin(wanted[kind])]

    def cost_of_reference(self, view: View) -> float | None:
        """Say where across the reference lies; None where it was trained, or nobody knows."""
        if self.reference is None or view.across is None or len(self.of(view.points, "reference")):
            return None
        cost = self.reference.get(view.across.column)
        return None if cost is None else float(cost)


def marks_of(facts: Facts) -> Marks:
    """Read the marks from what is known of a run."""
    anchors: Sequence[Mapping[str, Any]] = facts.get("anchors") or ()
    return Marks(
        recommended=str(facts.get("recommended") or ""),
        published=frozenset(told["id"] for told in anchors if told["published"]),
        corners=frozenset(told["id"] for told in anchors if not told["published"]),
        reference=facts.get("reference_network"),
    )


def views(frame: pd.DataFrame, objectives: Sequence[Objective]) -> list[View]:
    """Give the pairs of axes of a run, the ones that it searched for first.

    Up goes the first objective. An objective across shows the front of the run, whatever further
    objectives there are; another cost, and another score up, show the front of the two axes alone.

    Args:
        frame: as `ranking.rank` gives it.
        objectives: that it was ranked by.
    """
    up = objectives[0]
    competing = frame[(frame["state"] == "complete") & frame["rank"].notna()]
    acrosses: list[Objective | None] = [*(objectives[1:] or (None,))]
    for name in COSTS:
        cost = OBJECTIVES[name]
        if cost not in (up, *acrosses) and competing[cost.column].notna().any():
            acrosses.append(cost)
    best = front(frame, objectives)["trial"].tolist()
    numbers = {trial: place for place, trial in enumerate(best, start=1)}
    found = [_view(competing, numbers, objectives, across) for across in acrosses]
    costs = [across for across in acrosses if across is not None and across.name in COSTS]
    for name in SCORED_BY if up.column in SCORES else ():
        score = OBJECTIVES[name]
        if score not in objectives and costs and competing[score.column].notna().any():
            found.append(_view(competing, numbers, (score,), costs[0]))
    return found


def _view(
    competing: pd.DataFrame,
    numbers: dict[int, int],
    objectives: Sequence[Objective],
    across: Objective | None,
) -> View:
    up = objectives[0]
    searched = across is None or across in objectives
    estimated = up.column in SCORES and bool(competing["estimate"].notna().any())
    column = "trial" if across is None else across.column
    points = competing[["trial", "id", "kernels"]].copy()
    points["x"], points["y"] = _floats(competing[column]), _floats(competing[up.column])
    if estimated:
        points["y"] = _floats(competing["estimate"]).fillna(points["y"])
    ends = {"x": _ENDS.get(column), "y": _ESTIMATE if estimated else _ENDS.get(up.column)}
    for axis, known in ends.items():
        for place, end in enumerate(("low", "high")):
            points[f"{axis}_{end}"] = _floats(competing[known[place]]) if known else np.nan
    points["number"] = points["trial"].map(numbers).astype("Int64")
    if searched:
        points["on_front"] = points["number"].notna()
        points["chance"] = _floats(competing["p_front"])
    else:
        assert across is not None
        losses = pd.DataFrame({"y": up.loss(points["y"]), "x": across.loss(points["x"])}).dropna()
        found = losses.index[nondominated(losses.to_numpy())]
        points["on_front"] = points.index.isin(found)
        points["chance"] = _chances(points, across) if estimated else np.nan
    points["kernel"] = largest_kernels(competing)
    points["worth"] = _worth(points)
    return View(
        up=up,
        across=across,
        points=points.reset_index(drop=True),
        searched=searched,
        joined=across is not None and (not searched or len(objectives) == 2),
        estimated=estimated,
    )


def _chances(points: pd.DataFrame, across: Objective) -> Floats:
    """Draw worlds from the estimates and the intervals, each network for itself."""
    rng = np.random.default_rng(0)
    spread = ((points["y_high"] - points["y_low"]) / (2 * NORMAL_95)).fillna(0.0).to_numpy()
    cost_sd = ((points["x_high"] - points["x_low"]) / (2 * NORMAL_95)).fillna(0.0).to_numpy()
    worlds = points["y"].to_numpy() + spread * rng.standard_normal((DRAWS, len(points)))
    return front_probability(worlds, across.loss(points["x"]).to_numpy(), cost_sd, rng)


def _worth(points: pd.DataFrame) -> list[str]:
    """Say how each network is drawn: by its chance, where that is known."""
    return [
        ("likely" if on_front else "faint")
        if np.isnan(chance)
        else "likely"
        if chance >= LIKELY
        else "possible"
        if chance >= POSSIBLE
        else "faint"
        for on_front, chance in zip(points["on_front"], points["chance"], strict=True)
    ]


def largest_kernels(frame: pd.DataFrame) -> list[int]:
    """Give the largest kernel of each network in pixels, read from `kernels`; 0 if unknown."""
    texts = frame["kernels"].fillna("")
    return [
        max((int(side) for side in re.findall(r"\d+", re.sub(r"x\d+", "", text))), default=0)
        for text in texts
    ]


def _floats(values: pd.Series[Any]) -> pd.Series[float]:
    """Give finite floats, NaN for everything else."""
    found = pd.to_numeric(values, errors="coerce").astype("float64").to_numpy(na_value=np.nan)
    return pd.Series(np.where(np.isfinite(found), found, np.nan), index=values.index)
