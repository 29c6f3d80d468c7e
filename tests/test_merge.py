"""Folding and placing: each function against the layers that it replaces, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from builders.merge import dilated_to_dense, fold_norm, place_kernel, push_bias, scale_output


def test_a_folded_norm_equals_convolution_then_batch_norm() -> None:
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    weight, bias = torch.randn(4, 3, 3, 3, dtype=x.dtype), torch.randn(4, dtype=x.dtype)
    mean, beta, gamma = torch.randn(3, 4, dtype=x.dtype)
    var = torch.rand(4, dtype=x.dtype) + 0.1
    expected = F.batch_norm(F.conv2d(x, weight, bias), mean, var, gamma, beta, eps=1e-3)

    folded = fold_norm(weight, bias, mean=mean, var=var, gamma=gamma, beta=beta, eps=1e-3)

    torch.testing.assert_close(F.conv2d(x, *folded), expected, rtol=1e-12, atol=1e-12)


def test_a_norm_folds_into_a_layer_without_bias() -> None:
    weight, bias = fold_norm(
        torch.tensor([[2.0], [3.0]]),
        None,
        mean=torch.tensor([1.0, 0.0]),
        var=torch.tensor([4.0, 1.0]),
        gamma=torch.tensor([2.0, 1.0]),
        beta=torch.tensor([0.0, 5.0]),
        eps=0.0,
    )

    assert weight.tolist() == [[2.0], [3.0]]
    assert bias.tolist() == [-1.0, 5.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_folding_keeps_the_dtype(dtype: torch.dtype) -> None:
    one = torch.ones(2, dtype=dtype)

    weight, bias = fold_norm(
        torch.ones(2, 1, 3, 3, dtype=dtype), None, mean=one, var=one, gamma=one, beta=one, eps=1e-5
    )

    assert weight.dtype == bias.dtype == dtype
    assert dilated_to_dense(weight, 2).dtype == place_kernel(weight, 7).dtype == dtype


def test_a_dilated_kernel_is_written_with_its_zeros() -> None:
    kernel = torch.arange(1.0, 10.0).view(1, 1, 3, 3)

    dense = dilated_to_dense(kernel, 2)

    assert dense[0, 0].tolist() == [
        [1, 0, 2, 0, 3],
        [0, 0, 0, 0, 0],
        [4, 0, 5, 0, 6],
        [0, 0, 0, 0, 0],
        [7, 0, 8, 0, 9],
    ]


def test_a_kernel_of_one_tap_stays_one_tap_at_any_dilation() -> None:
    assert dilated_to_dense(torch.ones(4, 1, 1, 1), 5).shape == (4, 1, 1, 1)


def test_a_small_kernel_stands_in_the_middle_of_a_large_one() -> None:
    placed = place_kernel(torch.full((1, 1, 1, 1), 7.0), 3)

    assert placed[0, 0].tolist() == [[0, 0, 0], [0, 7, 0], [0, 0, 0]]


@pytest.mark.parametrize(("k", "r", "size"), [(3, 5, 13), (5, 2, 9), (7, 2, 31), (1, 1, 5)])
def test_a_placed_dilated_kernel_convolves_to_the_same_map(k: int, r: int, size: int) -> None:
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    kernel = torch.randn(3, 1, k, k, dtype=x.dtype)
    expected = F.conv2d(x, kernel, padding=r * (k // 2), dilation=r, groups=3)

    placed = place_kernel(dilated_to_dense(kernel, r), size)

    actual = F.conv2d(x, placed, padding=size // 2, groups=3)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("small", "size"), [(5, 3), (3, 6)])
def test_a_kernel_without_a_place_is_refused(small: int, size: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^a {small} x {small} kernel has no place .* {size} x {size}$"
    ):
        place_kernel(torch.ones(1, 1, small, small), size)


def test_a_constant_before_a_linear_layer_becomes_its_bias() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    assert push_bias(weight, None, torch.tensor([10.0, 1.0])).tolist() == [12.0, 34.0]
    assert push_bias(weight, torch.tensor([1.0, 1.0]), torch.tensor([10.0, 1.0])).tolist() == [
        13,
        35,
    ]


def test_scaling_the_output_scales_the_rows_of_the_weight() -> None:
    assert scale_output(torch.ones(2, 2), torch.tensor([2.0, 3.0])).tolist() == [[2, 2], [3, 3]]
