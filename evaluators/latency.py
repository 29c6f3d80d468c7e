"""Latency of networks on a device: interleaved rounds beside a reference, median with interval."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SAMPLE_MS = 1.0
"""A sample repeats the network until it lasts about this long: reading the clock is then free."""

MIN_ROUNDS, MAX_ROUNDS = 9, 101
"""From 9 samples on, the second and the last but one enclose the median in 96 of 100 cases."""

WARMUP_CALLS = {"cpu": 3, "cuda": 50}
"""Least calls before the clock counts; a GPU raises its clocks and picks its kernels meanwhile."""

STEADY = 0.05
"""Warm-up ends where a sample is within this share of the one before."""

DRIFT_LIMIT = 0.10
"""A reference that changes by more than this share within a call spoils the call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Time of one forward pass of one batch."""

    median_ms: float
    low_ms: float
    """Lower end of the interval that holds the median with 95 % (order statistics)."""
    high_ms: float
    repeats: int
    """Samples taken, one a round."""
    relative: float
    """Median over the rounds of this network's time over the reference's in the same round.

    Comparable between calls, where milliseconds are not: on a shared machine (2 virtual cores) the
    same networks took 0.49 to 0.95 ms in four calls, and 0.65 to 0.70 of the reference."""
    relative_low: float
    """Lower end of the 95 % interval of `relative`."""
    relative_high: float
    reference_ms: float
    """Median of the reference in the same rounds."""
    drift: float
    """Change of the reference from the first half of the rounds to the second, as a share."""

    @property
    def steady(self) -> bool:
        """Whether the device kept its speed; measure again where it did not."""
        return abs(self.drift) <= DRIFT_LIMIT


def measure_latency(
    networks: Sequence[nn.Module],
    reference: nn.Module,
    *,
    size: tuple[int, int],
    channels: int,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    threads: int = 1,
    budget_s: float = 0.3,
) -> list[Latency]:
    """Time networks on random images, each round all of them in turn and the reference last.

    float32, channels last, inference mode. Give merged networks: the latency of a training form
    says nothing. They are moved to the device and put in eval mode; nothing else may run meanwhile.

    Args:
        networks: what to time.
        reference: the same network in every call of a run; shows drift, and makes calls comparable.
        size: height and width of an image in pixels.
        channels: of an image.
        device: where to time.
        batch_size: images of one forward pass.
        threads: of torch on the CPU; the caller's number is put back.
        budget_s: seconds to spend on a network, warm-up included, unless 9 rounds take longer.

    Returns:
        One `Latency` a network, in their order.
    """
    device = torch.device(device)
    images = torch.randn((batch_size, channels, *size), generator=torch.Generator().manual_seed(0))
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    every = [*networks, reference]
    for network in every:
        network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    sample_ms = _cuda_sample_ms if device.type == "cuda" else _cpu_sample_ms
    with _quiet(threads), torch.inference_mode():
        began = time.perf_counter()
        inner = [_warmed_up(sample_ms, network, images, budget_s / 3) for network in every]
        rounds: list[list[float]] = []
        left_s = budget_s * len(every) - (time.perf_counter() - began)
        began = time.perf_counter()
        while len(rounds) < MIN_ROUNDS or (
            len(rounds) < MAX_ROUNDS and time.perf_counter() - began < left_s
        ):
            rounds.append(
                [sample_ms(n, images, repeat) for n, repeat in zip(every, inner, strict=True)]
            )
    *columns, base = ([one[i] for one in rounds] for i in range(len(every)))
    return [_summary(column, base) for column in columns]


def separable(a: Latency, b: Latency) -> bool:
    """Tell whether two networks can be told apart: their intervals of `relative` do not overlap.

    Both must have been measured beside the same reference, not necessarily in one call.
    """
    return a.relative_high < b.relative_low or b.relative_high < a.relative_low


def device_facts(device: torch.device | str = "cpu", *, threads: int = 1) -> dict[str, Any]:
    """Give what must stand beside a latency: device, clocks and software, where known."""
    device = torch.device(device)
    facts: dict[str, Any] = {"device": device.type, "torch": str(torch.__version__)}
    if device.type == "cuda":
        facts["name"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return facts | _nvidia_facts(device.index or 0)
    facts |= _cpu_facts() | {
        "cores": os.cpu_count(),
        "threads": threads,
        "vector": torch.backends.cpu.get_cpu_capability(),
    }
    return facts


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Give the 95 % interval of the median from order statistics; no shape of the noise is assumed.

    Takes the innermost pair of equally deep order statistics whose coverage is at least 95 %, or
    the extremes where there are fewer than six values.
    """
    ordered = sorted(values)
    count = len(ordered)
    tail, depth = 0.5**count, 0  # P(Binomial(count, 1/2) <= depth)
    term = tail
    while depth + 1 <= (count - 1) // 2:
        term *= (count - depth) / (depth + 1)
        if 2 * (tail + term) > 0.05:
            break
        tail, depth = tail + term, depth + 1
    return ordered[depth], ordered[-1 - depth]


def _summary(times: Sequence[float], base: Sequence[float]) -> Latency:
    low, high = median_interval(times)
    ratios = [own / other for own, other in zip(times, base, strict=True)]
    relative_low, relative_high = median_interval(ratios)
    half = len(base) // 2
    return Latency(
        median_ms=statistics.median(times),
        low_ms=low,
        high_ms=high,
        repeats=len(times),
        relative=statistics.median(ratios),
        relative_low=relative_low,
        relative_high=relative_high,
        reference_ms=statistics.median(base),
        drift=statistics.median(base[half:]) / statistics.median(base[:half]) - 1,
    )


SampleMs = Callable[[nn.Module, Tensor, int], float]
"""Milliseconds of one forward pass, as the mean of so many in a row."""


def _cpu_sample_ms(network: nn.Module, images: Tensor, repeat: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(repeat):
        network(images)
    return (time.perf_counter_ns() - start) / 1e6 / repeat


def _cuda_sample_ms(network: nn.Module, images: Tensor, repeat: int) -> float:
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(images.device)
    start.record()
    for _ in range(repeat):
        network(images)
    end.record()
    torch.cuda.synchronize(images.device)
    return float(start.elapsed_time(end)) / repeat


def _warmed_up(sample_ms: SampleMs, network: nn.Module, images: Tensor, budget_s: float) -> int:
    """Run a network until its time is steady or the budget is spent; give the calls a sample."""
    began = time.perf_counter()
    last = sample_ms(network, images, WARMUP_CALLS.get(images.device.type, 3))
    while True:
        repeat = max(1, round(SAMPLE_MS / max(last, 1e-6)))
        now = sample_ms(network, images, repeat)
        if abs(now - last) <= STEADY * last or time.perf_counter() - began > budget_s:
            return max(1, round(SAMPLE_MS / max(now, 1e-6)))
        last = now


@contextmanager
def _quiet(threads: int) -> Iterator[None]:
    """Fix the number of threads and hold back the garbage collector for a `with` block."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


def _cpu_facts() -> dict[str, Any]:
    facts: dict[str, Any] = {"name": platform.processor() or platform.machine()}
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return facts
    known = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in known.items()}
    if "model name" in fields:
        facts["name"] = fields["model name"]
    if "cpu MHz" in fields:
        facts["mhz_now"] = float(fields["cpu MHz"])
    return facts


def _nvidia_facts(index: int) -> dict[str, Any]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    query = [tool, f"--id={index}", "--query-gpu=driver_version,clocks.sm", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    driver, clock = done.stdout.strip().split(", ")
    return {"driver": driver, "clock_now": clock}
