"""Networks for a search: those of the warm start first, then Optuna's, never a network twice.

The study lives in memory and holds only finished trials, in the order they finished; every proposal
is drawn by a fresh sampler seeded from the run's seed and the trial's number. A resumed run, whose
study is rebuilt from the record, therefore proposes what the killed one would have.
"""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from runs.anchors import Chooser, Measure, anchors, broken, random_draw
from runs.history import History, Trial
from runs.ranking import Objective
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.space import DesignSpace

SAMPLER_TRIES = 16
"""Refused proposals of the sampler in a row before the space is drawn from at random."""
RANDOM_TRIES = 2_000
"""Refused random draws in a row before what is left of a small space is listed."""
LISTED = 20_000
"""Networks of a space that is small enough to list."""
START_UP = 20
"""Trials that TPE draws at random first."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=START_UP),
    "random": lambda seed: RandomSampler(seed=seed),
    "nsgaii": lambda seed: NSGAIISampler(seed=seed, population_size=20),
}


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
        directions = [
            StudyDirection.MAXIMIZE if objective.direction == "max" else StudyDirection.MINIMIZE
            for objective in objectives
        ]
        self.study = optuna.create_study(directions=directions, sampler=RandomSampler(seed=0))
        self.told = 0

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
        self._tell(history.done)
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

        if len(tried) < self.census.size:
            for attempt in range(SAMPLER_TRIES):
                trial = self._ask(zlib.crc32(f"{self.seed}:{number}:{attempt}".encode()))
                architecture = self.space.suggest(trial)
                self.study.tell(trial, state=TrialState.FAIL)
                if not refuse(architecture):
                    return proposal(architecture, trial)
            rng = np.random.default_rng((self.seed, number))
            for _ in range(RANDOM_TRIES):
                architecture, chooser = random_draw(self.space, lambda n: int(rng.integers(n)))
                if not refuse(architecture):
                    return proposal(architecture, chooser)
        for architecture in self.census.all() if self.census.size <= LISTED else ():
            if architecture.id not in tried and self.broken(architecture) is None:
                return proposal(architecture)
        return None

    def broken(self, architecture: Architecture) -> str | None:
        """Name the first constraint that a network breaks."""
        return broken(self.space, architecture, self.measure)

    def _ask(self, seed: int) -> optuna.Trial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = self.make_sampler(seed)
        return self.study.ask()

    def _tell(self, done: Sequence[Trial]) -> None:
        """Add the trials that finished since the last proposal to the study."""
        for trial in done[self.told :]:
            self.told += 1
            if trial.counts and trial.asked["params"]:
                distributions = trial.asked["distributions"].items()
                self.study.add_trial(
                    optuna.create_trial(
                        params=trial.asked["params"],
                        distributions={
                            name: json_to_distribution(text) for name, text in distributions
                        },
                        values=[self._value(objective, trial) for objective in self.objectives],
                    )
                )

    def _value(self, objective: Objective, trial: Trial) -> float:
        """Give an objective's value; a diverged training stands at chance level."""
        value = trial.result.get(objective.column)
        if trial.state == "diverged" or value is None:
            value = self.chance.get(objective.column, value)
        assert value is not None, f"trial {trial.number} has no {objective.column}"
        return float(value)
