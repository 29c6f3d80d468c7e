"""Depthwise convolutions of one map, each with its batch norm, summed: one function over all.

    y = L(sum_j N_j(conv_j(x)))

conv_j is a depthwise convolution at stride 1, N_j and L are batch norms in training, or nothing.
Backends compute it and its gradient; what autograd keeps is x.

Letters of the shapes: B images, C channels, H and W sides of the map, Kh and Kw of a kernel, R
batch norms: those of the branches in their order, then that of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from builders import torch_backend
from builders.backends import Backend, Backends, Kernel, SumShape, SumSpec, runs_eagerly
from builders.native import MOST_BRANCHES, loaded


def normed_sum(
    x_BCHW: Tensor,
    weights: Sequence[Tensor],
    dilations: Sequence[int],
    norms: Sequence[nn.BatchNorm2d],
    last: nn.BatchNorm2d | None,
    backends: Backends,
) -> Tensor | None:
    """Give the normed sum of a map, with batch statistics, and update the running ones.

    Args:
        x_BCHW: the map.
        weights: (C, 1, Kh, Kw) for every branch, Kh and Kw odd.
        dilations: of every branch.
        norms: batch norms of the branches, all in training; or none at all.
        last: batch norm of the sum, in training.
        backends: which backend takes which shape.

    Returns:
        The sum; None where the modules that hold the parameters are to compute it: in a dtype that
        no backend has, autocast, tracing, evaluation, and a lone convolution that `reference` or
        `cuda` was chosen for.
    """
    every = [*norms, *([] if last is None else [last])]
    if not _fast(x_BCHW, weights, every, dilated=max(dilations) > 1):
        return None
    kernels = tuple((w.shape[2], w.shape[3], r) for w, r in zip(weights, dilations, strict=True))
    spec = SumSpec(
        kernels=kernels,
        normed=bool(norms),
        last=last is not None,
        eps=tuple(norm.eps for norm in every),
    )
    images, width, rows, columns = x_BCHW.shape
    shape = SumShape(images, width, rows, columns, kernels, spec.normed, spec.last)
    name = backends.of(shape, x_BCHW.device.type)
    backend: Backend = torch_backend
    if name in ("reference", "cuda"):
        # A module would ask again for each of its branches, which may have another backend.
        return _plain(x_BCHW, weights, kernels, norms, last) if every else None
    fits = x_BCHW.dtype == torch.float32 and len(kernels) <= MOST_BRANCHES
    if name == "native" and backends.library is not None and fits:
        backend = loaded(backends.library)
    if every:
        scale_RC = torch.stack([norm.weight for norm in every])
        offset_RC = torch.stack([norm.bias for norm in every])
    else:
        scale_RC = offset_RC = x_BCHW.new_empty(0, width)
    y_BCHW: Tensor
    y_BCHW, mean_RC, var_RC = _NormedSum.apply(  # type: ignore[no-untyped-call]
        x_BCHW, scale_RC, offset_RC, backend, spec, *weights
    )
    _follow(every, mean_RC, var_RC, images * rows * columns)
    return y_BCHW


def _plain(
    x_BCHW: Tensor,
    weights: Sequence[Tensor],
    kernels: Sequence[Kernel],
    norms: Sequence[nn.BatchNorm2d],
    last: nn.BatchNorm2d | None,
) -> Tensor:
    """Give the normed sum by torch's own convolutions and batch norms."""
    sum_BCHW: Tensor | None = None
    for number, (weight, (*sides, dilation)) in enumerate(zip(weights, kernels, strict=True)):
        padding = [dilation * (side // 2) for side in sides]
        y_BCHW = F.conv2d(x_BCHW, weight, None, 1, padding, dilation, weight.shape[0])
        y_BCHW = norms[number](y_BCHW) if norms else y_BCHW
        sum_BCHW = y_BCHW if sum_BCHW is None else sum_BCHW + y_BCHW
    assert sum_BCHW is not None
    return sum_BCHW if last is None else last(sum_BCHW)


class _NormedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        scale_RC: Tensor,
        offset_RC: Tensor,
        backend: Backend,
        spec: SumSpec,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        y_BCHW, mean_RC, var_RC = backend.forward(x_BCHW, weights, scale_RC, offset_RC, spec)
        ctx.save_for_backward(x_BCHW, scale_RC, offset_RC, mean_RC, var_RC, *weights)
        ctx.mark_non_differentiable(mean_RC, var_RC)
        ctx.backend, ctx.spec = backend, spec
        return y_BCHW, mean_RC, var_RC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, scale_RC, offset_RC, mean_RC, var_RC, *weights = ctx.saved_tensors
        grad_BCHW = grad_BCHW.contiguous(memory_format=torch.channels_last)
        grad_x, grad_weights, grad_scale, grad_offset = ctx.backend.backward(
            grad_BCHW,
            x_BCHW,
            weights,
            scale_RC,
            offset_RC,
            mean_RC,
            var_RC,
            ctx.spec,
            weights_too=any(ctx.needs_input_grad[5:]),
        )
        return grad_x, grad_scale, grad_offset, None, None, *grad_weights


def _fast(
    x_BCHW: Tensor,
    weights: Sequence[Tensor],
    norms: Sequence[nn.BatchNorm2d],
    *,
    dilated: bool,
) -> bool:
    """Say whether a backend other than torch's plain operators can take it."""
    dtypes = {x_BCHW.dtype, *(weight.dtype for weight in weights)}
    recorded = torch.is_grad_enabled() and (
        x_BCHW.requires_grad or any(weight.requires_grad for weight in weights)
    )
    return (
        # Without a gradient and without statistics to take, a dense convolution of torch is fast.
        (recorded or bool(norms) or dilated)
        and all(norm.training and norm.track_running_stats for norm in norms)
        and len(dtypes) == 1
        and dtypes <= {torch.float32, torch.float64}
        and not _autocasts(x_BCHW.device.type)
        # torch refuses to normalise a single value, and says so.
        and (not norms or x_BCHW.numel() > x_BCHW.shape[1])
        and runs_eagerly()
    )


def _autocasts(device: str) -> bool:
    # The meta device has no autocast, and torch refuses to be asked about it.
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


@torch.no_grad()
def _follow(norms: Sequence[nn.BatchNorm2d], mean_RC: Tensor, var_RC: Tensor, count: int) -> None:
    for norm, mean_C, var_C in zip(norms, mean_RC, var_RC, strict=True):
        follow(norm, mean_C, var_C, count)


def follow(norm: nn.BatchNorm2d, mean_C: Tensor, var_C: Tensor, count: int) -> None:
    """Move running statistics towards those of `count` values, as `nn.BatchNorm2d` does.

    Args:
        norm: whose statistics move; autograd must not be recording.
        mean_C: of every channel.
        var_C: biased variance of every channel.
        count: number of values of a channel.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean_C, momentum)
    norm.running_var.lerp_(var_C * (count / max(1, count - 1)), momentum)
