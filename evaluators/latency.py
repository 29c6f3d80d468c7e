"""Latency of networks on a device: interleaved rounds beside a reference, median with interval.

A sample during which the system gave the core to somebody else is dropped. Where many were, where
others kept the CPUs busy, or where the reference changed its speed, everything is measured again,
and what is disturbed even then says so.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from evaluators.cpu_load import CpuLoad
from evaluators.device import quiet
from evaluators.passes import Backend, Pass, forward_pass

SAMPLE_MS = 0.4
"""A sample repeats the network until it lasts about this long: reading the clocks takes 1 us.

Shorter than the slices in which a busy system deals out its cores, so that many samples keep
theirs: beside 4 busy processes on 2 CPUs 72 % did, and of those of 1 ms 33 %."""

MIN_ROUNDS, MAX_ROUNDS = 9, 301
"""From 9 samples on, the second and the last but one enclose the median in 96 of 100 cases."""

WARMUP_CALLS = {"cpu": 3, "cuda": 50}
"""Least calls before the clock counts; a GPU raises its clocks and picks its kernels meanwhile."""

STEADY = 0.05
"""Warm-up ends where a sample is within this share of the one before."""

DRIFT_LIMIT = 0.10
"""A reference that changes by more than this share within a call spoils the call."""

ON_CPU = 0.97
"""A sample whose thread had the core for a smaller share of the time was descheduled."""

DESCHEDULED_LIMIT = 0.10
"""A measurement of which a greater share of the samples was descheduled is disturbed."""

FOREIGN_LIMIT = 0.20
"""A measurement is disturbed while others use more of the CPUs: memory and clocks are shared."""

ATTEMPTS = 3
"""Disturbed networks are measured so often in all; the least disturbed attempt counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Time of one forward pass of one batch."""

    median_ms: float
    low_ms: float
    """Lower end of the interval that holds the median with 95 % (order statistics)."""
    high_ms: float
    repeats: int
    """Samples that count, one a round."""
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
    descheduled: float = 0.0
    """Share of the rounds in which the system gave the core to somebody else; 0 on a GPU."""
    foreign: float | None = None
    """Share of the CPUs that others used meanwhile; None where that is not known."""

    @property
    def steady(self) -> bool:
        """Whether the device kept its speed."""
        return abs(self.drift) <= DRIFT_LIMIT

    @property
    def disturbed(self) -> bool:
        """Whether something else may have slowed the network down; measure again where it did."""
        return (
            not self.steady
            or self.descheduled > DESCHEDULED_LIMIT
            or (self.foreign is not None and self.foreign > FOREIGN_LIMIT)
        )


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
    backend: Backend = "torch",
) -> list[Latency]:
    """Time networks on random images, each round all of them in turn and the reference last.

    float32, inference mode. Give merged networks: the latency of a training form says nothing. They
    are moved to the device and put in eval mode; nothing else may run meanwhile.

    Args:
        networks: what to time.
        reference: the same network in every call of a run; shows drift, and makes calls comparable.
        size: height and width of an image in pixels.
        channels: of an image.
        device: where to time.
        batch_size: images of one forward pass.
        threads: of the CPU; torch's number is put back.
        budget_s: seconds to spend on a network, warm-up included, unless 9 rounds take longer; up
            to three times that where the measurement is disturbed.
        backend: what runs the networks; see `evaluators.passes.forward_pass`.

    Returns:
        One `Latency` a network, in their order.
    """
    every = prepared(
        [*networks, reference],
        size=size,
        channels=channels,
        device=device,
        batch_size=batch_size,
        threads=threads,
        backend=backend,
    )
    return time_passes(every[:-1], every[-1], device=device, threads=threads, budget_s=budget_s)


def prepared(
    networks: Sequence[nn.Module | bytes],
    *,
    size: tuple[int, int],
    channels: int,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    threads: int = 1,
    backend: Backend = "torch",
) -> list[Pass]:
    """Do all that is needed before networks are timed on random images, export and capture.

    Nobody has to keep quiet meanwhile. The arguments are those of `measure_latency`; for ONNX
    Runtime a network may also be its model.
    """
    images = torch.randn((batch_size, channels, *size), generator=torch.Generator().manual_seed(0))
    images = images.to(device)
    return [forward_pass(each, images, backend=backend, threads=threads) for each in networks]


def time_passes(
    passes: Sequence[Pass],
    reference: Pass,
    *,
    device: torch.device | str = "cpu",
    threads: int = 1,
    budget_s: float = 0.3,
) -> list[Latency]:
    """Time what `prepared` gave; see `measure_latency`."""
    device = torch.device(device)
    sampled = partial(_cuda_sample, device) if device.type == "cuda" else _cpu_sample
    attempts: list[list[Latency]] = []
    with quiet(threads), torch.inference_mode():
        while len(attempts) < ATTEMPTS:
            attempts.append(_attempt([*passes, reference], sampled, device, budget_s))
            if not any(latency.disturbed for latency in attempts[-1]):
                break
    return min(attempts, key=_disturbance)


def separable(intervals: Sequence[tuple[float, float]]) -> list[bool]:
    """Say of each network whether its interval overlaps with that of neither neighbour in latency.

    Args:
        intervals: both ends of the 95 % interval of each network's latency, beside one reference.
    """
    order = sorted(range(len(intervals)), key=lambda i: sum(intervals[i]))
    apart = [True] * len(intervals)
    for faster, slower in pairwise(order):
        if intervals[faster][1] >= intervals[slower][0]:
            apart[faster] = apart[slower] = False
    return apart


def device_facts(device: torch.device | str = "cpu", *, threads: int = 1) -> dict[str, Any]:
    """Give what must stand beside a latency: device, clocks and software, where known.

    Of a GPU that this machine does not have, as the driver of a cluster, it knows the kind alone.
    """
    device = torch.device(device)
    facts: dict[str, Any] = {"device": device.type, "torch": str(torch.__version__)}
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            return facts
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


class _Sample(NamedTuple):
    ms: float
    """Milliseconds of one forward pass, as the mean of so many in a row."""
    own_ms: float
    """Part of it in which this thread had the core; all of it where that is not asked for."""

    @property
    def quiet(self) -> bool:
        """Whether nobody else had the core meanwhile."""
        return self.own_ms >= ON_CPU * self.ms


_Sampled = Callable[[Pass, int], _Sample]
"""Times a pass that is repeated so often."""


def _attempt(
    passes: Sequence[Pass], sampled: _Sampled, device: torch.device, budget_s: float
) -> list[Latency]:
    """Warm all passes up, then time them in turn, the last one beside each other."""
    began = time.perf_counter()
    inner = [_warmed_up(sampled, forward, device, budget_s / 3) for forward in passes]
    until = began + budget_s * len(passes)
    rounds: list[list[_Sample]] = []
    load = CpuLoad()
    while len(rounds) < MIN_ROUNDS or (len(rounds) < MAX_ROUNDS and time.perf_counter() < until):
        rounds.append([sampled(each, times) for each, times in zip(passes, inner, strict=True)])
    foreign = load.foreign()
    *columns, base = zip(*rounds, strict=True)
    return [_summary(column, base, foreign=foreign) for column in columns]


def _disturbance(found: Sequence[Latency]) -> tuple[int, float]:
    """Rank an attempt: by how many networks were disturbed in it, then by how much."""
    much = sum(latency.descheduled + (latency.foreign or 0) for latency in found)
    return sum(latency.disturbed for latency in found), much


def _summary(
    times: Sequence[_Sample], base: Sequence[_Sample], *, foreign: float | None
) -> Latency:
    pairs = list(zip(times, base, strict=True))
    kept = [(own.ms, other.ms) for own, other in pairs if own.quiet and other.quiet]
    descheduled = 1 - len(kept) / len(pairs)
    if len(kept) < MIN_ROUNDS:
        # Better than time that others had, though their traces in the caches are part of it.
        kept = [(own.own_ms, other.own_ms) for own, other in pairs]
    own_ms, base_ms = zip(*kept, strict=True)
    low, high = median_interval(own_ms)
    ratios = [own / other for own, other in kept]
    relative_low, relative_high = median_interval(ratios)
    half = len(base_ms) // 2
    return Latency(
        median_ms=statistics.median(own_ms),
        low_ms=low,
        high_ms=high,
        repeats=len(own_ms),
        relative=statistics.median(ratios),
        relative_low=relative_low,
        relative_high=relative_high,
        reference_ms=statistics.median(base_ms),
        drift=statistics.median(base_ms[half:]) / statistics.median(base_ms[:half]) - 1,
        descheduled=descheduled,
        foreign=foreign,
    )


def _cpu_sample(forward: Pass, repeat: int) -> _Sample:
    # The thread's own clock stands still while another process has the core.
    own_start, start = time.thread_time_ns(), time.perf_counter_ns()
    for _ in range(repeat):
        forward()
    end, own_end = time.perf_counter_ns(), time.thread_time_ns()
    return _Sample((end - start) / 1e6 / repeat, (own_end - own_start) / 1e6 / repeat)


def _cuda_sample(device: torch.device, forward: Pass, repeat: int) -> _Sample:
    """Time passes between two events of the GPU.

    Its L2 cache is warm: each pass reads the weights and images of the one before, as a stream of
    single images would leave the weights.
    """
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    start.record()
    for _ in range(repeat):
        forward()
    end.record()
    torch.cuda.synchronize(device)
    ms = float(start.elapsed_time(end)) / repeat
    return _Sample(ms, ms)


def _warmed_up(sampled: _Sampled, forward: Pass, device: torch.device, budget_s: float) -> int:
    """Run a network until its time is steady or the budget is spent; give the calls a sample."""
    began = time.perf_counter()
    last = sampled(forward, WARMUP_CALLS[device.type]).ms
    while True:
        now = sampled(forward, _repeats(last)).ms
        if abs(now - last) <= STEADY * last or time.perf_counter() - began > budget_s:
            return _repeats(now)
        last = now


def _repeats(ms: float) -> int:
    return max(1, round(SAMPLE_MS / max(ms, 1e-6)))


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
