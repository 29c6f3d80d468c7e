"""How fast samplers find the front of a recorded table of real trainings; asserts no winner.

Every network of `assets/table.yaml` was trained once, in full length, on the shipped images
(`record_table.py`). A search of 200 trials is played over it through the real proposer, with the
same anchors and the same refusal of networks that were trained already, so that only the sampler
differs. Accuracy and multiply-adds are the objectives. Hypervolume is counted as in a report, and
is a share of that of all networks together. Intervals are of the mean over 20 seeds (Student's t);
differences are paired by the seed.

In a search of 200 with evidence and confirmation 60 to 70 trials are the sampler's own, so the
early columns count: the default is ahead there, and behind nowhere beyond its interval.

    python -m pytest -s tests/benchmarks/test_samplers.py
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.stats import t as student

from runs.anchors import random_draw
from runs.history import History
from runs.proposals import Proposer
from runs.ranking import objectives_named
from runs.samplers import SAMPLERS, START_UP, TPE
from search_space.space import DesignSpace
from search_space.yaml_io import load_space

ASSETS = Path(__file__).parent / "assets"
BUDGET, SEEDS = 200, 20
SHOWN = (25, 50, 100, 200)
"""Trials after which the hypervolume is shown."""
PARTS = (0.95, 0.99)
"""Parts of the whole hypervolume that a search is timed to."""

OURS = "TPE multivariate (tpe, the default)"

Floats = npt.NDArray[np.float64]
MakeSampler = Callable[[int], BaseSampler]
"""Gives the sampler of one draw from its seed."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What trainings gave, by the id of the network."""

    space: DesignSpace
    rows: dict[str, dict[str, float]]

    def losses(self, ids: list[str]) -> Floats:
        """Give error and multiply-adds as parts of the reference point, 1.1 times the worst."""
        found = np.array([[1 - self.rows[i]["accuracy"], self.rows[i]["macs"]] for i in ids])
        worst = [1 - min(r["accuracy"] for r in self.rows.values())]
        worst.append(max(r["macs"] for r in self.rows.values()))
        return found / np.minimum(1.1 * np.array(worst), [1.0, np.inf])

    def hypervolume(self, ids: list[str]) -> float:
        """Give the dominated part of the box up to the reference point."""
        return float(moocore.hypervolume(self.losses(ids), ref=np.ones(2)))


def table_of(file: Path = ASSETS / "trainings.csv") -> Table:
    space = load_space(str(ASSETS / "table.yaml")).bound(size=(28, 28), channels=1)
    with file.open(newline="") as lines:
        full = [row for row in csv.DictReader(lines) if row["rung"] == "2"]
    rows = {r["id"]: {"accuracy": float(r["accuracy"]), "macs": int(r["macs"])} for r in full}
    assert {network.id for network in space.census.all()} == rows.keys()
    return Table(space=space, rows=rows)


class Sequence(QMCSampler):
    """One scrambled Sobol sequence through all decisions that the space can ask for.

    It has a place in the sequence, which Optuna keeps in a study: here one sampler is kept instead.
    """

    def __init__(self, decisions: dict[str, BaseDistribution], seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(scramble=True, seed=seed, warn_independent_sampling=False)
        self.decisions = decisions
        self.drawn = 0

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Give all decisions, those that a network does not ask for too."""
        return self.decisions

    def _find_sample_id(self, *_: object) -> int:
        self.drawn += 1
        return self.drawn


def decisions_of(space: DesignSpace) -> dict[str, BaseDistribution]:
    rng, found = np.random.default_rng(0), {}
    for _ in range(500):
        found.update(random_draw(space, lambda n: int(rng.integers(n)))[1].distributions)
    return found


def sequence(table: Table, seed: int) -> MakeSampler:
    """Give one sampler for a whole search: a sequence has a place."""
    found = Sequence(decisions_of(table.space), seed)
    return lambda _: found


def tpe(**options: Any) -> Callable[[Table, int], MakeSampler]:
    def make(seed: int) -> BaseSampler:
        return TPE(seed=seed, n_startup_trials=START_UP, **options)

    return lambda _table, _seed: make


def of_product(name: str) -> Callable[[Table, int], MakeSampler]:
    return lambda _table, _seed: SAMPLERS[name]


CANDIDATES: dict[str, Callable[[Table, int], MakeSampler]] = {
    "random": of_product("random"),
    "QMC (scrambled Sobol)": sequence,
    "NSGA-II (nsgaii)": of_product("nsgaii"),
    "TPE univariate": tpe(multivariate=False),
    OURS: of_product("tpe"),
    "TPE multivariate, group": tpe(multivariate=True, group=True),
}


def searched(table: Table, make: MakeSampler, seed: int, *, budget: int = BUDGET) -> list[str]:
    """Play a search; give the ids of its networks in the order they were trained."""
    proposer = Proposer(
        table.space,
        objectives_named(("accuracy", "macs")),
        sampler="random",
        seed=seed,
        chance={"accuracy": 0.1},
        measure=lambda _: {},
    )
    proposer.make_sampler = make
    history = History()
    for number in range(budget):
        proposal = proposer.propose_first(history) or proposer.propose(number, history)
        assert proposal is not None
        found = proposal.architecture
        asked = {"event": "asked", "trial": number, "role": proposal.role, "id": found.id}
        asked |= {"seed": 0, "architecture": found.to_json(), **proposal.fields()}
        history.apply(asked)
        done = {"event": "done", "trial": number, "state": "complete", **table.rows[found.id]}
        history.apply(done)
    return [trial.id for trial in history.trials.values()]


def hypervolumes(table: Table, ids: list[str]) -> Floats:
    """Give the hypervolume after every trial, as a part of that of the whole table."""
    whole = table.hypervolume(list(table.rows))
    return np.array([table.hypervolume(ids[: n + 1]) / whole for n in range(len(ids))])


def mean_text(values: Floats, form: str) -> str:
    """Write a mean over seeds with its 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():{form}} ± {half:{form.removeprefix('+')}}"


def test_hypervolume_over_trials() -> None:
    table = table_of()
    found = {
        name: np.array(
            [hypervolumes(table, searched(table, make(table, s), s)) for s in range(SEEDS)]
        )
        for name, make in CANDIDATES.items()
    }
    print(page(found))
    for curves in found.values():
        assert (np.diff(curves, axis=1) >= 0).all()
        assert curves.max() <= 1 + 1e-12


def page(found: dict[str, Floats]) -> str:
    """Write the results as Markdown: hypervolume in percent, and trials to parts of it."""
    columns = [f"@{n}" for n in SHOWN] + [f"trials to {part:.0%}" for part in PARTS]
    lines = ["", "| sampler | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, curves in found.items():
        cells = [mean_text(100 * curves[:, n - 1], ".2f") for n in SHOWN]
        cells += [reached_text(curves, part) for part in PARTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for base in ("random", OURS):
        lines += ["", f"| minus {base} | " + " | ".join(columns[: len(SHOWN)]) + " |"]
        lines.append("|---" * (len(SHOWN) + 1) + "|")
        for name in [name for name in found if name != base]:
            difference = 100 * (found[name] - found[base])
            cells = [mean_text(difference[:, n - 1], "+.2f") for n in SHOWN]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reached_text(curves: Floats, part: float) -> str:
    """Write how many trials it takes to a part of the hypervolume; a search that fails, all."""
    late = (curves[:, -1] < part).sum()
    reached = np.where(curves[:, -1] < part, curves.shape[1], (curves < part).sum(axis=1) + 1)
    return mean_text(reached.astype(float), ".0f") + (f" ({late} never)" if late else "")
