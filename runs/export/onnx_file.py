"""The merged network as an ONNX model that takes batches of any size, and how far it is off."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

BATCHES = (1, 2, 7)
"""Numbers of images on which the model is compared with torch: one, even, and odd."""


def onnx_model(merged: nn.Module, images_BCHW: Tensor) -> bytes:
    """Give a merged network, in eval mode on the CPU, as an ONNX model.

    Args:
        merged: see `builders.inference_network`.
        images_BCHW: some images, normalised; the tracing sees two of them.
    """
    model: bytes = _session().exported(merged, images_BCHW[:2].contiguous(), any_batch=True)
    return model


def onnx_difference(model: bytes, merged: nn.Module, images_BCHW: Tensor) -> float:
    """Give the greatest difference from torch over batches of 1, 2 and 7 images.

    Args:
        model: as `onnx_model` gives it.
        merged: what it was made from.
        images_BCHW: at least 7 images, normalised, float32 on the CPU.

    Returns:
        The greatest |difference| of a logit over the greatest |logit|.
    """
    forward_pass: Callable[..., Any] = _session().forward_pass
    worst = 0.0
    for batch in BATCHES:
        some = images_BCHW[:batch].contiguous()
        with torch.inference_mode():
            expected: Tensor = merged(some)
        found: Tensor = forward_pass(model, some)()
        worst = max(worst, relative_difference(found, expected))
    return worst


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Give the greatest |difference| over the greatest |expected|.

    Infinite for other shapes, and where a number is not finite.
    """
    if found.shape != expected.shape:
        return math.inf
    worst = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    return worst if math.isfinite(worst) else math.inf


def _session() -> Any:
    # ONNX Runtime starts threads when it is imported.
    return import_module("evaluators.onnx_session")
