"""Networks for a search: those of the warm start first, then Optuna's, never a network twice.

Every proposal is drawn by a fresh sampler, seeded from the run's seed and the trial's number, in a
fresh study in memory that holds what the sampler is shown of the finished trials. A resumed run
therefore proposes what the killed one would have.
"""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from runs.anchors import Chooser, Follower, Measure, anchors, broken, random_draw
from runs.history import SPENDING, History, Trial
from runs.past import Past, Shown
from runs.ranking import Objective
from runs.samplers import SAMPLERS, START_UP
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.space import DesignSpace

SAMPLER_TRIES = 16
"""Refused proposals of the sampler in a row before the space is drawn from at random."""
STEPS = 20
"""Steps of a walk from a duplicate to a new network."""
RANDOM_TRIES = 2_000
"""Refused random draws in a row before what is left of a small space is listed."""
LISTED = 20_000
"""Networks of a space that is small enough to list."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A network to train, and what the sampler must be told of how it was drawn."""

    architecture: Architecture
    role: str
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    duplicates: int
    """Proposals before it that were a network of the run already."""
    rejected: Mapping[str, int]
    """Proposals before it that broke a constraint, by the constraint."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else the `asked` event keeps: the place of a training in a study or confirmation."""

    def fields(self) -> dict[str, Any]:
        """Give what the `asked` event keeps beside the network."""
        return {
            **self.more,
            "params": dict(self.params),
            "distributions": {
                name: distribution_to_json(d) for name, d in self.distributions.items()
            },
        }


