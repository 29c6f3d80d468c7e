"""GELU and response normalisation in one: native code gives the numbers of the two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from builders.backends import AUTO, Backends
from builders.native import NoCompiler, compiled
from builders.response import native_response, respond


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Backends:
    try:
        return Backends(library=str(compiled(Path(tmp_path_factory.mktemp("native")))))
    except NoCompiler as error:
        pytest.skip(str(error))


def operands(images: int, width: int, rows: int, columns: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    h = 2 * torch.randn(images, width, rows, columns, generator=generator)
    h = h.contiguous(memory_format=torch.channels_last)
    shape = (1, 1, 1, width)
    return [h, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)]


def values_and_gradients(given: list[Tensor], backends: Backends, grad: Tensor) -> list[Tensor]:
    given = [operand.detach().requires_grad_() for operand in given]
    y = native_response(*given, backends)
    if y is None:
        h, gamma, beta = given
        y = respond(F.gelu(h), gamma, beta)
    y.backward(grad.to(y.dtype))
    return [y.detach(), *(operand.grad for operand in given if operand.grad is not None)]


@pytest.mark.parametrize(
    "shape", [(3, 5, 4, 7), (2, 16, 1, 1), (1, 33, 9, 2), (7, 96, 5, 5), (2, 8, 3, 3), (4, 1, 6, 6)]
)
def test_native_code_gives_the_numbers_of_float64(
    native: Backends, shape: tuple[int, int, int, int]
) -> None:
    given = operands(*shape)
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    found = values_and_gradients(given, native, grad)
    expected = values_and_gradients([operand.double() for operand in given], AUTO, grad)

    assert len(found) == len(expected) == 4
    # A single channel is divided by its own norm: nothing but rounding is left of its gradient.
    for actual, right in zip(found, expected, strict=True):
        error = (actual.double() - right).abs().max() / right.abs().max()
        assert error < 1e-5


def test_gelu_is_right_from_its_tails_to_its_middle(native: Backends) -> None:
    h = (
        torch.linspace(-13, 13, 4096)
        .view(1, 1, 64, 64)
        .contiguous(memory_format=torch.channels_last)
    )
    zero = torch.zeros(1, 1, 1, 1)
    h.requires_grad_()

    y = native_response(h, zero, zero, native)
    assert y is not None
    y.backward(torch.ones_like(y))

    wide = h.detach().double().requires_grad_()
    right = F.gelu(wide)
    right.backward(torch.ones_like(right))
    torch.testing.assert_close(y.double(), right, rtol=3e-6, atol=1e-12)
    assert h.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(h.grad.double(), wide.grad, rtol=0, atol=5e-7)


def test_a_black_map_has_a_finite_gradient(native: Backends) -> None:
    h = torch.zeros(2, 4, 3, 3, requires_grad=True)
    gamma, beta = torch.ones(1, 1, 1, 4), torch.zeros(1, 1, 1, 4)

    y = native_response(h, gamma, beta, native)
    assert y is not None
    y.sum().backward()

    assert h.grad is not None
    torch.testing.assert_close(h.grad, torch.full_like(h, 0.5))


def test_what_is_not_finite_stays_so(native: Backends) -> None:
    h = torch.full((1, 4, 2, 2), float("nan"), requires_grad=True)
    gamma, beta = torch.ones(1, 1, 1, 4), torch.zeros(1, 1, 1, 4)

    y = native_response(h, gamma, beta, native)
    assert y is not None
    assert y.isnan().all()


def test_two_threads_give_the_bits_of_one(native: Backends) -> None:
    given = operands(5, 24, 6, 6)
    grad = torch.randn(5, 24, 6, 6, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(values_and_gradients(given, native, grad))
    torch.set_num_threads(before)

    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_evaluation_other_dtypes_and_other_backends_take_plain_operators(native: Backends) -> None:
    h, gamma, beta = operands(2, 8, 3, 3)

    with torch.no_grad():
        assert native_response(h, gamma, beta, native) is None
    assert native_response(h.double(), gamma.double(), beta.double(), native) is None
    assert native_response(h, gamma, beta, AUTO) is None
    assert native_response(h, gamma, beta, replace(native, rest="torch")) is None
    assert native_response(h, gamma, None, native) is None
