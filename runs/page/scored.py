"""The networks of a run, once each, with what they reached and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from runs.blocks import chance_of
from runs.wording import Facts
from search_space.architecture import Architecture

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """N networks that were trained in full length."""

    ids: Sequence[str]
    architectures: Sequence[Architecture]
    scores: Floats
    """(N,) share, the mean over the full-length trainings of a network."""
    macs: Floats
    """(N,) of the merged network; nan where it is not known."""
    latency_ms: Floats
    """(N,) nan where it was not measured."""
    diverged: NDArray[np.bool_]
    """(N,) which of them diverged; they have the score of chance."""

    def sound(self) -> Scored:
        """Give those that did not diverge: one far-off score would stand for all differences."""
        kept = np.flatnonzero(~self.diverged).tolist()
        return Scored(
            ids=[self.ids[i] for i in kept],
            architectures=[self.architectures[i] for i in kept],
            scores=self.scores[kept],
            macs=self.macs[kept],
            latency_ms=self.latency_ms[kept],
            diverged=self.diverged[kept],
        )


def scored(frame: pd.DataFrame, score: str, facts: Facts) -> Scored:
    """Give the networks that have a place in the ranking, in its order.

    A network that diverged counts, at chance level, where the run says what that is.

    Args:
        frame: as `ranking.rank` gives it.
        score: its column of the score, accuracy or miou.
        facts: of the run.
    """
    # Records from before there were rungs do not say a length.
    whole = frame[(frame["state"] == "complete") & (frame["length"].fillna(1) == 1)]
    means = pd.to_numeric(whole[score], errors="coerce").groupby(whole["id"]).mean()
    chosen = frame[frame["rank"].notna() & frame["architecture"].notna()]
    lost = chosen["state"] == "diverged"
    values = chosen["id"].map(means).astype(float).mask(lost, _chance(score, facts))
    there = values.notna()
    chosen, lost = chosen[there], lost[there]
    return Scored(
        ids=chosen["id"].tolist(),
        architectures=[Architecture.from_json(text) for text in chosen["architecture"]],
        scores=np.asarray(values[there], dtype=np.float64),
        macs=_numbers(chosen["macs"]),
        latency_ms=_numbers(chosen["latency_ms"]),
        diverged=np.asarray(lost, dtype=bool),
    )


def _numbers(column: pd.Series[Any]) -> Floats:
    return np.asarray(pd.to_numeric(column, errors="coerce").astype(float), dtype=np.float64)


def _chance(score: str, facts: Facts) -> float:
    """Give the score of a network that has learnt nothing; NaN where the run does not say."""
    data = facts.get("data") or {}
    classes = len(data.get("classes") or ())
    if not classes:
        return np.nan
    share = float(data.get("majority_share", np.nan))
    return chance_of(classes, share, dense=score == "miou")[score]
