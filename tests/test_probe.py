"""The probe of the backends: the shapes of a network, the choice, and one real tiny probe."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch

from builders import build_network
from builders.backends import BackendName, Backends, SumShape
from evaluators.probe import (
    LONG_S,
    ROUNDS,
    candidates,
    fastest,
    probe,
    probed_shape,
    sum_shapes,
)
from search_space.architecture import Architecture
from tests.family_architectures import FAMILY, MIXED
from tests.random_architectures import random_architecture

BATCH = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorder(Backends):
    """Backends that remember what they were asked for."""

    asked: set[SumShape] = field(default_factory=set)

    def of(self, shape: SumShape, device: str) -> BackendName:
        self.asked.add(shape)
        return super(Recorder, self).of(shape, device)


def asked_in_training(architecture: Architecture, rest: BackendName) -> set[SumShape]:
    backends = Recorder(rest=rest)
    network = build_network(architecture, 3, backends=backends).train()
    network(torch.randn(BATCH, architecture.channels, *architecture.size)).sum().backward()
    return backends.asked


@pytest.mark.parametrize("name", [*FAMILY, *MIXED])
def test_the_shapes_are_those_that_a_training_asks_for(name: str) -> None:
    architecture = {**FAMILY, **MIXED}[name]
    expected = asked_in_training(architecture, "torch")
    assert sum_shapes(architecture, BATCH) == expected
    assert expected


@pytest.mark.parametrize("seed", range(12))
def test_the_shapes_of_odd_networks_too(seed: int) -> None:
    architecture = random_architecture(seed)
    assert sum_shapes(architecture, BATCH) == asked_in_training(architecture, "torch")


def test_plain_operators_ask_once_for_a_whole_sum() -> None:
    architecture = FAMILY["unireplknet"]
    assert asked_in_training(architecture, "reference") == sum_shapes(architecture, BATCH)


def shape(images: int, width: int, side: int, kernel: int, *, dilation: int = 1) -> SumShape:
    return SumShape(images, width, side, side, ((kernel, kernel, dilation),), True, False)


@pytest.mark.parametrize(
    ("given", "width"),
    [
        (shape(32, 384, 14, 13), 16),  # 16 channels take long enough
        (shape(32, 6, 14, 13), 6),  # there are no more
        (shape(32, 48, 7, 3), 32),  # all of them are quick, but for the power of two
        (shape(32, 384, 7, 3), 256),
        (shape(1, 384, 7, 3), 256),
        (shape(128, 24, 56, 31), 16),
    ],
)
def test_a_shape_is_probed_on_as_few_channels_as_say_enough(given: SumShape, width: int) -> None:
    assert probed_shape(given) == given._replace(width=width)


def test_taps_beyond_the_map_are_no_work() -> None:
    # On 3 x 3 pixels the 7 x 7 kernel has the 5 x 5 taps of a smaller one; dilated by 3 it has one.
    widths = [
        probed_shape(shape(1024, 4096, 3, kernel, dilation=dilation)).width
        for kernel, dilation in ((5, 1), (7, 1), (7, 3), (1, 1))
    ]
    assert widths[0] == widths[1] < widths[2] == widths[3]


class Stopwatch:
    """Backends that take what the test says for each image, and something for a first call."""

    def __init__(self, first: float = 0.0, **each: float) -> None:
        self.each, self.first, self.calls = each, first, Counter[tuple[str, int]]()

    def __call__(self, name: BackendName, images: int) -> float:
        self.calls[name, images] += 1
        once = self.first if self.calls[name, images] == 1 else 0.0
        return self.each[name] * images + once


THREE = candidates("cpu", "some.so")


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"native": 1e-5, "torch": 2e-5, "reference": 3e-5}, "native"),
        ({"native": 3e-5, "torch": 2e-5, "reference": 1e-5}, "reference"),
        ({"native": 3e-5, "torch": 1e-5, "reference": 2e-5}, "torch"),
        ({"native": 1.03e-5, "torch": 1e-5, "reference": 1e-5}, "native"),  # level
        ({"native": 1.2e-5, "torch": 1.01e-5, "reference": 1e-5}, "torch"),
        ({"native": 5e-5, "torch": 1.2e-5, "reference": 1e-5}, "reference"),
    ],
)
def test_the_fastest_is_chosen_and_of_level_ones_the_first(
    times: dict[str, float], chosen: str
) -> None:
    assert fastest(THREE, 32, Stopwatch(**times)) == chosen
    # What torch prepares in a first call decides nothing.
    assert fastest(THREE, 32, Stopwatch(first=0.02, **times)) == chosen


def test_a_hopeless_candidate_computes_an_eighth_of_the_images_once() -> None:
    watch = Stopwatch(native=1e-3, torch=30e-3, reference=40e-3)
    assert fastest(THREE, 32, watch) == "native"
    assert watch.each["torch"] * 4 > LONG_S
    assert watch.calls == {("native", 32): 1, ("torch", 4): 1, ("reference", 4): 1}


def test_level_candidates_take_turns_a_few_times_where_they_are_quick() -> None:
    watch = Stopwatch(native=1e-5, torch=1.5e-5, reference=1e-3)
    fastest(THREE, 32, watch)
    # One more each: the call that may have been slow.
    assert watch.calls["native", 32] == watch.calls["torch", 32] == ROUNDS + 1
    assert watch.calls["reference", 32] == 0
    slow = Stopwatch(native=1e-2, torch=1.5e-2)
    fastest(("native", "torch"), 32, slow)
    assert slow.calls["native", 32] == 2


def test_a_batch_too_small_to_share_is_computed_whole() -> None:
    watch = Stopwatch(native=1e-3, torch=9e-3)
    assert fastest(("native", "torch"), 3, watch) == "native"
    assert watch.calls["torch", 3] == 2


def test_the_candidates_of_a_device() -> None:
    assert candidates("cpu", None) == ("torch", "reference")
    assert candidates("cuda", None) == ("cuda", "torch")


def test_a_real_probe_chooses_for_every_shape_and_puts_the_threads_back() -> None:
    shapes = {shape(4, 8, 7, 13), shape(4, 8, 7, 3)} | sum_shapes(FAMILY["convnext"], 2)
    torch.set_num_threads(2)
    try:
        chosen = probe(shapes, library=None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert chosen.keys() == {each.key for each in shapes}
    assert {*chosen.values()} <= {"torch", "reference"}
