"""What the sections of a report are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluators.importance import Importance, importance
from runs.front_view import KINDS, POSSIBLE, marks_of
from runs.page.scored import Scored, scored
from runs.ranking import Objective
from runs.wording import Facts
from search_space.features import features

MOST_CARDS = 30
"""Networks that have a card; a front of many objectives may hold hundreds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The effective receptive field of a network's last stage, small enough for a page."""

    map: NDArray[np.float64]
    """(h, w), log10(1 + x) of the field scaled to a peak of 1e3, over its maximum: 0 to 1."""
    size: tuple[int, int]
    """Pixels of the images, height and width; the map may be coarser."""
    area50: float
    """Least share of the pixels that holds half of the field."""
    sigma_px: float
    """sqrt(sum p d^2 / 2) in pixels; a lower bound where the map is saturated."""
    saturated: bool
    """Whether the border of the image cuts the field."""
    images: int
    """Images in the average."""
    weights: str
    """Name and checksum of the weights that it was measured with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """A run as plain data: nothing here reads a file or a clock any more."""

    facts: Facts
    """As `gathering.run_facts` gives them; what is missing is left out of the report."""
    frame: pd.DataFrame
    """Finished trials, as `ranking.rank` gives them; `at_s` says when each ended."""
    front: pd.DataFrame
    """Those on the front, as `ranking.front` gives them."""
    objectives: Sequence[Objective]
    """Of the run, the one that ranks first."""
    curves: Mapping[int, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """Learning curves by trial: steps, and the training loss since the point before."""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    """Effective receptive fields by network; of those with a card, where weights were kept."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """Why another network with a card has none, by its id."""
    predicates: Sequence[str] = ()
    """Sub-spaces to compare, as they were typed; none lets the report choose."""

    @property
    def complete(self) -> pd.DataFrame:
        """Full-length trainings that came to their end."""
        return self.frame[self.frame["state"] == "complete"]

    @property
    def competing(self) -> pd.DataFrame:
        """One row a network: those that have a place in the ranking and did not diverge."""
        complete = self.complete
        return complete[complete["rank"].notna()]

    @property
    def score(self) -> str:
        """Column of the score: miou where pixels are named, else accuracy."""
        return "miou" if self.frame["miou"].notna().any() else "accuracy"

    @cached_property
    def carded(self) -> list[str]:
        """Ids of the networks that have a card, in their order; see `carded`."""
        return carded(self.frame, self.front, self.facts)

    @cached_property
    def networks(self) -> Scored:
        """Networks that were trained in full length, once each."""
        return scored(self.frame, self.score, self.facts)

    @cached_property
    def importance(self) -> Importance | str:
        """What the axes of the space matter for the score, or why that is not known."""
        sound = self.networks.sound()
        return importance(features(sound.architectures), sound.scores)

    @property
    def origins(self) -> dict[str, list[str]]:
        """Ids of networks that stand for published ones, with the names of these."""
        start: dict[str, Any] = self.facts.get("warm_start") or {}
        return {told["id"]: list(told["names"]) for told in start.get("networks", ())}


def carded(frame: pd.DataFrame, front: pd.DataFrame, facts: Facts) -> list[str]:
    """Give the ids of the networks that have a card: at most `MOST_CARDS`.

    Those are the recommended one and the other marked ones, the front, and whatever is on it with
    a probability from which a marker is hollow; where they are too many, the least likely go.

    Args:
        frame: as `ranking.rank` gives it.
        front: as `ranking.front` gives it.
        facts: of the run.

    Returns:
        The recommended one, then by the probability to be on the front.
    """
    competing = frame[(frame["state"] == "complete") & frame["rank"].notna()]
    marks = marks_of(facts)
    marked = set().union(*(marks.of(competing, kind)["id"] for kind in KINDS))
    likely = competing["id"].isin(front["id"]) | (competing["p_front"] >= POSSIBLE).fillna(
        value=False
    )
    chosen = competing[likely | competing["id"].isin(marked)]
    told = chosen.assign(
        first=chosen["id"] == marks.recommended,
        marked=chosen["id"].isin(marked),
        on_front=chosen["id"].isin(front["id"]),
    )
    along = ["p_front", "on_front", "rank"]
    kept = told.sort_values(["marked", *along], ascending=[False, False, False, True])
    order = kept.head(MOST_CARDS).sort_values(["first", *along], ascending=[False] * 3 + [True])
    return [str(network) for network in order["id"]]
