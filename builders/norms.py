"""Layer norm and batch norm of small maps, in training, by the native backend.

torch's norms are slow on maps of few channels; ours take several pixels in a vector. Microseconds
of forward and backward together, torch's and ours (1 thread of an AVX-512 EPYC, torch 2.13):

    map                 layer norm     batch norm
    (32, 4, 14, 14)     601    105     265    100
    (32, 8, 14, 14)     267    142     168    123
    (32, 24, 14, 14)    423    361     232    154
    (32, 32, 7, 7)      127    137     177    157
    (64, 128, 4, 4)     152    280     206    158
    (32, 96, 14, 14)    681   1573     802    656
    (8, 512, 4, 4)       81    173     102    127
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from builders.backends import Backends, runs_eagerly
from builders.native import Native, loaded
from builders.normed_sum import follow

MOST_CHANNELS = 24
"""Of a layer norm: with more, torch's own is faster."""
MOST_BATCH_CHANNELS = 256
"""Of a batch norm: maps of more channels have few pixels."""


def native_layer_norm(x_BCHW: Tensor, norm: nn.LayerNorm, backends: Backends) -> Tensor | None:
    """Give the norm over the channels of every pixel; None where the native one does not run."""
    if not _runs(x_BCHW, norm.weight, backends, MOST_CHANNELS) or not x_BCHW.numel():
        return None
    assert backends.library is not None
    y_BCHW: Tensor = _LayerNorm.apply(  # type: ignore[no-untyped-call]
        x_BCHW, norm.weight, norm.bias, norm.eps, loaded(backends.library)
    )
    return y_BCHW


def native_batch_norm(x_BCHW: Tensor, norm: nn.BatchNorm2d, backends: Backends) -> Tensor | None:
    """Give the norm over all pixels, and update the running statistics as `nn.BatchNorm2d` does.

    None, with nothing updated, where the native one does not run: also for a single value a
    channel, which torch refuses in its own words.
    """
    runs = (
        norm.training
        and norm.track_running_stats
        and _runs(x_BCHW, norm.weight, backends, MOST_BATCH_CHANNELS)
        and x_BCHW.numel() > x_BCHW.shape[1]
    )
    if not runs:
        return None
    assert backends.library is not None
    y_BCHW: Tensor = _BatchNorm.apply(  # type: ignore[no-untyped-call]
        x_BCHW, norm.weight, norm.bias, norm, loaded(backends.library)
    )
    return y_BCHW


def _runs(x_BCHW: Tensor, gamma_C: Tensor | None, backends: Backends, most_channels: int) -> bool:
    return (
        backends.native
        # The C is of one thread; with more, torch's own norms share the pixels among them.
        and torch.get_num_threads() == 1
        and gamma_C is not None
        and x_BCHW.dim() == 4
        and x_BCHW.shape[1] == gamma_C.shape[0] <= most_channels
        and x_BCHW.device.type == gamma_C.device.type == "cpu"
        and x_BCHW.dtype == gamma_C.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and runs_eagerly()
    )


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, gamma_C: Tensor, beta_C: Tensor, eps: float, native: Native
    ) -> Tensor:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x_BCHW, gamma_C)
        ctx.eps, ctx.native = eps, native
        return native.layer_norm(x_BCHW, gamma_C, beta_C, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, gamma_C = ctx.saved_tensors
        grad_BCHW = grad_BCHW.contiguous(memory_format=torch.channels_last)
        return *ctx.native.layer_norm_back(x_BCHW, gamma_C, grad_BCHW, ctx.eps), None, None


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        gamma_C: Tensor,
        beta_C: Tensor,
        norm: nn.BatchNorm2d,
        native: Native,
    ) -> Tensor:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        y_BCHW, mean_C, var_C = native.batch_norm(x_BCHW, gamma_C, beta_C, norm.eps)
        ctx.save_for_backward(x_BCHW, gamma_C, mean_C, var_C)
        ctx.eps, ctx.native = norm.eps, native
        # Here autograd does not record: half the price of doing it behind.
        follow(norm, mean_C, var_C, x_BCHW.numel() // x_BCHW.shape[1])
        return y_BCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, gamma_C, mean_C, var_C = ctx.saved_tensors
        grad_BCHW = grad_BCHW.contiguous(memory_format=torch.channels_last)
        grads = ctx.native.batch_norm_back(x_BCHW, gamma_C, mean_C, var_C, grad_BCHW, ctx.eps)
        return *grads, None, None
