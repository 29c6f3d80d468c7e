"""Whether the backends change what a search finds: the same candidates, trained by each of them.

Networks of the shipped space are trained by torch's plain operators, by the native backend,
and by it again on another seed: the difference of backends is set against that of seeds. Prints the
time of both, too. Takes minutes.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp

from builders.backends import Backends
from builders.native import compiled
from evaluators.data import load_data
from evaluators.recipe import Recipe
from runs.backends import user_cache
from runs.jobs import JobKey, several
from runs.objective import DataSource, TrainJob, train_network, training_seed
from runs.plan import default_workers
from runs.workers import Job, Pool
from search_space.census import Census
from search_space.yaml_io import load_space

NETWORKS = 30


def test_accuracy_does_not_depend_on_the_backend(tmp_path: Path) -> None:
    data = load_data()
    space = load_space("default").bound(size=data.size, channels=data.channels)
    rng, census = np.random.default_rng(4), Census(space)
    networks = [census.sample(rng) for _ in range(NETWORKS)]
    native = Backends(library=str(compiled(user_cache())))
    contenders = {
        "plain": (Backends(rest="reference"), 0),
        "native": (native, 0),
        "native, another seed": (native, 1),
    }
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
            key=JobKey(kind="train", trials=(number, place)),
            function=train_network,
            payload=TrainJob(
                architecture=network,
                seed=training_seed(0, network.id, repeat),
                recipe=Recipe(),
                data=source,
                device="cpu",
                quiet=str(tmp_path),
                run=str(tmp_path),
                weights=None,
                backends=backends,
            ),
        )
        for (number, network), (place, (backends, repeat)) in product(
            enumerate(networks), enumerate(contenders.values())
        )
    ]
    with Pool(default_workers("cpu"), preload=("runs.warm", "runs.objective")) as pool:
        values = several(pool, jobs)
    accuracy = np.array([value["accuracy"] for value in values]).reshape(NETWORKS, -1)
    seconds = np.array([value["train_seconds"] for value in values]).reshape(NETWORKS, -1)
    print(f"\n{NETWORKS} networks of {space.name}")
    for place, name in enumerate(contenders):
        low, middle, high = np.quantile(accuracy[:, place], [0.1, 0.5, 0.9])
        print(
            f"{name:22} accuracy {accuracy[:, place].mean():.2%} (10, 50, 90 %: {low:.1%}, "
            f"{middle:.1%}, {high:.1%}), {seconds[:, place].mean():.2f} s a training"
        )
    plain, ours, again = accuracy.T
    for name, other in (("native - plain", plain), ("native - another seed", again)):
        apart = ours - other
        error = apart.std(ddof=1) / NETWORKS**0.5
        same = ks_2samp(ours, other).pvalue
        print(
            f"{name:22} {apart.mean():+.2%} +- {error:.2%} on average, {apart.std(ddof=1):.2%} for "
            f"one network; Kolmogorov-Smirnov p = {same:.2f}"
        )
    print(f"plain / native: {(seconds[:, 0] / seconds[:, 1]).mean():.2f} times the seconds")
    # Not a matter of speed: a backend that computes something else would show here.
    assert abs((ours - plain).mean()) < 5 * (ours - again).std(ddof=1) / NETWORKS**0.5 + 0.005
