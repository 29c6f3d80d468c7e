"""How well two measurements of the same networks agree, by backend, and one backend with the other.

30 networks of the shipped space, each measured as a trial of a search is: beside the reference for
`TRIAL_BUDGET_S`, in two sweeps over all of them. Whatever else this machine does disturbs them, so
the number of disturbed measurements stands beside. Then once more beside trainings, where nearly
all must say that they were disturbed. Takes a minute.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import get_args

import numpy as np
import pytest
from scipy.stats import spearmanr

from builders import build_network, merge_network
from evaluators.cpu_load import available_cpus
from evaluators.latency import Latency, prepared, time_passes
from evaluators.passes import Backend, Pass
from runs.latencies import TRIAL_BUDGET_S
from runs.planning import middle
from search_space.census import Census
from search_space.yaml_io import load_space

NETWORKS = 30
SWEEPS = 2
BACKENDS: tuple[Backend, ...] = get_args(Backend)

TRAINING = """
import torch
torch.set_num_threads(1)
layer = torch.nn.Conv2d(32, 32, 7, padding=3)
print("trains", flush=True)
while True:
    layer(torch.randn(16, 32, 28, 28)).square().mean().backward()
"""


@cache
def passes(backend: Backend) -> list[Pass]:
    """Give the networks and, as the last one, the reference, ready to be timed."""
    space = load_space("default").bound(size=(28, 28), channels=1)
    rng, census = np.random.default_rng(2026), Census(space)
    architectures = [*(census.sample(rng) for _ in range(NETWORKS)), middle(space)]
    networks = [merge_network(build_network(a, 10).eval()) for a in architectures]
    gc.freeze()  # as in a child: going through all that is imported takes 0.1 s a measurement
    return prepared(networks, size=(28, 28), channels=1, backend=backend)


@cache
def sweeps(backend: Backend) -> list[list[Latency]]:
    """Measure every network once in each sweep."""
    *networks, reference = passes(backend)
    return [
        [time_passes([each], reference, budget_s=TRIAL_BUDGET_S)[0] for each in networks]
        for _ in range(SWEEPS)
    ]


def need_quiet(*backends: Backend) -> None:
    """Skip where most measurements say that they were disturbed: they promise nothing."""
    found = [latency for backend in backends for sweep in sweeps(backend) for latency in sweep]
    disturbed = sum(latency.disturbed for latency in found)
    if 2 * disturbed > len(found):
        pytest.skip(f"the machine is busy: {disturbed} of {len(found)} measurements were disturbed")


def relatives(found: list[Latency]) -> list[float]:
    return [latency.relative for latency in found]


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_measurements_of_the_same_networks_agree(backend: Backend) -> None:
    first, second = sweeps(backend)
    rho = float(spearmanr(relatives(first), relatives(second)).statistic)
    apart = np.abs(np.divide(relatives(first), relatives(second)) - 1)
    disturbed = sum(latency.disturbed for latency in (*first, *second))
    overlap = sum(
        a.relative_low <= b.relative_high and b.relative_low <= a.relative_high
        for a, b in zip(first, second, strict=True)
    )
    times = [latency.median_ms for latency in first]
    print(
        f"\n{backend}: {NETWORKS} networks of {min(times):.3f} to {max(times):.3f} ms, twice for "
        f"{TRIAL_BUDGET_S:g} s: Spearman {rho:.4f}, relative difference {np.median(apart):.1%} in "
        f"the median, {apart.max():.1%} at most; the intervals overlap for "
        f"{overlap}; {disturbed} of {2 * NETWORKS} disturbed"
    )
    need_quiet(backend)
    assert rho > 0.9


def test_how_alike_the_backends_rank() -> None:
    found = [np.mean([relatives(sweep) for sweep in sweeps(b)], axis=0) for b in BACKENDS]
    rho = float(spearmanr(*found).statistic)
    # Of networks as small as these eager torch times its calls, ONNX Runtime their arithmetic.
    print(f"\n{' and '.join(BACKENDS)}: Spearman {rho:.4f}")
    assert np.isfinite(rho)


@contextmanager
def trainings(number: int) -> Iterator[None]:
    """Train beside a `with` block, in so many processes of one thread."""
    started = [
        subprocess.Popen([sys.executable, "-c", TRAINING], stdout=subprocess.PIPE)
        for _ in range(number)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("backend", BACKENDS)
def test_trainings_beside_it_disturb_a_measurement(backend: Backend) -> None:
    *networks, reference = passes(backend)
    for number in dict.fromkeys((1, len(available_cpus()))):
        with trainings(number):
            found = [time_passes([each], reference)[0] for each in networks[:10]]
        disturbed = sum(latency.disturbed for latency in found)
        print(
            f"\n{backend} beside {number} trainings on {len(available_cpus())} CPUs: {disturbed} "
            f"of {len(found)} disturbed; the core was lost in "
            f"{np.mean([latency.descheduled for latency in found]):.0%} of the rounds, others "
            f"used {np.mean([latency.foreign or 0 for latency in found]):.0%} of the CPUs"
        )
    assert disturbed >= 9
