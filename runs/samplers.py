"""The samplers of a search, by their names; none remembers anything from one proposal to the next.

Each proposal is drawn by a sampler of its own from the finished trials that it is shown, so that a
resumed run proposes what the killed one would have. That rules out Optuna's QMC, whose place in the
sequence is state of a study. `tests/benchmarks/test_samplers.py` compares them.
"""

from __future__ import annotations

from collections.abc import Callable

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

START_UP = 20
"""Trials that TPE draws at random first."""
POPULATION = 20
"""Parents of NSGA-II."""


class TPE(TPESampler):
    """TPE that finds the decisions common to all trials by their names.

    A space asks by one name for one set of options only; Optuna compares every option of every
    trial, a quarter of the time of a proposal at 200 trials. It proposes the same.
    """

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Give the decisions that TPE takes together: those that every finished trial took."""
        if self._group or not self._is_multivariate(study):
            return super().infer_relative_search_space(study, trial)
        complete = _complete(study)
        if not complete:
            return {}
        first = complete[0].distributions
        common = set(first).intersection(*(trial.distributions for trial in complete))
        return {name: first[name] for name in sorted(common) if not first[name].single()}


class SteadyNSGAII(NSGAIISampler):
    """NSGA-II whose parents are the best of all finished trials, by front and crowding distance.

    Optuna's own counts generations in attributes of trials that it drew. Trials that are only
    shown have none, and it draws at random for ever.
    """

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:  # noqa: ARG002
        """Give 0 as long as parents are drawn at random, then 1."""
        return int(len(_complete(study)) >= POPULATION)

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Choose the parents; none in generation 0."""
        if generation == 0:
            return []
        return self._elite_population_selection_strategy(study, _complete(study))


def _complete(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPE(seed=seed, multivariate=True, n_startup_trials=START_UP),
    "random": lambda seed: RandomSampler(seed=seed),
    "nsgaii": lambda seed: SteadyNSGAII(seed=seed, population_size=POPULATION),
}
