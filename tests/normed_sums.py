"""Normed sums for tests and benchmarks: drawn, computed by plain modules, and compared."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from builders.backends import Backends, Kernel, SumShape
from builders.normed_sum import normed_sum
from search_space.architecture import paper_branches


class PlainSum(nn.Module):
    """y = L(sum_j N_j(conv_j(x))) as everyone writes it: the oracle, in float64."""

    def __init__(self, shape: SumShape) -> None:
        super().__init__()
        width = shape.width
        self.convs = nn.ModuleList(
            nn.Conv2d(
                width,
                width,
                (h, w),
                padding=(r * (h // 2), r * (w // 2)),
                dilation=r,
                groups=width,
                bias=False,
            )
            for h, w, r in shape.kernels
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width) for _ in (shape.kernels if shape.normed else ())
        )
        self.last = nn.BatchNorm2d(width) if shape.last else None
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        branches = [conv(x_BCHW) for conv in self.convs]
        if self.norms:
            branches = [norm(y) for norm, y in zip(self.norms, branches, strict=True)]
        y_BCHW = branches[0]
        for branch in branches[1:]:
            y_BCHW = y_BCHW + branch
        return y_BCHW if self.last is None else self.last(y_BCHW)


def computed_by(plain: PlainSum, backends: Backends) -> Callable[[Tensor], Tensor]:
    """Give the function of a sum's modules that our backends compute."""
    norms = [norm for norm in plain.norms if isinstance(norm, nn.BatchNorm2d)]
    convs = [conv for conv in plain.convs if isinstance(conv, nn.Conv2d)]

    def compute(x_BCHW: Tensor) -> Tensor:
        weights, dilations = [c.weight for c in convs], [int(c.dilation[0]) for c in convs]
        y_BCHW = normed_sum(x_BCHW, weights, dilations, norms, plain.last, backends)
        return plain(x_BCHW) if y_BCHW is None else y_BCHW

    return compute


def made(shape: SumShape, *, seed: int = 0) -> tuple[PlainSum, Tensor, Tensor]:
    """Give modules, a map and the gradient that comes back to it, drawn from a seed."""
    torch.manual_seed(seed)
    plain = PlainSum(shape)
    size = (shape.images, shape.width, shape.rows, shape.columns)
    # Off zero: a variance that is not taken around its mean would lose digits.
    x = (torch.randn(size) + 0.5).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(size).contiguous(memory_format=torch.channels_last)
    return plain, x, grad


def outcome(
    plain: PlainSum, compute: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor
) -> dict[str, Tensor]:
    """Give the sum, every gradient and the running statistics after one pass, by name."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    plain.zero_grad(set_to_none=True)
    y = compute(x)
    y.backward(grad)
    found = {"y": y.detach(), "x": x.grad}
    found |= {name: parameter.grad for name, parameter in plain.named_parameters()}
    found |= {name: b for name, b in plain.named_buffers() if name.split(".")[-1][:7] == "running"}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def errors(shape: SumShape, backends: Backends, *, seed: int = 0) -> dict[str, float]:
    """Give the largest error of every tensor of `outcome` in float32, relative to its scale.

    The scale is the largest value of the float64 tensor. A gradient that is a sum of many terms can
    be zero for reasons of algebra: that of a branch's offset below a last norm, of its scale where
    it is the only branch there, of a kernel of one tap on the map below a norm. There rounding is
    all that is left of it, and it grows as the root of the sum of the squared terms does, so that
    root is the scale where it is larger. A running mean is measured by the deviation as well.
    """
    plain, x, grad = made(shape, seed=seed)
    double = copy.deepcopy(plain).double()
    expected = outcome(double, double, x.double(), grad.double())
    scales = _summed(copy.deepcopy(double), x.double(), grad.double())
    actual = outcome(plain, computed_by(plain, backends), x, grad)
    assert actual.keys() == expected.keys()
    found = {}
    for name, tensor in expected.items():
        scale = max(float(tensor.abs().max()), scales.get(name, 0.0), 1e-30)
        found[name] = float((actual[name].double() - tensor).abs().max()) / scale
    return found


def _summed(plain: PlainSum, x: Tensor, grad: Tensor) -> dict[str, float]:
    """Give the root of the summed squares of the terms of every parameter's gradient."""
    convolved = [conv(x) for conv in plain.convs]
    branches = [norm(y) for norm, y in zip(plain.norms, convolved, strict=False)] or convolved
    total = sum(branches[1:], branches[0])
    y = total if plain.last is None else plain.last(total)
    upstream, *own = torch.autograd.grad(y, [total, *convolved], grad)
    total, *convolved = (map_BCHW.detach() for map_BCHW in (total, *convolved))
    scales = {}

    def norm_scales(name: str, y: Tensor, grad: Tensor) -> None:
        normalised = F.batch_norm(y, None, None, training=True, eps=1e-5)
        for of, terms in (("weight", grad * normalised), ("bias", grad)):
            scales[f"{name}.{of}"] = float(terms.square().sum(dim=(0, 2, 3)).max().sqrt())
        scales[f"{name}.running_mean"] = 0.1 * float(y.std(dim=(0, 2, 3)).max())

    if plain.last is not None:
        norm_scales("last", total, grad)
    for number, (conv, y, g) in enumerate(zip(plain.convs, convolved, own, strict=True)):
        if plain.norms:
            norm_scales(f"norms.{number}", y, upstream)
        weight = torch.zeros_like(conv.weight).requires_grad_()
        squared = torch.func.functional_call(conv, {"weight": weight}, (x.square(),))
        (terms,) = torch.autograd.grad(squared, weight, g.square())
        scales[f"convs.{number}.weight"] = float(terms.max().sqrt())
    return scales