class Proposer:
    """Proposes networks of a space for the objectives of a run."""

    def __init__(
        self,
        space: DesignSpace,
        objectives: Sequence[Objective],
        *,
        sampler: str,
        seed: int,
        chance: Mapping[str, float],
        measure: Measure,
        first: Sequence[tuple[Architecture, Chooser]] | None = None,
    ) -> None:
        """Prepare to propose.

        Args:
            space: bound to its data.
            objectives: of the run.
            sampler: a name of `SAMPLERS`.
            seed: of the run.
            chance: scores of a network that has learnt nothing, by column.
            measure: gives what constraints are about.
            first: what is trained first; None: the anchors of the space.
        """
        self.space = space
        self.first = anchors(space) if first is None else first
        self.objectives = objectives
        self.make_sampler = SAMPLERS[sampler]
        self.seed = seed
        self.chance = chance
        self.measure = measure
        self.census = Census(space)
        # Its notes about studies in memory would go through the live table.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.told = 0
        """Finished trials that were looked at."""
        self._pasts: dict[Fraction, Past] = {}
        """What a sampler is shown of trainings of one length; scores of others do not compare."""

    def propose_first(self, history: History) -> Proposal | None:
        """Give the next network of the warm start, or None after the last."""
        tried = history.tried
        for architecture, chooser in self.first:
            if architecture.id not in tried and self.broken(architecture) is None:
                return Proposal(
                    architecture=architecture,
                    role="anchor",
                    params=chooser.params,
                    distributions=chooser.distributions,
                    duplicates=0,
                    rejected={},
                )
        return None

    def propose(self, number: int, history: History) -> Proposal | None:
        """Give the sampler's network of trial `number`, or None when nothing is left to train."""
        self._tell(history)
        past = self.past()
        tried, duplicates, rejected = history.tried, 0, Counter[str]()

        def refuse(architecture: Architecture) -> bool:
            nonlocal duplicates
            if architecture.id in tried:
                duplicates += 1
                return True
            broken = self.broken(architecture)
            rejected.update([broken] if broken else [])
            return broken is not None

        def proposal(architecture: Architecture, drawn: Any = None) -> Proposal:
            return Proposal(
                architecture=architecture,
                role="search",
                params=drawn.params if drawn else {},
                distributions=drawn.distributions if drawn else {},
                duplicates=duplicates,
                rejected=rejected,
            )

        rng = np.random.default_rng((self.seed, number))
        if len(tried) < self.census.size:
            for attempt in range(SAMPLER_TRIES):
                trial = self._ask(past, zlib.crc32(f"{self.seed}:{number}:{attempt}".encode()))
                architecture = self.space.suggest(trial)
                if not refuse(architecture):
                    return proposal(architecture, trial)
                if architecture.id in tried and (beside := self._beside(architecture, tried, rng)):
                    follower = Follower(self.space.answers(beside))
                    return proposal(self.space.suggest(follower), follower)
            for _ in range(RANDOM_TRIES):
                architecture, chooser = random_draw(self.space, lambda n: int(rng.integers(n)))
                if not refuse(architecture):
                    return proposal(architecture, chooser)
        for architecture in self.census.all() if self.census.size <= LISTED else ():
            if architecture.id not in tried and self.broken(architecture) is None:
                return proposal(architecture)
        return None

    def _beside(
        self, architecture: Architecture, tried: Container[str], rng: np.random.Generator
    ) -> Architecture | None:
        """Give a new network near one that was tried, on a random walk from neighbour to neighbour.

        Where a sampler wants a network again, those one axis away are the next best thing, and take
        a tenth of the time of its next proposals, which are mostly the same network.
        """
        for _ in range(STEPS):
            near = self.census.neighbours(architecture)
            new = [network for network in near if network.id not in tried]
            for place in map(int, rng.permutation(len(new))):
                if self.broken(new[place]) is None:
                    return new[place]
            if not near:
                return None
            architecture = near[int(rng.integers(len(near)))]
        return None

    def broken(self, architecture: Architecture) -> str | None:
        """Name the first constraint that a network breaks."""
        return broken(self.space, architecture, self.measure)

    def past(self) -> list[FrozenTrial]:
        """Give what a sampler is shown: the trainings of the greatest length that enough have."""
        lengths = sorted(self._pasts, reverse=True)
        enough = (length for length in lengths if self._pasts[length].count >= START_UP)
        length = next(enough, lengths[0] if lengths else None)
        return [] if length is None else self._pasts[length].shown()

    def _ask(self, past: list[FrozenTrial], seed: int) -> optuna.Trial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = self.make_sampler(seed)
        directions = [
            StudyDirection.MAXIMIZE if objective.direction == "max" else StudyDirection.MINIMIZE
            for objective in self.objectives
        ]
        study = optuna.create_study(storage=Shown(past), sampler=sampler, directions=directions)
        return study.ask()

    def _tell(self, history: History) -> None:
        """Take in the trials that finished since the last proposal."""
        for trial in history.done[self.told :]:
            self.told += 1
            first = trial
            while first.continues is not None:
                first = history.trials[first.continues]
            if trial.state in SPENDING and first.asked["params"]:
                if trial.length not in self._pasts:
                    signs = tuple(-1 if o.direction == "max" else 1 for o in self.objectives)
                    self._pasts[trial.length] = Past(signs, seed=self.seed)
                self._pasts[trial.length].add(self._frozen(trial, first))

    def _frozen(self, trial: Trial, first: Trial) -> FrozenTrial:
        """Give a finished trial as Optuna has it; `first` is the one its network began with."""
        distributions = first.asked["distributions"].items()
        return FrozenTrial(
            # The trial that is asked for is number 0 of its study.
            number=self.told,
            trial_id=self.told,
            state=TrialState.COMPLETE,
            value=None,
            values=[self._value(objective, trial) for objective in self.objectives],
            params=first.asked["params"],
            distributions={name: _distribution(text) for name, text in distributions},
            datetime_start=None,
            datetime_complete=None,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )

    def _value(self, objective: Objective, trial: Trial) -> float:
        """Give an objective's value; a diverged training stands at chance level."""
        value = trial.result.get(objective.column)
        if trial.state == "diverged" or value is None:
            value = self.chance.get(objective.column, value)
        assert value is not None, f"trial {trial.number} has no {objective.column}"
        return float(value)


_distribution = lru_cache(maxsize=None)(json_to_distribution)
"""Distributions by their text; a space has a few hundred, which many trials share."""
