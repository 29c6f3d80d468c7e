"""Latency: interleaved, with an interval, leaving the process as it was."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from evaluators.latency import (
    MAX_ROUNDS,
    MIN_ROUNDS,
    Latency,
    _Sample,
    _summary,
    device_facts,
    measure_latency,
    median_interval,
    separable,
    time_passes,
)


def convolutions(count: int, *, width: int = 16) -> nn.Module:
    deep = (nn.Conv2d(width, width, 3, padding=1) for _ in range(count))
    return nn.Sequential(nn.Conv2d(3, width, 3), *deep)


class Logged(nn.Module):
    """Writes its name at every call, with what it was called under."""

    def __init__(self, name: str, calls: list[str]) -> None:
        super().__init__()
        self.name, self.calls = name, calls
        self.layer = nn.Conv2d(3, 3, 3)
        self.seen: set[object] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(self.name)
        self.seen |= {
            ("threads", torch.get_num_threads()),
            ("inference", torch.is_inference_mode_enabled()),
            ("training", self.training),
            ("gc", gc.isenabled()),
            ("channels last", x.is_contiguous(memory_format=torch.channels_last)),
            ("shape", tuple(x.shape)),
        }
        y: Tensor = self.layer(x)
        return y


def latency(relative_low: float, relative_high: float, *, drift: float = 0.0) -> Latency:
    return Latency(
        median_ms=1.0,
        low_ms=1.0,
        high_ms=1.0,
        repeats=9,
        relative=(relative_low + relative_high) / 2,
        relative_low=relative_low,
        relative_high=relative_high,
        reference_ms=1.0,
        drift=drift,
    )


def test_a_deeper_network_takes_longer_than_the_reference() -> None:
    networks = [convolutions(0), convolutions(12)]
    shallow, deep = measure_latency(
        networks, convolutions(3), size=(24, 24), channels=3, budget_s=0.1
    )
    assert shallow.median_ms < deep.median_ms
    assert shallow.relative < 1 < deep.relative
    for measured in (shallow, deep):
        assert measured.low_ms <= measured.median_ms <= measured.high_ms
        assert measured.relative_low <= measured.relative <= measured.relative_high
        assert MIN_ROUNDS <= measured.repeats <= MAX_ROUNDS


def test_rounds_visit_every_network_in_turn_and_the_reference_last() -> None:
    calls: list[str] = []
    a, b, reference = (Logged(name, calls) for name in ("a", "b", "ref"))
    measure_latency([a, b], reference, size=(8, 8), channels=3, budget_s=0.01)
    turns = [now for before, now in pairwise(["", *calls]) if now != before]
    # Each attempt warms a, b and the reference up, which are a turn each, and then goes round.
    assert turns[-27:] == ["a", "b", "ref"] * 9


def test_small_networks_are_repeated_within_a_sample() -> None:
    calls: list[str] = []
    measured = measure_latency(
        [Logged("a", calls)], Logged("ref", []), size=(8, 8), channels=3, budget_s=0.01
    )
    assert len(calls) > 3 * measured[0].repeats


def test_networks_run_alone_in_inference_mode_on_one_thread() -> None:
    network = Logged("a", [])
    torch.set_num_threads(2)
    try:
        measure_latency(
            [network], Logged("ref", []), size=(8, 6), channels=3, batch_size=4, budget_s=0.01
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert gc.isenabled()
    assert network.seen == {
        ("threads", 1),
        ("inference", True),
        ("training", False),
        ("gc", False),
        ("channels last", True),
        ("shape", (4, 3, 8, 6)),
    }


def test_a_network_that_fails_leaves_threads_and_collector_as_they_were() -> None:
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError):
            measure_latency([nn.Linear(5, 5)], nn.Identity(), size=(8, 8), channels=3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(5, 1, 5), (6, 1, 6), (8, 1, 8), (9, 2, 8), (12, 3, 10), (25, 8, 18), (101, 41, 61)],
)
def test_the_interval_of_the_median_is_that_of_the_sign_test(
    count: int, low: int, high: int
) -> None:
    values = [float(value) for value in range(count, 0, -1)]
    assert median_interval(values) == (low, high)


@pytest.mark.parametrize(
    ("intervals", "apart"),
    [
        ([(1.0, 2.0), (2.1, 3.0)], [True, True]),
        ([(2.1, 3.0), (1.0, 2.0)], [True, True]),
        ([(1.0, 2.0), (1.9, 3.0)], [False, False]),
        ([(1.0, 2.0), (2.0, 3.0)], [False, False]),
        ([(5.0, 6.0), (1.0, 2.0), (1.9, 3.0)], [True, False, False]),
        ([(1.0, 2.0)], [True]),
        ([], []),
    ],
)
def test_networks_are_separable_where_no_neighbour_overlaps(
    intervals: list[tuple[float, float]], apart: list[bool]
) -> None:
    assert separable(intervals) == apart


def test_a_reference_that_drifts_is_flagged() -> None:
    assert latency(1, 2, drift=0.09).steady
    assert not latency(1, 2, drift=0.11).steady
    assert not latency(1, 2, drift=-0.11).steady


def test_a_network_is_disturbed_by_drift_by_a_lost_core_and_by_foreign_load() -> None:
    calm = latency(1, 2)
    assert not calm.disturbed
    assert not replace(calm, descheduled=0.09, foreign=0.19, drift=-0.09).disturbed
    assert replace(calm, drift=0.11).disturbed
    assert replace(calm, descheduled=0.11).disturbed
    assert replace(calm, foreign=0.21).disturbed


def test_samples_without_the_core_are_dropped_while_enough_others_are_left() -> None:
    base = [_Sample(2.0, 2.0)] * 20
    times = [_Sample(1.0, 0.98)] * 19 + [_Sample(50.0, 1.0)]
    found = _summary(times, base, foreign=0.0)
    assert (found.repeats, found.high_ms, found.descheduled) == (19, 1.0, pytest.approx(0.05))
    assert not found.disturbed
    found = _summary(base, times, foreign=0.0)
    assert (found.repeats, found.relative, found.descheduled) == (19, 2.0, pytest.approx(0.05))


def test_where_hardly_any_sample_had_the_core_the_own_time_of_all_counts() -> None:
    times = [_Sample(1.0, 1.0)] * 8 + [_Sample(9.0, 1.5)] * 12
    found = _summary(times, [_Sample(1.0, 1.0)] * 20, foreign=None)
    assert (found.repeats, found.median_ms, found.descheduled) == (20, 1.5, 0.6)
    assert found.disturbed


def test_who_loses_the_core_is_measured_three_times_and_says_so() -> None:
    sleeps: list[float] = []

    def sleep() -> None:
        sleeps.append(1.0)
        time.sleep(0.001)

    (found,) = time_passes([sleep], lambda: sum(range(10_000)), budget_s=0.01)
    assert found.descheduled == 1.0
    assert found.disturbed
    assert len(sleeps) > 3 * 9


def test_a_call_that_is_calm_at_once_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[list[Latency]] = [
        [replace(latency(1, 2), foreign=0.9)],
        [latency(3, 4)],
        [latency(5, 6)],
    ]
    monkeypatch.setattr("evaluators.latency._attempt", lambda *_: attempts.pop(0))
    assert time_passes([int], int) == [latency(3, 4)]
    assert len(attempts) == 1


def test_the_least_disturbed_attempt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    calm, lost = latency(1, 2), replace(latency(3, 4), descheduled=0.5)
    worse = replace(lost, foreign=0.5)
    for attempts in ([[lost, lost], [lost, calm], [lost, lost]], [[worse], [lost], [worse]]):
        best, left = attempts[1], list(attempts)
        monkeypatch.setattr("evaluators.latency._attempt", lambda *_, left=left: left.pop(0))
        assert time_passes([int] * len(best), int) == best


def test_onnx_runtime_times_networks_as_torch_does() -> None:
    networks = [convolutions(1), convolutions(40)]
    shallow, deep = measure_latency(
        networks,
        convolutions(6),
        size=(24, 24),
        channels=3,
        budget_s=0.05,
        backend="onnxruntime",
    )
    assert shallow.relative < 1 < deep.relative


def test_device_facts_name_the_processor_and_the_software() -> None:
    facts = device_facts("cpu")
    assert facts["device"] == "cpu"
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == 1
    assert facts["name"]


def test_of_a_gpu_of_another_machine_the_kind_is_known() -> None:
    assert device_facts("cuda:63") == {"device": "cuda", "torch": torch.__version__}


@pytest.mark.gpu
def test_a_gpu_is_timed_with_events() -> None:
    (measured,) = measure_latency(
        [convolutions(3)], convolutions(3), size=(24, 24), channels=3, device="cuda"
    )
    assert 0.5 < measured.relative < 2
    assert device_facts("cuda")["name"]
