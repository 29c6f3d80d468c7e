"""How a device is prepared for training and evaluation: layout, precision, kernels, allocator."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import resource
import sys
from collections.abc import Callable, Iterator

import psutil
import torch
from torch import nn

logger = logging.getLogger(__name__)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to the device, its kernels channels last."""
    # torch's stubs know each argument of `to`, not the two together.
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def precision(device: torch.device) -> torch.autocast:
    """Give the precision of a forward pass: bfloat16 on a GPU that has it, float32 elsewhere.

    On a CPU bfloat16 is no gain: without AVX512-BF16 its products are 60 times slower (torch 2.13).
    """
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


@contextlib.contextmanager
def fastest_kernels(device: torch.device) -> Iterator[None]:
    """Let cuDNN time its kernels for every new shape; the shapes of a training never change.

    The caller's setting is put back.
    """
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(benchmark=True):
        yield


def limit_memory(device: torch.device, share: float) -> None:
    """Let this process take that part of a GPU's memory and no more; elsewhere nothing happens."""
    if device.type == "cuda" and share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


def peak_memory(device: torch.device) -> Callable[[], int]:
    """Begin to watch memory; what is given tells the most bytes taken since.

    On a GPU those of torch's tensors. Elsewhere those of the whole process, as the system counts
    them, without pages of files (libraries, mapped images), which Linux alone tells apart: made for
    a process that does one thing and ends, it also counts what was taken and given back before.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_allocated(device)
    process = psutil.Process()
    unit = 1 if sys.platform == "darwin" else 1024

    def of_files() -> int:
        return getattr(process.memory_info(), "shared", 0)

    begin = process.memory_info().rss - of_files()

    def peak() -> int:
        most = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return max(0, most - of_files() - begin)

    return peak


@contextlib.contextmanager
def quiet(threads: int) -> Iterator[None]:
    """Fix torch's number of threads and hold back the garbage collector, for what is timed."""
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


def tune_allocator() -> None:
    """Make glibc keep freed memory instead of giving it back after every large operator.

    Saves 6 to 17 % of a training step on the CPU (torch 2.13, x86), where page faults cost more
    than the memory. A process calls it once, before it trains; without glibc nothing happens.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names and numbers of malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 1 << 28)
    except (OSError, AttributeError):
        logger.debug("no glibc: its allocator is left as it is")
