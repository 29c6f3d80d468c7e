"""How well a network names classes: accuracy, cross-entropy and, pixel by pixel, mean IoU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.batches import Normaliser
from evaluators.device import place, precision
from evaluators.images import IGNORED, ImageData, Split

if TYPE_CHECKING:
    from torchmetrics.classification import MulticlassJaccardIndex

# Shapes: B batch, R readings, C classes, H height, W width.

EVALUATION_BATCH = 250
"""Images of one forward pass in an evaluation; divides the shipped splits."""
DENSE_EVALUATION_BATCH = 50
"""The same where every pixel has logits: 18 MB of them for 11 classes of 64 x 64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What an evaluation of a network found."""

    accuracy: float
    """Share of the images, in segmentation of the pixels that count, classified rightly."""
    loss: float
    """Mean cross-entropy over the same, nats, not smoothed."""
    miou: float | None = None
    """Intersection over union of pixels, the mean over the classes that stand in the masks or in
    what was predicted; None in classification."""
    last: Scores | None = None
    """Of the reading of the last map, where a dense network gave both."""


def evaluate(
    network: nn.Module,
    data: ImageData,
    split: Literal["train", "val", "test"] = "val",
    *,
    device: torch.device | str = "cpu",
    most_images: int | None = None,
) -> Scores:
    """Score a network on one split.

    The network is put in eval mode; its merged form gives the same numbers faster. Logits that are
    not finite give a cross-entropy that is not finite.

    Args:
        network: maps (B, C, H, W) to logits: (B, classes), and in segmentation (B, classes, H, W)
            or those of two readings, (B, 2, classes, H, W), as a dense head gives them.
        data: as the network reads it.
        split: of the data.
        device: where to evaluate.
        most_images: of one forward pass, where memory is short; None takes as many as are fast.
    """
    device = torch.device(device)
    place(network, device).eval()
    part: Split = getattr(data, split)
    dense = part.labels.ndim > 1
    usual = DENSE_EVALUATION_BATCH if dense else EVALUATION_BATCH
    batch_size = usual if most_images is None else min(usual, most_images)
    normalise = Normaliser(data, device)
    tallies: list[_Tally] = []
    with torch.inference_mode():
        for start in range(0, len(part), batch_size):
            pixels = torch.from_numpy(part.images[start : start + batch_size]).to(device)
            labels = torch.from_numpy(part.labels[start : start + batch_size]).to(device).long()
            with precision(device):
                logits = network(normalise(pixels)).float()
            readings = logits.unbind(1) if logits.dim() == 5 else (logits,)
            tallies = tallies or [_Tally(data.num_classes, device, dense=dense) for _ in readings]
            for tally, reading in zip(tallies, readings, strict=True):
                tally.add(reading, labels)
    scores = [tally.scores() for tally in tallies]
    return scores[0] if len(scores) == 1 else replace(scores[0], last=scores[1])


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Give the mean cross-entropy, of a dense network over both readings alike.

    Args:
        logits: (B, C), (B, C, H, W) or (B, R, C, H, W).
        labels: (B,), or masks (B, H, W) in which `IGNORED` does not count.
        label_smoothing: share of the target that is spread over all classes.
    """
    if labels.dim() == 1:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if logits.dim() == 5:
        labels = labels.repeat_interleave(logits.shape[1], dim=0)
        logits = logits.flatten(0, 1)
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing, ignore_index=IGNORED)


def jaccard_index(num_classes: int) -> MulticlassJaccardIndex:
    """Give a metric that `update(classes, masks)` fills and `compute()` reads as mean IoU.

    Classes that stand neither in the masks nor in the predictions are left out of the mean, pixels
    that are `IGNORED` out of everything.
    """
    # Imported on first use: it takes a second, and only segmentation needs it.
    from torchmetrics.classification import MulticlassJaccardIndex

    return MulticlassJaccardIndex(num_classes, ignore_index=IGNORED, validate_args=False)


class _Tally:
    """What one reading got right so far."""

    def __init__(self, num_classes: int, device: torch.device, *, dense: bool) -> None:
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._counted = torch.zeros((), dtype=torch.int64, device=device)
        self._entropy = torch.zeros((), dtype=torch.float64, device=device)
        self._jaccard = jaccard_index(num_classes).to(device) if dense else None

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (B, C) and labels (B,), or (B, C, H, W) and masks (B, H, W)."""
        found = logits.argmax(dim=1)
        if self._jaccard is None:
            self._counted += len(labels)
            self._entropy += F.cross_entropy(logits, labels, reduction="sum").double()
        else:
            self._counted += (labels != IGNORED).sum()
            self._entropy += F.cross_entropy(
                logits, labels, reduction="sum", ignore_index=IGNORED
            ).double()
            self._jaccard.update(found, labels)
        self._right += (found == labels).sum()

    def scores(self) -> Scores:
        """Give the scores over all that was added."""
        counted = int(self._counted)
        return Scores(
            accuracy=int(self._right) / counted,
            loss=float(self._entropy) / counted,
            miou=None if self._jaccard is None else float(self._jaccard.compute()),
        )
