"""The loss of enlarged logits: torch's own value and gradient, with less work."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.dense_loss import IMAGES, enlarged_cross_entropy
from evaluators.images import IGNORED


def drawn_masks(images: int, classes: int, *, ignored: float = 0.2) -> Tensor:
    masks_BHW = torch.randint(classes, (images, 7, 10))
    return masks_BHW.masked_fill(torch.rand(masks_BHW.shape) < ignored, IGNORED)


def torchs_own(logits: Tensor, masks: Tensor, smoothing: float) -> Tensor:
    enlarged = F.interpolate(logits, size=masks.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(enlarged, masks, ignore_index=IGNORED, label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [(3, 5), (7, 10), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_those_of_torchs_operators(
    smoothing: float, size: tuple[int, int], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    masks = drawn_masks(2 * IMAGES + 1, 4)
    logits = (3 * torch.randn(len(masks), 4, *size, dtype=dtype)).requires_grad_()

    found, expected = (
        torch.autograd.grad(2 * loss, logits)[0]
        for loss in (
            enlarged_cross_entropy([logits], masks, label_smoothing=smoothing),
            torchs_own(logits, masks, smoothing),
        )
    )

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        enlarged_cross_entropy([logits], masks, label_smoothing=smoothing),
        torchs_own(logits, masks, smoothing),
    )


def test_readings_count_alike_whatever_their_sizes() -> None:
    torch.manual_seed(0)
    masks = drawn_masks(3, 4)
    fine, coarse = torch.randn(3, 4, 6, 5), torch.randn(3, 4, 2, 3)

    both = enlarged_cross_entropy([fine, coarse], masks)

    torch.testing.assert_close(
        both, (torchs_own(fine, masks, 0.0) + torchs_own(coarse, masks, 0.0)) / 2
    )


def test_ignored_pixels_have_no_gradient() -> None:
    masks = torch.full((1, 4, 4), IGNORED)
    masks[0, 0, 0] = 1
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)

    enlarged_cross_entropy([logits], masks, label_smoothing=0.1).backward()

    assert logits.grad is not None
    assert logits.grad[0, :, 0, 0].all()
    assert logits.grad.count_nonzero() == 3


def test_greatest_logits_do_not_overflow_and_infinite_ones_show() -> None:
    masks = drawn_masks(1, 3)
    assert enlarged_cross_entropy([torch.full((1, 3, 2, 2), 1e30)], masks).isfinite()
    assert not enlarged_cross_entropy([torch.full((1, 3, 2, 2), torch.inf)], masks).isfinite()
