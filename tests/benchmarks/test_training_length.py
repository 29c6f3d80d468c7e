"""How well a short training ranks networks: that of the main job and others, against a long one.

Kendall's tau over 20 networks of the shipped space, with a bootstrap interval over the networks,
and beside it what ranking by MACs or parameters would have reached for nothing. Takes minutes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from builders.backends import Backends
from builders.native import compiled
from evaluators.cost import cost
from evaluators.data import load_data
from evaluators.recipe import Recipe
from runs.backends import user_cache
from runs.jobs import JobKey, several
from runs.objective import DataSource, TrainJob, train_network, training_seed
from runs.plan import default_workers
from runs.workers import Job, Pool
from search_space.census import Census
from search_space.yaml_io import load_space

NETWORKS = 20
SHORT = (0.35, 0.5, 0.75)
"""Epochs to choose from; those of the recipe are added."""
LONG = 3.0


def test_tau_between_short_trainings_and_a_long_one(tmp_path: Path) -> None:
    data = load_data()
    space = load_space("default").bound(size=data.size, channels=data.channels)
    rng, census = np.random.default_rng(2026), Census(space)
    networks = [census.sample(rng) for _ in range(NETWORKS)]
    recipe = Recipe()
    short = sorted({*SHORT, recipe.epochs})
    lengths = [replace(recipe, epochs=epochs) for epochs in (*short, LONG)]
    backends = Backends(library=str(compiled(user_cache())))
    source = DataSource(
        source=None,
        root=None,
        resize=None,
        size=data.size,
        channels=data.channels,
        sha256=data.sha256,
    )
    jobs = [
        Job(
            key=JobKey(kind="train", trials=(number, repeat)),
            function=train_network,
            payload=TrainJob(
                architecture=network,
                seed=training_seed(0, network.id, repeat),
                recipe=length,
                data=source,
                device="cpu",
                quiet=str(tmp_path),
                run=str(tmp_path),
                weights=None,
                backends=backends,
            ),
        )
        for number, network in enumerate(networks)
        for repeat, length in enumerate(lengths)
    ]
    with Pool(default_workers("cpu"), preload=("runs.warm", "runs.objective")) as pool:
        values = several(pool, jobs)
    *runs, long = (values[place :: len(lengths)] for place in range(len(lengths)))
    target = np.array([value["accuracy"] for value in long])
    costs = [cost(network, 10) for network in networks]
    print(f"\n{NETWORKS} networks of {space.name}, against the accuracy of {LONG:g} epochs")
    for epochs, run in zip(short, runs, strict=True):
        mean, seconds = (np.mean([v[key] for v in run]) for key in ("accuracy", "train_seconds"))
        said(f"accuracy after {epochs:g}", np.array([v["accuracy"] for v in run]), target)
        said(f"-val_loss after {epochs:g}", np.array([-v["val_loss"] for v in run]), target)
        print(f"    mean accuracy {mean:.1%}, {seconds:.1f} s a training")
    said("MACs", np.array([counted.macs_merged for counted in costs]), target)
    said("parameters", np.array([counted.params_merged for counted in costs]), target)
    print(f"mean accuracy after {LONG:g}: {target.mean():.1%}")


def said(name: str, score: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> None:
    low, high = interval(score, target)
    tau = float(kendalltau(score, target).statistic)
    print(f"tau of {name}: {tau:.2f} [{low:.2f}, {high:.2f}]")


def interval(
    score: npt.NDArray[np.float64], target: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """95 % percentile interval of tau over resampled networks."""
    rng = np.random.default_rng(0)
    taus = []
    for _ in range(2000):
        chosen = rng.integers(len(score), size=len(score))
        taus.append(kendalltau(score[chosen], target[chosen]).statistic)
    low, high = np.nanpercentile(taus, [2.5, 97.5])
    return float(low), float(high)
