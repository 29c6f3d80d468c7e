"""Forward and backward of the Dilated Reparam Block: ours against plain torch, in alternation.

One thread, process time, medians. Errors are of outputs, gradients and running statistics against
float64, on a few of the channels, which never meet.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from builders.backends import BACKEND_NAMES, Backends, SumShape
from tests.benchmarks.timing import medians
from tests.normed_sums import block_shape, computed_by, effective_macs, errors, made

SHAPES = (
    (4, 256, 64, 7),
    (8, 64, 64, 7),
    (8, 128, 64, 13),
    (7, 192, 64, 13),
    (16, 64, 64, 7),
    (16, 64, 64, 13),
    (16, 64, 64, 17),
    (16, 64, 64, 31),
    (32, 32, 32, 7),
    (32, 32, 32, 13),
    (32, 32, 32, 31),
)
"""Side of the map, channels, images, kernel."""
TARGETS = {
    (16, 64, 64, 7): {"native": 7.0},
    (16, 64, 64, 13): {"native": 10.0, "torch": 4.0},
    (16, 64, 64, 31): {"native": 25.0, "torch": 4.0},
}
"""Least ratios of plain torch, channels first, to ours."""
CHECKED = 4
"""Channels whose values are compared with float64."""
PASSES = 4
"""Convolutions of every branch: forward, the same again in backward, and both gradients."""


def contenders(shape: SumShape, library: str) -> dict[str, Callable[[], object]]:
    """Give forward and backward of plain modules in both layouts and of our backends."""
    plain, x, grad = made(shape)
    return {
        "first": _step(plain, plain, x.contiguous(), grad.contiguous()),
        "last": _step(*_channels_last(plain), x, grad),
        **{
            name: _step(plain, computed_by(plain, Backends(rest=name, library=library)), x, grad)
            for name in BACKEND_NAMES
        },
    }


def _channels_last(plain: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    plain = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return plain, plain


def _step(
    plain: nn.Module, compute: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor
) -> Callable[[], object]:
    x = x.detach().requires_grad_()
    parameters = list(plain.parameters())
    return lambda: torch.autograd.grad(compute(x), [x, *parameters], grad)


def test_the_block_against_plain_torch(library: str) -> None:
    print(
        "\nforward + backward, ms of one thread; ratios of plain torch, channels first and last, "
        "to ours; largest relative error against float64; GF/s of the taps on the map\n"
        f"{'map, C, N, K':>16}{'first':>8}{'last':>8}"
        f"{'torch':>8}{'ratios':>12}{'error':>9}{'native':>8}{'ratios':>12}{'error':>9}{'GF/s':>6}"
        "  target"
    )
    for sizes in SHAPES:
        shape = block_shape(*sizes)
        found = contenders(shape, library)
        times = medians({name: found[name] for name in ("first", "last", "torch", "native")})
        line = f"{', '.join(map(str, sizes)):>16}{_ms(times['first'])}{_ms(times['last'])}"
        few = shape._replace(width=CHECKED)
        for name in ("torch", "native"):
            error = max(errors(few, Backends(rest=name, library=library)).values())  # type: ignore[arg-type]
            ratios = f"{times['first'] / times[name]:.1f} {times['last'] / times[name]:.1f}"
            line += f"{_ms(times[name])}{ratios:>12}{error:9.0e}"
            assert error < 1e-5
        rate = 2 * PASSES * effective_macs(shape) / times["native"] / 1e9
        wanted = TARGETS.get(sizes, {})
        line += f"{rate:6.0f}  " + ", ".join(f"{name} {least:g}" for name, least in wanted.items())
        print(line)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:8.1f}"


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_autograd_keeps_one_map(sizes: tuple[int, int, int, int], library: str) -> None:
    shape = block_shape(*sizes)
    plain, x, _ = made(shape)
    maps = {}
    for name in ("reference", "torch", "native"):
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = computed_by(plain, Backends(rest=name, library=library))(x.requires_grad_())  # type: ignore[arg-type]
        assert y.requires_grad
        maps[name] = sum(numel >= x.numel() for numel in kept.values())
    print(f"\n{', '.join(map(str, sizes)):>16}: maps kept {maps}")
    assert maps["torch"] == maps["native"] == 1
