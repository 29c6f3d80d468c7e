"""Batches of images with masks: what shifts and mirrors an image does the same to its mask."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluators.batches import Augmenter, Normaliser, micro_batches
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


def batches(
    data: ImageData, count: int, *, skip: int = 0, **changes: Any
) -> list[tuple[Tensor, Tensor]]:
    settings = {"batch_size": 4, "shift": 0, "flip": False} | changes
    order = torch.Generator().manual_seed(0)
    augmenter = Augmenter(data, order=order, device=torch.device("cpu"), **settings)
    return list(islice(augmenter.batches(skip), count))


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


@pytest.mark.parametrize("skip", [0, 1, 2, 3, 7])
def test_skipped_batches_are_those_a_training_had_and_their_images_are_not_touched(
    skip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"shift": 2, "flip": True, "batch_size": 5}  # two batches an epoch, two images left
    wanted = batches(dense_data(), 10, **settings)[skip:]
    gathered = 0
    normalise = Normaliser.__call__

    def counted(self: Normaliser, pixels: Tensor) -> Tensor:
        nonlocal gathered
        gathered += 1
        return normalise(self, pixels)

    monkeypatch.setattr(Normaliser, "__call__", counted)
    found = batches(dense_data(), 10 - skip, skip=skip, **settings)
    assert gathered == len(found) == len(wanted)
    for (images, masks), (wanted_images, wanted_masks) in zip(found, wanted, strict=True):
        assert torch.equal(images, wanted_images)
        assert torch.equal(masks, wanted_masks)


# ---- micro-batches


@pytest.mark.parametrize(
    ("images", "most", "sizes"),
    [
        (16, None, [16]),
        (16, 16, [16]),
        (16, 99, [16]),
        (16, 8, [8, 8]),
        (16, 5, [4, 4, 4, 4]),
        (17, 8, [6, 6, 5]),
        (9, 8, [5, 4]),
        # Never one image alone.
        (5, 2, [3, 2]),
        (3, 2, [3]),
        (7, 2, [3, 2, 2]),
        (2, 2, [2]),
        (1, 2, [1]),
    ],
)
def test_a_batch_is_cut_evenly_into_parts_of_at_least_two(
    images: int, most: int | None, sizes: list[int]
) -> None:
    batch, labels = torch.randn(images, 1, 2, 2), torch.arange(images)
    parts = micro_batches(batch, labels, most)
    assert [len(some) for some, _, _ in parts] == sizes
    assert [weight for _, _, weight in parts] == [size / images for size in sizes]
    assert torch.equal(torch.cat([some for some, _, _ in parts]), batch)
    assert torch.equal(torch.cat([those for _, those, _ in parts]), labels)


def test_parts_with_masks_weigh_by_the_pixels_that_count_and_empty_ones_are_left_out() -> None:
    masks = torch.full((6, 2, 2), IGNORED)
    masks[0, 0, 0] = masks[4:] = 1
    parts = micro_batches(torch.arange(6.0).view(6, 1, 1, 1), masks, 2)
    assert [(some.flatten().tolist(), weight) for some, _, weight in parts] == [
        ([0, 1], 1 / 9),
        ([4, 5], 8 / 9),
    ]


def test_a_batch_in_which_no_pixel_counts_keeps_a_part() -> None:
    masks = torch.full((4, 2, 2), IGNORED)
    ((images, _, weight),) = micro_batches(torch.zeros(4, 1, 2, 2), masks, 2)
    assert (len(images), weight) == (2, 1.0)
