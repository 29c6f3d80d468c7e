"""What a sampler is shown of a run: all of a short one, a bounded part of a long one.

What TPE does for a proposal grows with what it is shown (20 ms at 200 trials, 76 ms at 1000). Of
many trials it is shown the best, which it imitates, the latest, which it weighs most, and an even
sample of all the others, which it keeps away from.
"""

from __future__ import annotations

import bisect
import copy
import zlib
from collections import deque
from collections.abc import Container

import numpy as np
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from runs.rungs import front_order

SHOWN = 300
"""Trials that a sampler is shown at most."""
BEST, LATEST = 100, 50
"""Those of them that are there for their objectives, and for having finished last."""


class Past:
    """Remembers of all finished trials those that a sampler is shown; it depends on no more.

    It is a function of the trials in the order they finished, so that a resumed run shows what the
    killed one would have.
    """

    def __init__(self, signs: tuple[int, ...], *, seed: int) -> None:
        """Prepare; `signs` is -1 for an objective of which more is better, else 1."""
        self.signs = np.array(signs, dtype=float)
        self.seed = seed
        self.count = 0
        """Trials that were added."""
        self._latest: deque[FrozenTrial] = deque(maxlen=LATEST)
        self._best: list[FrozenTrial] = []
        self._sample: list[tuple[int, int, FrozenTrial]] = []
        """Those with the smallest random numbers, which new trials seldom change."""

    def add(self, trial: FrozenTrial) -> None:
        """Take in the next finished trial; its number must grow from one to the next."""
        self.count += 1
        self._latest.append(trial)
        self._best.append(trial)
        if len(self._best) > 2 * BEST:
            self._best = self._leading()
        place = zlib.crc32(f"{self.seed}:{trial.number}".encode())
        bisect.insort(self._sample, (place, trial.number, trial))
        del self._sample[SHOWN:]

    def shown(self) -> list[FrozenTrial]:
        """Give the trials that a sampler is shown, in the order they finished."""
        found = {trial.number: trial for trial in (*self._leading(), *self._latest)}
        for _, number, trial in self._sample:
            if len(found) >= SHOWN:
                break
            found[number] = trial
        return [found[number] for number in sorted(found)]

    def _leading(self) -> list[FrozenTrial]:
        """Give the best by front, then by crowding distance, in the order they finished."""
        if len(self._best) <= BEST:
            return self._best
        losses = self.signs * np.array([trial.values for trial in self._best], dtype=float)
        return [self._best[place] for place in sorted(front_order(losses)[:BEST])]


class Shown(InMemoryStorage):
    """Storage of a study of one proposal, whose past is given."""

    def __init__(self, past: list[FrozenTrial]) -> None:
        super().__init__()
        self.past = past

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001, FBT002
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Give the past, then the trials that were asked for here (the signature is Optuna's)."""
        past = [trial for trial in self.past if states is None or trial.state in states]
        own = super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [*(copy.deepcopy(past) if deepcopy else past), *own]
