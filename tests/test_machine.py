from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from evaluators import machine as module
from evaluators.device import quiet
from evaluators.machine import Machine, measure_machine

MACHINE = Machine(
    peaks={"matrix product": 90.0, "convolution": 200.0},
    bandwidths=((2**20, 160.0), (2**22, 80.0), (2**24, 20.0)),
    call_us=1.0,
)


@pytest.fixture(scope="module")
def measured() -> Machine:
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(module, "PEAK_S", 0.0)
        quick.setattr(module, "BANDWIDTH_S", 0.0)
        return measure_machine("cpu")


def test_the_roofs_of_this_machine_are_measured(measured: Machine) -> None:
    assert len(measured.peaks) == 4
    assert all(0.1 < gflops < 1e5 for gflops in measured.peaks.values())
    assert measured.peak_gflops == max(measured.peaks.values())
    sizes, rates = zip(*measured.bandwidths, strict=True)
    assert sizes[0] == 2**18
    assert sizes[-1] >= 2**28
    assert all(later == 2 * earlier for earlier, later in pairwise(sizes))
    assert list(rates) == sorted(rates, reverse=True)
    assert 0.1 < measured.memory_gbs <= measured.cache_gbs < 1e5
    assert 0.01 < measured.call_us < 1000


def test_the_largest_working_set_is_larger_than_the_last_cache(measured: Machine) -> None:
    assert measured.bandwidths[-1][0] >= 2 * module._last_cache(torch.device("cpu"))


def test_the_peak_is_the_best_kernel_and_the_bandwidth_that_of_a_set_as_large() -> None:
    assert MACHINE.peak_gflops == 200
    assert (MACHINE.cache_gbs, MACHINE.memory_gbs) == (160, 20)
    assert MACHINE.bandwidth_gbs(1) == MACHINE.bandwidth_gbs(2**20) == 160
    assert MACHINE.bandwidth_gbs(2**20 + 1) == 80
    assert MACHINE.bandwidth_gbs(2**30) == 20


@pytest.mark.parametrize(
    ("macs", "moved", "bound"),
    [
        (10**9, 2**20, (10.0, "compute")),  # 2 GFLOP at 200 GFLOP/s
        (10**3, 10**6, (1 / 160, "memory")),  # 1 MB at 160 GB/s
        (0, 4 * 10**7, (2.0, "memory")),  # 40 MB at 20 GB/s
        (10**9, 2 * 10**8, (10.0, "compute")),  # both alike
        (0, 0, (0.0, "compute")),
    ],
)
def test_the_least_time_is_that_of_the_lower_roof(
    macs: int, moved: int, bound: tuple[float, str]
) -> None:
    assert MACHINE.bound_ms(macs, moved) == (pytest.approx(bound[0]), bound[1])


def test_the_threads_of_the_caller_are_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with quiet(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
