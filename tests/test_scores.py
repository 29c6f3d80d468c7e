"""Scores of a split: shares, cross-entropies and mean IoU, against counts made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import jaccard_score
from torch import Tensor, nn

from builders import build_network, inference_network, merge_network
from evaluators.images import IGNORED, ImageData, Split
from evaluators.scores import cross_entropy, evaluate
from search_space.architecture import Architecture, Stage, Stem

CLASSES = 5
SIZE = (8, 10)


def dense_data(*, ignored: float = 0.1, images: int = 60, classes: int = CLASSES) -> ImageData:
    """Random images and masks, in which the last class does not stand."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, *SIZE, 1), dtype=np.uint8)
    masks = rng.integers(0, classes - 1, (images, *SIZE)).astype(np.uint8)
    masks[rng.random(masks.shape) < ignored] = IGNORED
    split = Split(images=pixels, labels=masks)
    return ImageData(
        name="drawn",
        source="a generator",
        train=split,
        val=split,
        test=split,
        classes=tuple("abcdefgh"[:classes]),
        sha256="",
    )


class Drawn(nn.Module):
    """Gives fixed random logits, one row after the other, of so many readings."""

    def __init__(self, *, readings: int, classes: int = CLASSES, images: int = 60) -> None:
        super().__init__()
        shape = (images, readings, classes, *SIZE) if readings else (images, classes, *SIZE)
        self.logits = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        self.at = 0

    def forward(self, x: Tensor) -> Tensor:
        self.at += len(x)
        return self.logits[self.at - len(x) : self.at]


def by_hand(logits: Tensor, masks: Tensor) -> tuple[float, float, float]:
    """Accuracy, cross-entropy and mean IoU pixel by pixel, in another library's words."""
    counts = masks != IGNORED
    rows, truth = logits.movedim(1, -1)[counts].double(), masks[counts]
    found = rows.argmax(dim=1)
    present = np.union1d(found, truth)
    return (
        float((found == truth).double().mean()),
        float(F.cross_entropy(rows, truth)),
        float(jaccard_score(truth, found, labels=present, average="macro")),
    )


@pytest.mark.parametrize("readings", [0, 2])
def test_pixels_that_count_are_scored_for_every_reading(readings: int) -> None:
    data, network = dense_data(), Drawn(readings=readings)
    scores = evaluate(network, data)
    masks = torch.from_numpy(data.val.labels).long()
    logits = network.logits.unbind(1) if readings else (network.logits,)

    for given, reading in zip((scores, scores.last), logits, strict=False):
        assert given is not None
        accuracy, loss, miou = by_hand(reading, masks)
        assert given.accuracy == accuracy
        assert given.loss == pytest.approx(loss, rel=1e-5)
        assert given.miou == pytest.approx(miou, rel=1e-6)
    assert (scores.last is None) is not bool(readings)


class Constant(nn.Module):
    """Says one class everywhere."""

    def __init__(self, chosen: int) -> None:
        super().__init__()
        self.chosen = chosen

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), CLASSES, *SIZE)
        logits[:, self.chosen] = 1
        return logits


def test_a_class_is_in_the_mean_where_it_is_predicted_or_true() -> None:
    data = dense_data(ignored=0)
    masks = np.zeros_like(data.val.labels)
    masks[:, :2] = 1
    data = replace(data, val=replace(data.val, labels=masks))

    # Class 0: 6 of 8 rows, class 1: none of 2; the others stand nowhere.
    assert evaluate(Constant(0), data).miou == pytest.approx(0.75 / 2)
    # Class 4 is predicted everywhere, 0 and 1 never.
    assert evaluate(Constant(4), data).miou == 0


def test_what_is_predicted_on_ignored_pixels_does_not_count() -> None:
    data = dense_data()
    masks = np.zeros_like(data.val.labels)
    masks[:, 0] = IGNORED
    data = replace(data, val=replace(data.val, labels=masks))

    class FirstRow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.zeros(len(x), CLASSES, *SIZE)
            logits[:, 0, 1:], logits[:, 3, 0] = 9, 9
            return logits

    scores = evaluate(FirstRow(), data)
    assert (scores.accuracy, scores.miou) == (1, 1)


def test_the_deployed_network_scores_as_the_first_reading_of_the_trained_one() -> None:
    architecture = Architecture(
        size=SIZE,
        channels=1,
        stem=Stem(stride=2),
        head="dense",
        stages=(
            Stage(depth=1, width=6, kernel=5, placement="L", dilations=((3, 1),)),
            Stage(depth=1, width=8, placement="S"),
        ),
    )
    torch.manual_seed(0)
    network = build_network(architecture, CLASSES)
    trained, merged, deployed = (
        evaluate(form, dense_data())
        for form in (network, merge_network(network), inference_network(network))
    )
    assert trained.last is not None
    assert merged.last is not None
    assert deployed.last is None
    assert deployed.miou == pytest.approx(trained.miou, abs=1e-3)
    assert merged.last.loss == pytest.approx(trained.last.loss, rel=1e-5)
    assert deployed.loss == pytest.approx(trained.loss, rel=1e-5)


@pytest.mark.parametrize(
    "shape", [(6, CLASSES), (6, CLASSES, *SIZE), (6, 2, CLASSES, *SIZE)], ids=str
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_readings_and_pixels_that_count(
    shape: tuple[int, ...], smoothing: float
) -> None:
    logits = torch.randn(shape)
    settings: dict[str, Any] = {"label_smoothing": smoothing}
    if len(shape) == 2:
        labels = torch.randint(CLASSES, (6,))
        expected = F.cross_entropy(logits, labels, **settings)
    else:
        labels = torch.randint(CLASSES, (6, *SIZE))
        labels[:, 0] = IGNORED
        settings["ignore_index"] = IGNORED
        readings = logits.unbind(1) if len(shape) == 5 else [logits]
        losses = [F.cross_entropy(reading, labels, **settings) for reading in readings]
        expected = torch.stack(losses).mean()

    torch.testing.assert_close(cross_entropy(logits, labels, label_smoothing=smoothing), expected)


def test_a_label_of_255_counts_in_classification() -> None:
    logits, labels = torch.randn(4, 300), torch.tensor([255, 255, 1, 2])
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels))
