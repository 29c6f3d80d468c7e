"""Memory of a training in closed form, straight from the architecture: nothing is built."""

from __future__ import annotations

from builders.backends import AUTO, Backends
from evaluators.cost import cost
from evaluators.held import Conditions, step_values
from evaluators.scores import DENSE_EVALUATION_BATCH, EVALUATION_BATCH
from evaluators.training import FORWARD_IMAGES
from search_space.architecture import Architecture
from search_space.families import DENSE

TRAINED_BYTES = 16
"""Of a parameter: its weight, its gradient and AdamW's two moments, in float32."""
EVALUATED_BYTES = 24
"""Of a parameter at the end: a merged copy is evaluated beside what the optimiser still has."""
MASKED_BYTES = 8
"""Of a parameter of a sparse network beside that: its mask, and a copy while masks are moved."""

SCATTERED, SCATTERED_TORCH = 1.1, 1.2
"""What the maps take of a process over their bytes, in the gaps that freed ones leave; more where
torch's rewritten convolutions make many of different sizes (see tests/test_memory.py)."""
CERTAIN = 1.3
"""Predicted bytes over the limit from which a training would run out of memory: where predictions
were too high, they were so by less (see tests/test_memory.py)."""


def training_bytes(
    architecture: Architecture,
    num_classes: int,
    images: int,
    *,
    batch_size: int | None = None,
    backends: Backends = AUTO,
    device: str = "cpu",
) -> int:
    """Predict the bytes that a training takes at its peak, beside libraries and the data set.

    Args:
        architecture: what is trained.
        num_classes: of its classifier.
        images: of one backward pass.
        batch_size: of the recipe, where `images` is a part of it: then fewer images are evaluated
            at a time too.
        backends: what computes it.
        device: cpu (float32) or cuda (bfloat16).

    Raises:
        SpaceError: where a part of this kind cannot be built.
    """
    on = Conditions(images=images, backends=backends, device=device.partition(":")[0])
    params = cost(architecture, num_classes).params_train
    masks = MASKED_BYTES * params if architecture.weights_sparsity else 0
    _, peak = step_values(architecture, num_classes, on)
    scattered = SCATTERED if on.backends.native or on.device != "cpu" else SCATTERED_TORCH
    step = TRAINED_BYTES * params + scattered * peak * on.value_bytes * images
    together = DENSE_EVALUATION_BATCH if architecture.head == DENSE else EVALUATION_BATCH
    if batch_size is not None and images < batch_size:
        together = min(together, batch_size, FORWARD_IMAGES * images)
    evaluation = EVALUATED_BYTES * params + (
        scattered * _evaluated(architecture, num_classes) * on.value_bytes * together
    )
    return masks + round(max(step, evaluation))


def fitting_images(
    architecture: Architecture,
    num_classes: int,
    batch_size: int,
    limit_bytes: int,
    *,
    backends: Backends = AUTO,
    device: str = "cpu",
) -> int | None:
    """Give the greatest micro-batch that may fit: the batch, else its half, and so on.

    None: not even two images fit. In doubt a training is begun: one that does run out of memory is
    tried again with fewer images at a time, one that is refused is lost.
    """
    images: int | None = batch_size
    while images is not None:
        needed = training_bytes(
            architecture,
            num_classes,
            images,
            batch_size=batch_size,
            backends=backends,
            device=device,
        )
        if needed <= CERTAIN * limit_bytes:
            return images
        images = smaller(images)
    return None


def smaller(images: int) -> int | None:
    """Give the micro-batch to try where one ran out of memory: its half; None below two images."""
    return -(-images // 2) if images > 2 else None


def _evaluated(architecture: Architecture, num_classes: int) -> float:
    """Give the values an image that a merged network holds at once without a gradient."""
    most = 0.0
    for stage, (height, width) in zip(architecture.built_stages, architecture.maps, strict=True):
        hidden = 3 if architecture.block == "unireplknet" else 2
        wide = max(2 * stage.width, hidden * stage.ffn_width)
        most = max(most, (2 * stage.width + wide) * height * width)
    if architecture.head == DENSE:
        height, width = architecture.size
        most = max(most, 4 * num_classes * height * width)
    # The images come as bytes and are normalised whole.
    height, width = architecture.size
    return most + 1.25 * architecture.channels * height * width
