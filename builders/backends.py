"""Which backend computes which depthwise convolutions while a network trains.

reference  torch's own convolutions and batch norms, in the layout that comes; any dtype and device
torch      exact gradients written as operators that torch has fast kernels for; no compiler needed
native     compiled: all branches of a channel in the cache; float32 on a CPU
cuda       torch's own, channels_last: what a GPU's library has its kernels for

Letters of the shapes: B images, C channels, H and W sides of the map, R batch norms: those of the
branches in their order, then that of the sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn

BackendName = Literal["reference", "torch", "native", "cuda"]
BACKEND_NAMES: tuple[BackendName, ...] = get_args(BackendName)

Kernel = tuple[int, int, int]
"""Rows, columns and dilation."""


class SumShape(NamedTuple):
    """What a backend computes: y = L(sum_j N_j(conv_j(x))) on maps (B, C, H, W)."""

    images: int
    width: int
    rows: int
    columns: int
    kernels: tuple[Kernel, ...]
    """One a branch."""
    normed: bool
    """Whether every branch has a batch norm N_j."""
    last: bool
    """Whether the sum has one, L."""

    @property
    def key(self) -> str:
        """Name it, as in `32x24x14x14 13x13 5x5 3x3/4 norm last`."""
        words = ["x".join(map(str, self[:4]))]
        words += [f"{h}x{w}" + (f"/{r}" if r > 1 else "") for h, w, r in self.kernels]
        return " ".join([*words, *["norm"] * self.normed, *["last"] * self.last])


@dataclass(frozen=True, kw_only=True, slots=True)
class Backends:
    """A backend for every shape: what was chosen for it, or else the one for the rest."""

    rest: BackendName | None = None
    """For shapes that are not in `chosen`; None: native where there is a `library`, or else torch,
    on a CPU, and cuda on anything else."""
    chosen: Mapping[str, BackendName] = field(default_factory=dict)
    """By `SumShape.key`."""
    library: str | None = None
    """File of the compiled backend: see `builders.native.compiled`."""

    @property
    def native(self) -> bool:
        """Whether layers other than depthwise sums run in the compiled library."""
        return self.library is not None and self.rest in (None, "native")

    def of(self, shape: SumShape, device: str) -> BackendName:
        """Give the backend for a shape on a type of device."""
        found = self.chosen.get(shape.key, self.rest) if self.chosen else self.rest
        if found is not None:
            return found
        if device != "cpu":
            return "cuda"
        return "torch" if self.library is None else "native"


AUTO = Backends()
"""Needs no compiler and no probe."""


def use_backends(network: nn.Module, backends: Backends) -> None:
    """Tell every module that asks for backends, which is to have an attribute of that name."""
    for module in network.modules():
        if hasattr(module, "backends"):
            module.backends = backends  # type: ignore[assignment]  # torch's stubs


@dataclass(frozen=True, kw_only=True, slots=True)
class SumSpec:
    """What is summed."""

    kernels: tuple[Kernel, ...]
    normed: bool
    """Whether every branch has a batch norm."""
    last: bool
    """Whether the sum has one."""
    eps: tuple[float, ...]
    """Of the R batch norms."""


class Backend(Protocol):
    """What computes a normed sum and its gradient; maps are channels_last."""

    def forward(
        self,
        x_BCHW: Tensor,
        weights: Sequence[Tensor],
        scale_RC: Tensor,
        offset_RC: Tensor,
        spec: SumSpec,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give y, and the mean and biased variance of what every batch norm normalises, (R, C)."""

    def backward(
        self,
        grad_BCHW: Tensor,
        x_BCHW: Tensor,
        weights: Sequence[Tensor],
        scale_RC: Tensor,
        offset_RC: Tensor,
        mean_RC: Tensor,
        var_RC: Tensor,
        spec: SumSpec,
        *,
        weights_too: bool,
    ) -> tuple[Tensor, Sequence[Tensor | None], Tensor, Tensor]:
        """Give the gradients of x, of every weight (None where not wanted), scales and offsets."""


def runs_eagerly() -> bool:
    """Say whether torch is neither tracing, compiling nor exporting: these want plain operators."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not tracing and not torch.compiler.is_compiling()
