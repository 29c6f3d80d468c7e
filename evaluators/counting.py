"""Multiply-adds counted on a built network: by fvcore's trace, and by torch on the meta device."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from builders.network import Network, build_network, inference_network, published_network
from search_space.architecture import Architecture

MAC_OPERATORS = ("conv", "linear", "addmm", "mm", "matmul", "bmm", "einsum")
"""fvcore's names of the operators whose multiply-adds are `macs`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What was counted on a network for one image."""

    params: int
    macs: int
    """Multiply-adds of convolutions, linear layers and matrix products."""
    fvcore_total: int
    """fvcore's total, which adds its own numbers for norms and pooling."""
    by_operator: dict[str, int]
    """fvcore's total by operator."""
    uncounted: dict[str, int]
    """Calls of operators that fvcore counts as zero, by name."""


def count(network: nn.Module, size: tuple[int, int], channels: int) -> Counted:
    """Count the network in eval mode, on one image of `size` (height, width) pixels.

    fvcore traces a real forward pass; on the meta device it fails ("cond must be a bool", fvcore
    0.1.5, torch 2.13), because there torch never reaches the operator that it records. So it gets a
    copy on the CPU whose weights are all one zero in memory. A network of any size, on any device
    (meta too), is counted in the memory of its activations and its largest layer.

    Raises:
        Whatever the network raises where it cannot take such an image.
    """
    fvcore = _fvcore()
    image = torch.zeros(1, channels, *size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about shapes that become constants
        analysis = fvcore.FlopCountAnalysis(_hollow(network).eval(), image)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operator = {name: int(macs) for name, macs in analysis.by_operator().items()}
        uncounted = {name: int(calls) for name, calls in analysis.unsupported_ops().items()}
    return Counted(
        params=num_params(network),
        macs=sum(by_operator.get(name, 0) for name in MAC_OPERATORS),
        fvcore_total=sum(by_operator.values()),
        by_operator=by_operator,
        uncounted=uncounted,
    )


def meta_macs(architecture: Architecture, num_classes: int, *, form: str = "train") -> int:
    """Count multiply-adds on the meta device with torch's FlopCounterMode, halved.

    This is the second opinion beside `count`. Nothing is allocated, and a large network takes as
    long as a small one.

    Args:
        architecture: what to count.
        num_classes: number of logits.
        form: "train", "merged" (as its authors publish it) or "inference"; see `Cost`.
    """
    with torch.device("meta"):
        trained = build_network(architecture, num_classes)
        image = torch.empty(1, architecture.channels, *architecture.size)
    network = _FORMS[form](trained)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(image)
    return counter.get_total_flops() // 2


_FORMS: dict[str, Callable[[Network], nn.Module]] = {
    "train": lambda network: network,
    "merged": published_network,
    "inference": inference_network,
}


def num_params(network: nn.Module) -> int:
    """Count the parameters; one that is used twice counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def _hollow(network: nn.Module) -> nn.Module:
    """Copy the network onto the CPU with every tensor a view of a single zero."""
    memo: dict[int, object] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(_zeros_like(parameter), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = _zeros_like(buffer)
    return copy.deepcopy(network, memo)


def _zeros_like(tensor: Tensor) -> Tensor:
    # float32 even for half-precision networks: the image is, and the count is the same.
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.zeros((), dtype=dtype).expand(tensor.shape)


def _fvcore() -> ModuleType:
    """Import fvcore on first use: it takes a second and warns of TorchScript's end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fvcore.nn as fvcore
    module: ModuleType = fvcore
    return module
