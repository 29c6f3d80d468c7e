"""Depthwise convolutions and their weight gradients from the operators torch is fast at on a CPU.

Exact rewritings, one of which `method` and `gradient_method` name for a shape. A gradient of the
map needs none of its own: it is the convolution with the flipped kernel.

Letters of the shapes: B images, C channels, H and W sides of the map, Kh and Kw of a kernel, P and
Q sides of a Fourier transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Method = Literal["plain", "widened", "padded", "phases", "transform"]
GradientMethod = Literal["plain", "swapped", "phases", "transform", "toeplitz"]

SLOW_COLUMNS = (11, 13)
"""Columns of kernels that are slower with AVX-512 than 15 are."""

LONGEST_SUM = 2**14
"""Pixels that torch's own weight gradient may add up in sequence: of 400,000 the relative error of
float32 is 2e-5, of 16,000 4e-6."""


class Operand:
    """A map (B, C, H, W), channels_last, and what several branches turn it into, made once."""

    def __init__(self, x_BCHW: Tensor) -> None:
        self.x_BCHW = x_BCHW

    @cached_property
    def kernels(self) -> Tensor:
        """Every channel of every image as a depthwise kernel, (B C, 1, H, W)."""
        images, width, rows, columns = self.x_BCHW.shape
        # torch brings a kernel into this order before it runs: any other order is copied twice.
        return self.x_BCHW.contiguous().view(images * width, 1, rows, columns)

    def spectrum(self, lengths: tuple[int, int]) -> Tensor:
        """Give the Fourier transform of every channel, padded to P x Q."""
        found = self._spectra.get(lengths)
        if found is None:
            found = torch.fft.rfft2(self.x_BCHW.contiguous(), lengths)
            self._spectra[lengths] = found
        return found

    @cached_property
    def _spectra(self) -> dict[tuple[int, int], Tensor]:
        return {}


def method(sides: Sequence[int], kernel: Sequence[int], dilation: int) -> Method:
    """Say how to convolve a map of H x W with Kh x Kw taps, none of them dead.

    Measured with torch 2.13 on 1 thread of an EPYC with AVX-512, in ms of the process:

        padded     oneDNN's fast loop for dilated kernels wants the padding within one register
                   block: 6 pixels with AVX-512, 4 with AVX2. Zeros around the map lift that: (3, 7)
                   on 32 x 32, C 32, B 32: 4.2 plain, 1.4 so, 1.9 by phases
        phases     (15, 2) on 16 x 16, C 64, B 64: 3.4, padded 7.8, plain 20
        transform  31 x 31 on 56 x 56, C 24, B 8: 11.2 plain, 5.9 so; on 32 x 32 10 against 15
        widened    13 x 13 on 16 x 16, C 64, B 64: 7.7 plain, 2.8 as 13 x 15; on 32 x 32 8.8, 3.7
    """
    wide = _wide_registers()
    if dilation > 1:
        if dilation * (max(kernel) // 2) <= (6 if wide else 4):
            return "plain"
        return "padded" if max(kernel) <= 7 else "phases"
    if _transformed(sides, kernel):
        return "transform"
    return "widened" if wide and kernel[1] in SLOW_COLUMNS else "plain"


def gradient_method(
    images: int, sides: Sequence[int], kernel: Sequence[int], dilation: int
) -> GradientMethod:
    """Say how to compute the gradient of Kh x Kw taps, none of them dead, on B maps of H x W.

    Measured as in `method`, weight gradient in ms:

        plain      torch's own, fast for 3 columns alone: 3 x 3 on 16 x 16, C 64, B 64: 0.4-0.9
                   against 3.0 swapped; 5 x 5: 5.5 against 2.8; 13 x 13: 31 against 6.5
        phases     (3, 2) on 32 x 32, C 32, B 32: 1.9 against 4.2 swapped, 8.5 plain; on maps whose
                   phases have fewer than 5 pixels swapped is faster
        transform  31 x 31 on 56 x 56, C 24, B 8: 6.2 against 11.4 swapped
        toeplitz   13 x 13 on 7 x 7, C 384, B 128: 16 against 44 swapped; with B 16 6.2 against 4.9.
                   (As a forward pass it is 3 times slower than oneDNN's.)
        swapped    everything else
    """
    if kernel[1] <= 3 and kernel[0] * dilation <= min(sides):
        if dilation == 1:
            return "plain"
        if min(sides) > 4 * dilation:
            return "phases"
    if dilation == 1 and _transformed(sides, kernel):
        return "transform"
    if dilation == 1 and images >= 64 and max(sides) <= 8 and min(kernel) >= 7:
        return "toeplitz"
    return "swapped"


def _transformed(sides: Sequence[int], kernel: Sequence[int]) -> bool:
    taps = min(kernel)
    if _wide_registers():
        return taps >= 21 and min(sides) + taps >= 77
    # With AVX2, where direct convolution is half as fast, from 17 x 17 on 32 x 32 on.
    return taps >= 17 and min(sides) + taps >= 48


def _wide_registers() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def convolve(x: Operand, weight: Tensor, dilation: int) -> Tensor:
    """Convolve (B, C, H, W) with kernels (C, 1, Kh, Kw) at stride 1; the size stays."""
    x_BCHW, sides = x.x_BCHW, x.x_BCHW.shape[2:]
    weight = cropped(weight, sides, dilation)
    match method(sides, weight.shape[2:], dilation):
        case "phases":
            split_BCHW = _phases(x_BCHW, dilation)
            return _joined(convolve(Operand(split_BCHW), weight, 1), x_BCHW.shape, dilation)
        case "padded":
            down, across = (dilation * (side // 2) for side in weight.shape[2:])
            padded_BCHW = F.pad(x_BCHW, (across, across, down, down))
            return F.conv2d(padded_BCHW, weight, None, 1, 0, dilation, weight.shape[0])
        case "transform":
            return _convolve_by_transform(x, weight)
        case "widened":
            columns = (15 - weight.shape[3]) // 2
            return _plain(x_BCHW, F.pad(weight, (columns, columns)), 1)
        case "plain":
            return _plain(x_BCHW, weight, dilation)


def weight_gradient(x: Operand, grad: Operand, sides: Sequence[int], dilation: int) -> Tensor:
    """Give dL/dweight, (C, 1, Kh, Kw), from the map and the gradient of its convolution."""
    live = reach(sides, x.x_BCHW.shape[2:], dilation)
    taps = 2 * live[0] + 1, 2 * live[1] + 1
    images, _, *map_sides = x.x_BCHW.shape
    match gradient_method(images, map_sides, taps, dilation):
        case "plain":
            found = _gradient_of_torch(x.x_BCHW, grad.x_BCHW, taps)
        case "phases":
            split = _phases(x.x_BCHW, dilation), _phases(grad.x_BCHW, dilation)
            found = _gradient_of_torch(*split, taps)
        case "transform":
            found = _gradient_by_transform(x, grad, taps)
        case "toeplitz":
            found = _gradient_by_products(x.x_BCHW, grad.x_BCHW, taps)
        case "swapped":
            found = _gradient_by_swapping(x, grad.x_BCHW, taps, dilation)
    rows, columns = sides[0] // 2 - live[0], sides[1] // 2 - live[1]
    return F.pad(found, (columns, columns, rows, rows)) if rows or columns else found


def reach(kernel: Sequence[int], sides: Sequence[int], dilation: int) -> tuple[int, int]:
    """Give how many taps from the middle of a kernel can touch a map, down and across.

    Beyond H - 1 pixels from the middle a tap sees padding alone: it adds nothing, and its gradient
    is 0.
    """
    rows, columns = (
        min(taps // 2, (side - 1) // dilation) for taps, side in zip(kernel, sides, strict=True)
    )
    return rows, columns


def cropped(weight: Tensor, sides: Sequence[int], dilation: int) -> Tensor:
    """Give the taps of kernels (C, 1, Kh, Kw) that can touch a map of H x W, as a view."""
    for axis, taps in zip((2, 3), reach(weight.shape[2:], sides, dilation), strict=True):
        weight = weight.narrow(axis, weight.shape[axis] // 2 - taps, 2 * taps + 1)
    return weight


def _plain(x_BCHW: Tensor, weight: Tensor, dilation: int) -> Tensor:
    padding = [dilation * (side // 2) for side in weight.shape[2:]]
    return F.conv2d(x_BCHW, weight, None, 1, padding, dilation, weight.shape[0])


def _phases(x_BCHW: Tensor, r: int) -> Tensor:
    """Give the r x r smaller maps, as more images, on which a kernel at dilation r is dense.

    Pixels whose positions differ by multiples of r never meet the others.
    """
    images, width, height, length = x_BCHW.shape
    rows, columns = -(-height // r), -(-length // r)
    padded = F.pad(x_BCHW, (0, columns * r - length, 0, rows * r - height))
    split = padded.permute(0, 2, 3, 1).reshape(images, rows, r, columns, r, width)
    split = split.permute(0, 2, 4, 1, 3, 5).reshape(images * r * r, rows, columns, width)
    return split.permute(0, 3, 1, 2)


def _joined(y_BCHW: Tensor, shape: Sequence[int], r: int) -> Tensor:
    """Give the map of which these are the phases."""
    images, width, height, length = shape
    rows, columns = y_BCHW.shape[2:]
    y = y_BCHW.permute(0, 2, 3, 1).reshape(images, r, r, rows, columns, width)
    y = y.permute(0, 3, 1, 4, 2, 5).reshape(images, rows * r, columns * r, width)
    return y[:, :height, :length].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _gradient_of_torch(x_BCHW: Tensor, grad_BCHW: Tensor, taps: Sequence[int]) -> Tensor:
    images = max(1, LONGEST_SUM // x_BCHW[0, 0].numel())
    width = x_BCHW.shape[1]
    found = x_BCHW.new_zeros(width, 1, *taps)
    batches = torch.split(x_BCHW, images), torch.split(grad_BCHW, images)
    for x, grad in zip(*batches, strict=True):
        found += torch.ops.aten.convolution_backward(
            grad,
            x,
            found,  # for its shape
            None,
            [1, 1],
            [side // 2 for side in taps],
            [1, 1],
            False,
            [0, 0],
            width,
            [False, True, False],
        )[1]
    return found


def _gradient_by_swapping(
    x: Operand, grad_BCHW: Tensor, taps: Sequence[int], dilation: int
) -> Tensor:
    """Convolve every channel of the gradient with the same channel of the map as the kernel.

    This gives the gradient of the flipped kernel, one an image. The dilation becomes the stride,
    because neighbouring taps look at pixels that far apart.
    """
    images, width, height, length = grad_BCHW.shape
    groups = images * width
    grad = grad_BCHW.permute(2, 3, 0, 1).reshape(1, height, length, groups).permute(0, 3, 1, 2)
    padding = [dilation * (side // 2) for side in taps]
    each = F.conv2d(grad, x.kernels, None, dilation, padding, 1, groups)
    found: Tensor = each.view(images, width, 1, *taps).sum(0).flip(2, 3)
    return found


def _gradient_by_products(x_BCHW: Tensor, grad_BCHW: Tensor, taps: Sequence[int]) -> Tensor:
    """Multiply all pixels of the map with all of the gradient, and add up those equally far apart.

    As a matrix product a convolution has a Toeplitz matrix, one number a diagonal; this is the
    gradient of the whole matrix, and then that of its diagonals.
    """
    images, width, height, length = x_BCHW.shape
    x = x_BCHW.permute(1, 2, 3, 0).reshape(width, height * length, images)
    grad = grad_BCHW.permute(1, 0, 2, 3).reshape(width, images, height * length)
    matrix = (x @ grad).view(width, height, length, height, length)
    rows = matrix.new_zeros(width, 2 * height - 1, length, length)
    for row in range(height):
        rows.narrow(1, height - 1 - row, height).add_(matrix[:, :, :, row])
    both = matrix.new_zeros(width, 1, 2 * height - 1, 2 * length - 1)
    for column in range(length):
        both[:, 0].narrow(2, length - 1 - column, length).add_(rows[..., column])
    return cropped(both, (taps[0] // 2 + 1, taps[1] // 2 + 1), 1)


def _convolve_by_transform(x: Operand, weight: Tensor) -> Tensor:
    height, length = x.x_BCHW.shape[2:]
    down, across = (side // 2 for side in weight.shape[2:])
    # The sum wraps around a torus; half a kernel of zeros keeps its two ends apart.
    lengths = fast_length(height + down), fast_length(length + across)
    placed = F.pad(weight[:, 0], (0, lengths[1] - weight.shape[3], 0, lengths[0] - weight.shape[2]))
    factor = torch.fft.rfft2(placed.roll((-down, -across), (1, 2))).conj()
    around_BCPQ: Tensor = torch.fft.irfft2(x.spectrum(lengths) * factor, lengths)
    y_BCHW = around_BCPQ[:, :, :height, :length]
    return y_BCHW.contiguous(memory_format=torch.channels_last)


def _gradient_by_transform(x: Operand, grad: Operand, taps: Sequence[int]) -> Tensor:
    height, length = x.x_BCHW.shape[2:]
    down, across = (side // 2 for side in taps)
    lengths = fast_length(height + down), fast_length(length + across)
    product = (x.spectrum(lengths) * grad.spectrum(lengths).conj()).sum(0)
    found: Tensor = torch.fft.irfft2(product, lengths).roll((down, across), (1, 2))
    return found.narrow(1, 0, taps[0]).narrow(2, 0, taps[1]).unsqueeze(1)


def fast_length(least: int) -> int:
    """Give the smallest length from `least` on without a prime factor above 5."""
    length = least
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
