"""How a device is prepared: layout, precision, kernels, allocator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evaluators.device import fastest_kernels, place, precision, tune_allocator

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_network_is_placed_channels_last() -> None:
    conv = nn.Conv2d(4, 8, 3)

    assert place(conv, CPU) is conv
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_cpu_computes_in_float32() -> None:
    with precision(CPU):
        y = nn.Linear(2, 2)(torch.ones(1, 2))

    assert y.dtype == torch.float32


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_computes_in_bfloat16_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, *, has: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has)
    # torch switches autocast off where there is no GPU, with a warning; the choice is made before.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)

    chosen = precision(CUDA)

    assert chosen._enabled is has
    assert chosen.fast_dtype == torch.bfloat16


def test_cudnn_times_its_kernels_on_a_gpu_alone_and_forgets_it_afterwards() -> None:
    found = []
    for device in (CUDA, CPU):
        with fastest_kernels(device):
            found.append(torch.backends.cudnn.benchmark)

    assert found == [True, False]
    assert not torch.backends.cudnn.benchmark


def test_the_allocator_can_be_tuned_more_than_once() -> None:
    for _ in range(2):
        tune_allocator()
