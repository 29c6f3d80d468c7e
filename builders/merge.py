"""Folding and placing: pure functions that keep the dtype and device of their operands."""

from __future__ import annotations

import torch
from torch import Tensor


def fold_norm(
    weight: Tensor,
    bias: Tensor | None,
    *,
    mean: Tensor,
    var: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Give weight and bias of the layer that equals `layer -> batch norm` with fixed statistics.

    With s = gamma / sqrt(var + eps): weight * s and beta + (bias - mean) * s.

    Args:
        weight: (C_out, ...) of a convolution or linear layer.
        bias: (C_out) or None for zero.
        mean: the norm's running mean, (C_out).
        var: its running variance, (C_out).
        gamma: its factor, (C_out).
        beta: what it adds at the end, (C_out).
        eps: what it adds to the variance.
    """
    scale = gamma / torch.sqrt(var + eps)
    shift = -mean if bias is None else bias - mean
    return scale_output(weight, scale), beta + shift * scale


def scale_output(weight: Tensor, scale: Tensor) -> Tensor:
    """Multiply the rows of a weight (C_out, ...) by `scale` (C_out)."""
    return weight * scale.view(-1, *(1,) * (weight.dim() - 1))


def dilated_to_dense(kernel: Tensor, dilation: int) -> Tensor:
    """Write the zeros of a dilated kernel: (..., k, k) to (..., (k - 1) r + 1, (k - 1) r + 1)."""
    side = (kernel.shape[-1] - 1) * dilation + 1
    dense = kernel.new_zeros(*kernel.shape[:-2], side, side)
    dense[..., ::dilation, ::dilation] = kernel
    return dense


def place_kernel(kernel: Tensor, sides: int | tuple[int, int]) -> Tensor:
    """Put a small odd kernel in the middle of a zero one: (..., kh, kw) to (..., *sides).

    Convolving with both gives the same map when each is padded by half its sides.

    Raises:
        ValueError: where the kernel is larger than `sides`, or their middles do not meet.
    """
    height, width = (sides, sides) if isinstance(sides, int) else sides
    small_height, small_width = kernel.shape[-2:]
    above, odd_rows = divmod(height - small_height, 2)
    left, odd_columns = divmod(width - small_width, 2)
    if min(above, left) < 0 or odd_rows or odd_columns:
        raise ValueError(
            f"a {small_height} x {small_width} kernel has no place in the middle of "
            f"{height} x {width}"
        )
    large = kernel.new_zeros(*kernel.shape[:-2], height, width)
    large[..., above : above + small_height, left : left + small_width] = kernel
    return large


def absorb_input(
    weight: Tensor, bias: Tensor | None, *, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Give weight and bias of the layer that equals `layer(scale * x + shift)`.

    Only for a layer without padding: a linear one or a 1x1 convolution.

    Args:
        weight: (C_out, C_in, ...), of one tap.
        bias: (C_out) or None for zero.
        scale: what multiplies every input channel, (C_in).
        shift: what is added to it, (C_in).
    """
    pushed = push_bias(weight.flatten(1), bias, shift)
    return weight * scale.view(1, -1, *(1,) * (weight.dim() - 2)), pushed


def push_bias(weight: Tensor, bias: Tensor | None, before: Tensor) -> Tensor:
    """Give the bias of a linear layer that takes over a constant added to its input.

    W (x + before) + bias = W x + (W before + bias).

    Args:
        weight: (C_out, C_in).
        bias: (C_out) or None for zero.
        before: (C_in), such as the additive parameter of global response normalisation.
    """
    pushed = weight @ before
    return pushed if bias is None else pushed + bias
