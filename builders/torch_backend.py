"""The backend without a compiler: a normed sum and its gradient as operators torch is fast at.

torch computes the weight gradient of a depthwise kernel of more than 3 columns on a CPU at a few
per cent of the speed of a forward pass, and every gradient of a dilated one likewise (torch 2.13,
AVX2 and AVX-512). `builders.torch_convolutions` has exact rewritings; here are the norms.

Letters of the shapes: B images, C channels, H and W sides of the map, Kh and Kw of a kernel, R
batch norms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from builders.backends import SumSpec
from builders.torch_convolutions import Operand, convolve, weight_gradient


def forward(
    x_BCHW: Tensor,
    weights: Sequence[Tensor],
    scale_RC: Tensor,
    offset_RC: Tensor,
    spec: SumSpec,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give y, and mean and biased variance of what every batch norm normalises."""
    x = Operand(x_BCHW)
    means: list[Tensor] = []
    variances: list[Tensor] = []

    def factor(centred_BCHW: Tensor) -> Tensor:
        """Give what the next norm multiplies with, (C, 1, 1)."""
        number = len(variances)
        variances.append(centred_BCHW.square().mean(dim=(0, 2, 3)))
        return _wide(torch.rsqrt(variances[-1] + spec.eps[number]) * scale_RC[number])

    sum_BCHW: Tensor | None = None
    for weight, kernel in zip(weights, spec.kernels, strict=True):
        y_BCHW = convolve(x, weight, kernel[2])
        if not spec.normed:
            sum_BCHW = y_BCHW if sum_BCHW is None else sum_BCHW.add_(y_BCHW)
            continue
        means.append(_subtract_mean(y_BCHW))
        factor_C11 = factor(y_BCHW)
        if sum_BCHW is None:
            sum_BCHW = y_BCHW.mul_(factor_C11)
        else:
            sum_BCHW.addcmul_(y_BCHW, factor_C11)
    assert sum_BCHW is not None
    if spec.last:
        # The sum of centred maps is centred.
        means.append(offset_RC[:-1].sum(0) if spec.normed else _subtract_mean(sum_BCHW))
        sum_BCHW = torch.addcmul(_wide(offset_RC[-1]), sum_BCHW, factor(sum_BCHW))
    elif spec.normed:
        sum_BCHW += _wide(offset_RC.sum(0))
    if not means:
        return sum_BCHW, scale_RC.clone(), scale_RC.clone()
    return sum_BCHW, torch.stack(means), torch.stack(variances)


def backward(
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
    x, branches = Operand(x_BCHW), len(weights)
    grad_scale, grad_offset = torch.empty_like(scale_RC), torch.empty_like(offset_RC)
    inverse_RC = torch.rsqrt(var_RC + var_RC.new_tensor(spec.eps).view(-1, 1))
    factor_RC = inverse_RC * scale_RC

    def centred(number: int) -> Tensor:
        """Convolve again: keeping every branch for this would take a map each."""
        y_BCHW = convolve(x, weights[number], spec.kernels[number][2])
        return y_BCHW.sub_(_wide(mean_RC[number])) if spec.normed else y_BCHW

    def through_norm(grad_BCHW: Tensor, y_BCHW: Tensor, number: int) -> Tensor:
        """Give the gradient of y, but for the norm's factor; both maps are centred."""
        grad_scale[number] = (grad_BCHW * y_BCHW).sum(dim=(0, 2, 3)) * inverse_RC[number]
        count = grad_BCHW.numel() // grad_BCHW.shape[1]
        slope_C = grad_scale[number] * inverse_RC[number] / -count
        return torch.addcmul(grad_BCHW, y_BCHW, _wide(slope_C))

    kept: list[Tensor | None] = [None] * branches
    if spec.last:
        sum_BCHW = torch.zeros_like(grad_BCHW)
        for number in range(branches):
            y_BCHW = centred(number)
            if spec.normed:
                kept[number] = y_BCHW
                sum_BCHW.addcmul_(y_BCHW, _wide(factor_RC[number]))
            else:
                sum_BCHW += y_BCHW
        if not spec.normed:
            sum_BCHW -= _wide(mean_RC[-1])
        grad_BCHW, grad_offset[-1] = _centred(grad_BCHW)
        grad_BCHW = through_norm(grad_BCHW, sum_BCHW, -1).mul_(_wide(factor_RC[-1]))
    if spec.normed:
        grad_BCHW, grad_offset[:branches] = _centred(grad_BCHW)
    grad_x: Tensor | None = None
    grad_weights: list[Tensor | None] = [None] * branches
    for number, (weight, kernel) in enumerate(zip(weights, spec.kernels, strict=True)):
        own_BCHW = grad_BCHW
        if spec.normed:
            y_kept, kept[number] = kept[number], None
            y_BCHW = centred(number) if y_kept is None else y_kept
            own_BCHW = through_norm(grad_BCHW, y_BCHW, number)
        own = Operand(own_BCHW)
        factor_C111 = factor_RC[number].view(-1, 1, 1, 1) if spec.normed else 1
        if weights_too:
            found = weight_gradient(x, own, weight.shape[2:], kernel[2])
            grad_weights[number] = found * factor_C111
        back_BCHW = convolve(own, (weight * factor_C111).flip(2, 3), kernel[2])
        grad_x = back_BCHW if grad_x is None else grad_x.add_(back_BCHW)
    assert grad_x is not None
    return grad_x, grad_weights, grad_scale, grad_offset


def _wide(values_C: Tensor) -> Tensor:
    """Give one number a channel the shape that a map is multiplied with."""
    return values_C.view(-1, 1, 1)


def _subtract_mean(y_BCHW: Tensor) -> Tensor:
    """Centre a map in place, and give the means, (C).

    The variance is taken of what is left: E[y^2] - E[y]^2 would lose it beside a large mean. (On
    channels_last maps torch.var_mean takes 10 times as long, and torch's batch norm adds up in
    sequence: on 400,000 pixels its variance is wrong by 1e-4.)
    """
    mean_C = y_BCHW.mean(dim=(0, 2, 3))
    y_BCHW -= _wide(mean_C)
    return mean_C


def _centred(y_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Give the map without the mean of every channel, and the sum of every channel, (C)."""
    sum_C = y_BCHW.sum(dim=(0, 2, 3))
    return y_BCHW - _wide(sum_C * (y_BCHW.shape[1] / y_BCHW.numel())), sum_C
