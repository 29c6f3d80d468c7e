"""How many networks a second the closed-form cost counts, none of them twice."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from evaluators.cost import cost
from tests.random_architectures import random_architecture

NETWORKS = 2000


def test_networks_counted_a_second(benchmark: BenchmarkFixture) -> None:
    found = {network.id: network for network in map(random_architecture, range(NETWORKS))}
    networks = list(found.values())
    benchmark.pedantic(
        lambda: [cost(network, 1000) for network in networks], rounds=1, warmup_rounds=0
    )
    mean = benchmark.stats.stats.mean
    print(f"\nclosed-form cost: {len(networks) / mean:,.0f} distinct networks a second")
