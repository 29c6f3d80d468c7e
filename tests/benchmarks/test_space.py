"""How long it takes to read a space of 30 lines, to count it and to draw from it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from search_space.space import DesignSpace
from search_space.yaml_io import load_space, parse_space

TEXT = """\
name: thirty
input: {channels: 3, size: 32}
block: unireplknet
stem: {kind: unireplknet, stride: 2}
stages:
  - depth: {choice: [1, 2]}
    width: {int: [24, 48], step: 8}
    kernel: {choice: [3, 5, 7, 9, 11, 13]}
    placement: {choice: [L, LS]}
  - depth: {choice: [1, 2, 3]}
    width: {int: [48, 96], step: 16}
    kernel: {choice: [3, 5, 7, 9, 11, 13]}
    placement: {choice: [L, LS, LSS]}
  - depth: {choice: [2, 4, 6]}
    width: {int: [64, 128], step: 16}
    kernel: {choice: [3, 7, 9, 13]}
    placement: {choice: [L, LS, LSS, S]}
  - depth: {choice: [1, 2]}
    width: {int: [128, 256], step: 32}
    kernel: {int: [3, 13], step: 2}
    placement: L
every_stage:
  dilations: {choice: [none, paper, [[5, 1], [3, 2]]]}
shared:
  structure: {choice: [none, se, bottleneck]}
  ffn_ratio: {choice: [2, 4]}
constraints:
  params: {max: 2e6}
  macs: {min: 1e6, max: 60e6}
"""


def test_reading_a_space_of_thirty_lines(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    path = tmp_path / "thirty.yaml"
    path.write_text(TEXT)
    space = benchmark(load_space, path)
    assert benchmark.stats is not None
    assert space.name == "thirty"
    print(f"read {len(TEXT.splitlines())} lines in {1000 * benchmark.stats['median']:.1f} ms "
          "(target under 50)")  # fmt: skip


def test_counting_its_networks(benchmark: BenchmarkFixture) -> None:
    def counted() -> float:
        return parse_space(TEXT).count()

    print(f"{benchmark(counted):,} networks")


def test_drawing_evenly(benchmark: BenchmarkFixture) -> None:
    space, rng = parse_space(TEXT), np.random.default_rng(0)
    assert benchmark(space.sample, rng).depth >= 5


def test_drawing_through_the_tree(benchmark: BenchmarkFixture) -> None:
    space, rng = parse_space(TEXT), np.random.default_rng(0)
    network = benchmark(
        space.draw, lambda _name, _axis, options: options[int(rng.integers(len(options)))]
    )
    assert network.depth >= 5


def test_an_id(benchmark: BenchmarkFixture) -> None:
    space, numbers = parse_space(TEXT), count()

    def fresh() -> tuple[tuple[DesignSpace, int], dict[str, object]]:
        return (space, next(numbers)), {}

    def id_of(space: DesignSpace, number: int) -> str:
        return space.sample(np.random.default_rng(number)).id

    found = benchmark.pedantic(id_of, setup=fresh, rounds=200)  # type: ignore[no-untyped-call]
    assert len(found) == 12