def effective_macs(shape: SumShape) -> int:
    """Count multiply-adds of the taps that lie on the map, of one pass over all branches."""
    taps = 0
    for h, w, r in shape.kernels:
        sides = ((h, shape.rows), (w, shape.columns))
        down, across = (
            sum(max(0, side - abs(tap - kernel // 2) * r) for tap in range(kernel))
            for kernel, side in sides
        )
        taps += down * across
    return taps * shape.images * shape.width


def block_shape(side: int, width: int, images: int, kernel: int) -> SumShape:
    """Give the Dilated Reparam Block with the published branches on square maps."""
    kernels = [(kernel, kernel, 1), *((k, k, r) for k, r in paper_branches(kernel))]
    return SumShape(images, width, side, side, tuple(kernels), normed=True, last=True)


@st.composite
def shapes(draw: st.DrawFn, *, pixels: int = 6000) -> SumShape:
    """Draw a sum of at most so many values: every odd count, side, kernel and dilation there is."""
    normed, last = draw(st.booleans()), draw(st.booleans())
    rows, columns = draw(st.integers(1, 19)), draw(st.integers(1, 19))
    area = rows * columns
    # Batch norm of a few values is ill-conditioned: two of them become 1 and -1 whatever they are.
    least = -(-16 // area) if normed or last else 1
    images = draw(st.integers(least, max(least, min(130, pixels // area))))
    width = draw(st.integers(1, max(1, min(40, pixels // (area * images)))))
    kernel: st.SearchStrategy[Kernel] = st.tuples(
        st.sampled_from((1, 3, 5, 7, 9, 13, 31)),
        st.sampled_from((1, 3, 5, 7, 9, 13, 31)),
        st.sampled_from((1, 1, 1, 2, 3, 4, 5, 20)),
    )
    kernels = tuple(draw(st.lists(kernel, min_size=1, max_size=7)))
    return SumShape(images, width, rows, columns, kernels, normed, last)


ODD_SHAPES = tuple(
    SumShape(images, width, rows, columns, kernels, normed, last)
    for number, (images, (rows, columns), kernels) in enumerate(
        product(
            (1, 7, 8, 9, 16, 17, 31, 33, 100),
            ((1, 1), (2, 5), (7, 7), (16, 9), (3, 18)),
            (
                ((1, 1, 1), (3, 3, 2)),
                ((31, 31, 1), (5, 5, 1), (7, 7, 2), (3, 3, 20)),
                ((13, 3, 1), (3, 13, 1), (3, 3, 1), (5, 9, 4)),
            ),
        )
    )
    for width in ((1, 3, 8, 17, 24)[number % 5],)
    for normed, last in (((True, True), (True, False), (False, True), (False, False))[number % 4],)
    if images * rows * columns > 1
)
"""A grid over what an access out of bounds would depend on."""
