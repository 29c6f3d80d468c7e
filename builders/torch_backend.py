"""The backend without a compiler: exact gradients as operators that torch has fast kernels for.

torch computes the weight gradient of a depthwise kernel > 3 on a CPU at a few per cent of the speed
of a forward pass, and the input gradient of a dilated one likewise (torch 2.13, AVX2 and AVX-512).
Both are forward convolutions of other operands, so nothing is approximated.

Letters of the shapes: B images, C channels, H and W sides of the map, Kh and Kw of a kernel, R
batch norms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from builders.backends import SumSpec


def forward(
    x_BCHW: Tensor,
    weights: Sequence[Tensor],
    scale_RC: Tensor,
    offset_RC: Tensor,
    spec: SumSpec,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give y, and mean and biased variance of what every batch norm normalises."""
    means, variances = [], []

    def normalised(y_BCHW: Tensor, number: int) -> Tensor:
        var_C, mean_C = torch.var_mean(y_BCHW, dim=(0, 2, 3), correction=0)
        means.append(mean_C)
        variances.append(var_C)
        inverse_C = torch.rsqrt(var_C + spec.eps[number])
        return _affine(y_BCHW, mean_C, inverse_C * scale_RC[number], offset_RC[number])

    sum_BCHW: Tensor | None = None
    for number, (weight, kernel) in enumerate(zip(weights, spec.kernels, strict=True)):
        y_BCHW = convolve(x_BCHW, weight, kernel[2])
        if spec.normed:
            y_BCHW = normalised(y_BCHW, number)
        sum_BCHW = y_BCHW if sum_BCHW is None else sum_BCHW.add_(y_BCHW)
    assert sum_BCHW is not None
    if spec.last:
        sum_BCHW = normalised(sum_BCHW, len(spec.eps) - 1)
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
    grad_scale, grad_offset = torch.empty_like(scale_RC), torch.empty_like(offset_RC)
    inverse_RC = torch.rsqrt(var_RC + var_RC.new_tensor(spec.eps).view(-1, 1))
    maps: list[Tensor] = []
    if spec.normed or spec.last:
        maps = [convolve(x_BCHW, w, k[2]) for w, k in zip(weights, spec.kernels, strict=True)]

    def through_norm(grad_BCHW: Tensor, y_BCHW: Tensor, number: int) -> Tensor:
        shape = (1, -1, 1, 1)
        hat_BCHW = (y_BCHW - mean_RC[number].view(shape)) * inverse_RC[number].view(shape)
        grad_offset[number] = plain_C = grad_BCHW.sum(dim=(0, 2, 3))
        grad_scale[number] = with_C = (grad_BCHW * hat_BCHW).sum(dim=(0, 2, 3))
        count = grad_BCHW.numel() / grad_BCHW.shape[1]
        centred = (
            grad_BCHW - (plain_C / count).view(shape) - hat_BCHW * (with_C / count).view(shape)
        )
        return centred * (scale_RC[number] * inverse_RC[number]).view(shape)

    if spec.last:
        sum_BCHW = torch.zeros_like(grad_BCHW)
        for number, y_BCHW in enumerate(maps):
            if spec.normed:
                factor_C = inverse_RC[number] * scale_RC[number]
                y_BCHW = _affine(y_BCHW, mean_RC[number], factor_C, offset_RC[number])
            sum_BCHW += y_BCHW
        grad_BCHW = through_norm(grad_BCHW, sum_BCHW, len(spec.eps) - 1)
    grad_x: Tensor | None = None
    grad_weights: list[Tensor | None] = []
    for number, (weight, kernel) in enumerate(zip(weights, spec.kernels, strict=True)):
        own_BCHW = through_norm(grad_BCHW, maps[number], number) if spec.normed else grad_BCHW
        own_BCHW = own_BCHW.contiguous(memory_format=torch.channels_last)
        grad_weights.append(
            _weight_gradient(x_BCHW, own_BCHW, weight.shape[2:], kernel[2]) if weights_too else None
        )
        back_BCHW = convolve(own_BCHW, weight.flip(2, 3), kernel[2])
        grad_x = back_BCHW if grad_x is None else grad_x.add_(back_BCHW)
    assert grad_x is not None
    return grad_x, grad_weights, grad_scale, grad_offset


def _affine(y_BCHW: Tensor, mean_C: Tensor, factor_C: Tensor, offset_C: Tensor) -> Tensor:
    """Give (y - mean) factor + offset."""
    shift_C = offset_C - mean_C * factor_C
    return torch.addcmul(shift_C.view(1, -1, 1, 1), y_BCHW, factor_C.view(1, -1, 1, 1))


def padding(sides: Sequence[int], dilation: int) -> tuple[int, int]:
    """Give the padding that keeps the size of a map."""
    height, width = sides
    return dilation * (height // 2), dilation * (width // 2)


def convolve(x_BCHW: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Convolve, splitting the map where oneDNN has no fast kernel for this dilation.

    Pixels whose positions differ by multiples of the dilation r never meet the others, so the map
    falls into r x r smaller maps on which the kernel is dense. oneDNN's fast depthwise kernel wants
    the padding within one register block: 4 pixels with AVX2, 6 with AVX-512. Beyond, a 15 x 15
    kernel at r = 2 on 28 x 28 falls from 5 ms to 230 (32 channels, 64 images, 1 thread of an EPYC).
    """
    limit = 6 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 4
    sides = padding(weight.shape[2:], dilation)
    if dilation == 1 or max(sides) <= limit:
        return F.conv2d(x_BCHW, weight, None, 1, sides, dilation, weight.shape[0])
    images, width, height, length = x_BCHW.shape
    r, rows, columns = dilation, -(-height // dilation), -(-length // dilation)
    padded = F.pad(x_BCHW, (0, columns * r - length, 0, rows * r - height))
    phases = padded.permute(0, 2, 3, 1).reshape(images, rows, r, columns, r, width)
    phases = phases.permute(0, 2, 4, 1, 3, 5).reshape(images * r * r, rows, columns, width)
    y = convolve(phases.permute(0, 3, 1, 2), weight, 1).permute(0, 2, 3, 1)
    y = y.reshape(images, r, r, rows, columns, width).permute(0, 3, 1, 4, 2, 5)
    y = y.reshape(images, rows * r, columns * r, width)[:, :height, :length]
    return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _weight_gradient(
    x_BCHW: Tensor, grad_BCHW: Tensor, sides: Sequence[int], dilation: int
) -> Tensor:
    """Give dL/dweight, (C, 1, Kh, Kw), by convolving each channel of an image with its gradient.

    The gradient plays the kernel, as large as the map; the dilation of the forward pass becomes the
    stride, because neighbouring taps of the kernel look at pixels that far apart.
    """
    images, width, height, length = x_BCHW.shape
    groups = images * width
    x = x_BCHW.permute(2, 3, 0, 1).reshape(1, height, length, groups).permute(0, 3, 1, 2)
    grad = grad_BCHW.permute(2, 3, 0, 1).reshape(height, length, groups, 1).permute(2, 3, 0, 1)
    each = F.conv2d(x, grad, None, dilation, padding(sides, dilation), 1, groups)
    return each.view(images, width, *sides).sum(0).unsqueeze(1)
