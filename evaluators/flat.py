"""Parameters that lie behind one another in memory, so that an optimiser sees one tensor of them.

The fused AdamW of torch takes longer to go over the list of a small network's parameters than to
compute: with them in one tensor, an optimiser step has one call instead of one for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ALIGNMENT = 16
"""Elements: in float32 a cache line of 64 bytes. Every parameter begins at a multiple of it."""


@contextmanager
def flattened(parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Keep parameters and their gradients in a flat tensor each for a `with` block.

    In the block a parameter is a view with the shape and strides it had, and so is its gradient,
    which every backward pass adds to: zero the gradient of the flat tensors before it, and never
    set one of a parameter. A parameter that no loss reaches has a gradient of zero there, not None:
    an optimiser moves it by its moments and decays it. Behind the block, also after an exception,
    every parameter has memory of its own again, and no gradient.

    Args:
        parameters: each once and without common memory; those that need no gradient are left alone.

    Yields:
        Tensors with a gradient, one for each dtype and device among the parameters; the gaps
        between parameters are zero and stay so under any elementwise optimiser.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for parameter in trained:
        kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    try:
        yield [_joined(alike) for alike in kinds.values()]
    finally:
        for parameter in trained:
            parameter.grad = None
            parameter.data = parameter.detach().clone()


def _joined(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Move parameters of one kind into a flat tensor, which has a gradient as they have."""
    starts, end = [], 0
    for parameter in parameters:
        starts.append(end)
        end += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
    flat = parameters[0].new_zeros(end)
    flat.grad = torch.zeros_like(flat)
    for parameter, start in zip(parameters, starts, strict=True):
        # Dense strides in the order of the parameter's own: those of channels last where it has it.
        strides = torch.empty_like(parameter).stride()
        view = flat.as_strided(parameter.shape, strides, start)
        parameter.data = view.copy_(parameter.detach())
        parameter.grad = flat.grad.as_strided(parameter.shape, strides, start)
    return flat
