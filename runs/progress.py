"""How the hypervolume of a run grew, trial by trial, by what is known of the trials at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluators.fronts import growth
from runs.ranking import Objective, corner, counted, losses_of

Floats = npt.NDArray[np.float64]

ROLES = {
    "anchor": "warm start",
    "evidence": "guideline study",
    "search": "search",
    "confirm": "confirmation",
}
"""What the trials of a role are for."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Progress:
    """A run in the order in which its trials finished, N of them, whatever became of them."""

    trials: list[int]
    """Their numbers."""
    ids: list[str]
    """Their networks."""
    hours: Floats | None
    """(N,) hours since the run began, over all its sessions; None where not all are known."""
    values: Floats
    """(N,) the hypervolume when each had finished, as a share of the box, 0 to 1."""
    begins: list[tuple[str, int]]
    """Parts of the run, and the place from 0 of the first trial of each."""

    @property
    def gained(self) -> list[int]:
        """Places from 0 of the trials that made it grow."""
        return [int(place) for place in np.flatnonzero(np.diff(self.values, prepend=0.0) > 0)]

    def reached(self, share: float) -> int | None:
        """Give the place from 0 of the trial by which such a share of the end was reached."""
        if not len(self.values) or self.values[-1] <= 0:
            return None
        return int(np.argmax(self.values >= share * self.values[-1]))


def progress(
    frame: pd.DataFrame, objectives: Sequence[Objective], reference: Mapping[str, Any]
) -> Progress | None:
    """Follow the hypervolume of a run.

    A network counts from its first complete training of full length on, with the score of that
    training and the last latency that was measured, as in `ranking.hypervolume`, whose value the
    last one is.

    Args:
        frame: as `ranking.rank` gives it; `at_s` orders it where every trial has one, else their
            numbers do.
        objectives: of the run.
        reference: the point that it is counted from, by the names of objectives.

    Returns:
        None where no trial has finished, or the point is not known.
    """
    if frame.empty or any(reference.get(objective.name) is None for objective in objectives):
        return None
    seconds = pd.to_numeric(frame["at_s"], errors="coerce") if "at_s" in frame else None
    known = seconds is not None and bool(seconds.notna().all())
    order = frame.assign(at_s=seconds if known else 0.0).sort_values(["at_s", "trial"])
    losses = losses_of(order, objectives)
    adding = order.index.isin(counted(frame).index) & np.isfinite(losses).all(axis=1)
    # Trials that brought nothing, and repeats, leave it where it was.
    found = np.append(0.0, growth(losses[adding], corner(reference, objectives)))
    return Progress(
        trials=[int(number) for number in order["trial"]],
        ids=[str(network) for network in order["id"]],
        hours=order["at_s"].to_numpy(dtype=float) / 3600 if known else None,
        values=found[np.cumsum(adding)],
        begins=[
            (word, int(np.argmax(order["role"] == role)))
            for role, word in ROLES.items()
            if (order["role"] == role).any()
        ],
    )


def progress_data(found: Progress | None) -> dict[str, Any] | None:
    """Give it as plain data, a list an item with one entry a trial."""
    if found is None:
        return None
    return {
        "trial": found.trials,
        "hypervolume": found.values.tolist(),
        "at_s": None if found.hours is None else (3600 * found.hours).round(2).tolist(),
        "begins": dict(found.begins),
    }
