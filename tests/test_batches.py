"""Batches of images with masks: what shifts and mirrors an image does the same to its mask."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluators.batches import Augmenter
from evaluators.images import IGNORED, ImageData, Split


def dense_data() -> ImageData:
    """Make images whose every pixel's value is 1 + ten times its class: no black in them."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (12, 6, 8), dtype=np.uint8)
    split = Split(images=(masks * 10 + 1)[..., None], labels=masks)
    data = ImageData(
        name="dense",
        source="",
        train=split,
        val=split,
        test=split,
        classes=("0", "1", "2"),
        sha256="",
    )
    vars(data)["mean_std"] = ((0.0,), (1.0,))
    return data


def batches(data: ImageData, count: int, **changes: Any) -> list[tuple[Tensor, Tensor]]:
    settings = {"batch_size": 4, "shift": 0, "flip": False} | changes
    order = torch.Generator().manual_seed(0)
    augmenter = Augmenter(data, order=order, device=torch.device("cpu"), **settings)
    return list(islice(augmenter.batches(), count))


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_masks_move_with_their_images(shift: int, flip: bool) -> None:  # noqa: FBT001
    moved = 0
    for images, masks in batches(dense_data(), 6, shift=shift, flip=flip):
        assert images.shape == (4, 1, 6, 8)
        assert masks.shape == (4, 6, 8)
        assert masks.dtype == torch.int64
        pixels = images[:, 0]
        # Black moved in exactly where the mask counts nothing.
        assert torch.equal(pixels == 0, masks == IGNORED)
        counted = masks != IGNORED
        assert torch.equal(pixels[counted], masks[counted] * 10.0 + 1)
        moved += int((~counted).sum())
    assert (moved > 0) == (shift > 0)


def test_an_epoch_shows_every_mask_once() -> None:
    data = dense_data()
    shown = torch.cat([masks for _, masks in batches(data, 3)]).numpy()
    assert sorted(m.astype(np.uint8).tobytes() for m in shown) == sorted(
        mask.tobytes() for mask in data.train.labels
    )


def test_about_half_of_the_masks_are_mirrored() -> None:
    data = dense_data()
    mirrored = {mask[:, ::-1].tobytes() for mask in data.train.labels}
    shown = [m.numpy().astype(np.uint8) for _, part in batches(data, 30, flip=True) for m in part]
    share = np.mean([mask.tobytes() in mirrored for mask in shown])
    assert 0.35 < share < 0.65


def test_labels_are_given_as_they_were() -> None:
    data = dense_data()
    split = replace(data.train, labels=np.arange(12, dtype=np.int64))
    labels = torch.cat([part for _, part in batches(replace(data, train=split), 3)])
    assert sorted(labels.tolist()) == list(range(12))
