"""What a device can do at most: multiply-adds and bytes a second, measured, as roofs for layers.

No single kernel reaches the peak everywhere: with torch 2.13 on one AVX-512 core of an EPYC, MKL's
matrix product stays at 90 GFLOP/s where oneDNN's dense 3x3 convolution does 217. So every number
here is the best of several kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.device import quiet

PEAK_S = 0.15
"""Seconds of trying for each kernel of the peak."""
BANDWIDTH_S = 0.02
"""Seconds of trying for each kernel and size of the bandwidth."""
LEAST_TRIES = 4

SMALLEST, LARGEST = 2**18, 2**28
"""Bytes of the working sets that the bandwidth is measured on, doubled from one to the other; the
last is larger where the caches are."""

CALLS = 1000
"""Operators in a row that tell what calling one takes."""

CUDA_REPEATS = 20
"""Calls between two events of a CUDA stream: a kernel is shorter than its launch."""

Clock = Callable[[Callable[[], object]], float]
"""Seconds of one call; on CUDA the mean of so many in a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The roofs of one device, float32, one thread on a CPU."""

    peaks: dict[str, float]
    """GFLOP/s by kernel, a multiply-add being two."""
    bandwidths: tuple[tuple[int, float], ...]
    """GB/s by bytes of the working set, smallest first; never rising."""
    call_us: float
    """Microseconds of an operator that has nothing to do."""

    @property
    def peak_gflops(self) -> float:
        """Give the highest rate of multiply-adds, each counted as two."""
        return max(self.peaks.values())

    @property
    def cache_gbs(self) -> float:
        """Give the bandwidth of the fastest cache that was seen."""
        return self.bandwidths[0][1]

    @property
    def memory_gbs(self) -> float:
        """Give the bandwidth beyond all caches."""
        return self.bandwidths[-1][1]

    def bandwidth_gbs(self, moved: float) -> float:
        """Give the bandwidth for a layer that moves so many bytes: of a working set as large."""
        return next((gbs for size, gbs in self.bandwidths if size >= moved), self.memory_gbs)

    def bound_ms(self, macs: float, moved: float) -> tuple[float, str]:
        """Give the least milliseconds for multiply-adds and bytes, and which of the two sets it."""
        compute = 2 * macs / (self.peak_gflops * 1e6)
        memory = moved / (self.bandwidth_gbs(moved) * 1e6)
        return max(compute, memory), "compute" if compute >= memory else "memory"


def measure_machine(device: torch.device | str = "cpu") -> Machine:
    """Measure a device in a few seconds; nothing else should run on it meanwhile."""
    device = torch.device(device)
    with quiet(1), torch.inference_mode():
        return Machine(
            peaks=_peaks(device), bandwidths=_bandwidths(device), call_us=_call_us(device)
        )


def clock_of(device: torch.device) -> Clock:
    """Give what measures seconds on a device."""
    return _cuda_seconds if device.type == "cuda" else _cpu_seconds


def _peaks(device: torch.device) -> dict[str, float]:
    """Give GFLOP/s of a matrix product and of dense convolutions, channels last."""
    clock = clock_of(device)
    images, side = (64, 4096) if device.type == "cuda" else (1, 1024)
    a, b = (torch.ones(side, side, device=device) for _ in range(2))
    peaks = {f"matrix product {side}": 2e-9 * side**3 / _best(lambda: a @ b, clock, PEAK_S)}
    for kernel, width, pixels in ((1, 512, 28), (3, 128, 56), (3, 256, 56)):
        x_BCHW = torch.ones(images, width, pixels, pixels, device=device)
        weight = torch.ones(width, width, kernel, kernel, device=device)
        seconds = _convolution_s(x_BCHW, weight, clock)
        flops = 2 * images * (width * kernel * pixels) ** 2
        peaks[f"{kernel}x{kernel} convolution, {width} channels"] = 1e-9 * flops / seconds
    return peaks


def _convolution_s(x_BCHW: Tensor, weight: Tensor, clock: Clock) -> float:
    x_BCHW, weight = (
        tensor.contiguous(memory_format=torch.channels_last) for tensor in (x_BCHW, weight)
    )
    return _best(lambda: F.conv2d(x_BCHW, weight, padding=weight.shape[-1] // 2), clock, PEAK_S)


def _bandwidths(device: torch.device) -> tuple[tuple[int, float], ...]:
    """Give GB/s of the best of a copy, a triad and a scaling in place, for doubling sizes."""
    clock = clock_of(device)
    top = SMALLEST
    while top < max(LARGEST, 2 * _last_cache(device)):
        top *= 2
    memory = torch.ones(top // 4, device=device)
    found, size = [], SMALLEST
    while size <= top:
        seconds = min(_best(kernel, clock, BANDWIDTH_S) for kernel in _streams(memory[: size // 4]))
        found.append((size, 1e-9 * size / seconds))
        size *= 2
    # A layer in a small set is not slower than in a large one; where it was, it was disturbed.
    best, rising = 0.0, []
    for size, gbs in reversed(found):
        best = max(best, gbs)
        rising.append((size, best))
    return tuple(reversed(rising))


def _streams(memory: Tensor) -> tuple[Callable[[], object], ...]:
    """Give kernels that move as many bytes as `memory` has, each read or written once."""
    source, target = memory.chunk(2)
    third = len(memory) // 3
    a, b, c = (memory[i * third : (i + 1) * third] for i in range(3))
    return (
        lambda: target.copy_(source),
        lambda: torch.add(a, b, alpha=0.5, out=c),
        lambda: source.mul_(1.0),  # in place every byte is moved twice
    )


def _last_cache(device: torch.device) -> int:
    """Give the bytes of the last cache of a device; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text("ascii").strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * 1024)
    return max(sizes)


def _call_us(device: torch.device) -> float:
    """Give the microseconds of an operator on one number."""
    number = torch.ones(1, device=device)

    def calls() -> None:
        for _ in range(CALLS):
            torch.neg(number)

    return 1e6 * _best(calls, clock_of(device), BANDWIDTH_S) / CALLS


def _best(call: Callable[[], object], clock: Clock, budget_s: float) -> float:
    """Give the least seconds of a call, tried for a while after one call that is not counted."""
    clock(call)
    best, tries, began = float("inf"), 0, time.perf_counter()
    while tries < LEAST_TRIES or time.perf_counter() - began < budget_s:
        best = min(best, clock(call))
        tries += 1
    return best


def _cpu_seconds(call: Callable[[], object]) -> float:
    """Time a call by the clock, or by what the thread ran of it where the core was taken away."""
    # One thread, so both are the same undisturbed; reading the second takes longer (0.3 us).
    ran, began = time.thread_time(), time.perf_counter()
    call()
    passed = time.perf_counter() - began
    return min(passed, time.thread_time() - ran)


def _cuda_seconds(call: Callable[[], object]) -> float:
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    for _ in range(CUDA_REPEATS):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000 / CUDA_REPEATS
