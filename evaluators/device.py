"""How a device is prepared for training and evaluation: layout, precision, kernels, allocator."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
from collections.abc import Iterator

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
