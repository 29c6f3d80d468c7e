"""What other processes take of the CPUs of this machine while something is measured."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import psutil

BUSY_KINDS = ("user", "nice", "system", "irq", "softirq", "steal")
"""What counts as use of a CPU; `steal` is what the host of a virtual machine took from it."""


class CpuLoad:
    """The load that others put on the CPUs which this process may use, from its making on."""

    def __init__(self) -> None:
        self._cpus = available_cpus()
        self._began = time.perf_counter()
        self._own_s = time.process_time()
        self._busy_s = _busy_s(self._cpus)

    def foreign(self) -> float | None:
        """Give the share of the CPUs that others used so far; None where the system tells nothing.

        Linux counts in ticks of 10 ms, so a tenth of a second on two CPUs is known to about 0.1.
        """
        busy_s = _busy_s(self._cpus)
        if busy_s is None or self._busy_s is None:
            return None
        others_s = busy_s - self._busy_s - (time.process_time() - self._own_s)
        return max(0.0, others_s / len(self._cpus) / (time.perf_counter() - self._began))


def available_cpus() -> list[int]:
    """Give the numbers of the CPUs that this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _busy_s(cpus: Sequence[int]) -> float | None:
    """Give the seconds since boot that these CPUs were busy."""
    try:
        every = psutil.cpu_times(percpu=True)
        return sum(sum(getattr(every[cpu], kind, 0.0) for kind in BUSY_KINDS) for cpu in cpus)
    except (OSError, RuntimeError, IndexError):
        return None
