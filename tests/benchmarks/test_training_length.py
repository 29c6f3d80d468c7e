"""How well the short training of the main job ranks networks: against four times its length.

Kendall's tau over 20 networks of the shipped space, with a bootstrap interval over the networks,
and beside it what ranking by MACs or parameters would have reached for nothing. Takes minutes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from evaluators.cost import cost
from evaluators.data import load_data
from evaluators.training import Recipe
from runs.jobs import JobKey, several
from runs.objective import DataSource, TrainJob, train_network, training_seed
from runs.plan import default_workers
from runs.workers import Job, Pool
from search_space.census import Census
from search_space.yaml_io import load_space

NETWORKS = 20
LONGER = 4


def test_tau_between_the_main_job_s_training_and_four_times_its_length(tmp_path: Path) -> None:
    data = load_data()
    space = load_space("default").bound(size=data.size, channels=data.channels)
    rng, census = np.random.default_rng(2026), Census(space)
    networks = [census.sample(rng) for _ in range(NETWORKS)]
    recipe = Recipe()
    lengths = (recipe, replace(recipe, epochs=LONGER * recipe.epochs))
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
                run=str(tmp_path),
                weights=None,
            ),
        )
        for number, network in enumerate(networks)
        for repeat, length in enumerate(lengths)
    ]
    with Pool(default_workers("cpu"), preload=("runs.warm", "runs.objective")) as pool:
        values = several(pool, jobs)
    short, long = values[::2], values[1::2]
    both = f"{recipe.epochs:g} against {LONGER * recipe.epochs:g} epochs"
    print(f"\n{NETWORKS} networks of {space.name}, {both}")
    for measure, sign in (("accuracy", 1), ("val_loss", -1)):
        target = np.array([sign * value[measure] for value in long])
        scores = {
            measure: np.array([sign * value[measure] for value in short]),
            "MACs": np.array([cost(network, 10).macs_merged for network in networks]),
            "parameters": np.array([cost(network, 10).params_merged for network in networks]),
        }
        for name, score in scores.items():
            low, high = interval(score, target)
            tau = float(kendalltau(score, target).statistic)
            print(f"tau of {name} with the long {measure}: {tau:.2f} [{low:.2f}, {high:.2f}]")
    means = [np.mean([v["accuracy"] for v in part]) for part in (short, long)]
    seconds = np.mean([v["train_seconds"] for v in short])
    print(f"mean accuracy {means[0]:.1%} and {means[1]:.1%}; {seconds:.1f} s a short training")


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
