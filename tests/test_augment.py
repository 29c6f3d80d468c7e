"""Images changed for long trainings: shares, areas, strengths, and what stays where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluators.augment import GEOMETRIC, PHOTOMETRIC, erased, mixed, rand_augment, saturated


def images(count: int = 8, channels: int = 3, height: int = 12, width: int = 16) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def augmented(pixels: Tensor, seed: int = 0, *, geometric: bool = True, share: float = 1) -> Tensor:
    return rand_augment(
        pixels,
        rng(seed),
        operations=2,
        share=share,
        magnitude=9,
        geometric=geometric,
        fill_C=torch.full((pixels.shape[1],), 100.0),
    )


@pytest.mark.parametrize("seed", range(6))
def test_mixup_is_a_weighted_mean_of_two_images_and_of_their_labels(seed: int) -> None:
    x, labels = images(), torch.arange(8)
    made = mixed(x, labels, rng(seed), mixup=0.8, cutmix=0)
    assert torch.allclose(made.images, made.share * x + (1 - made.share) * x.flip(0), atol=1e-6)
    assert made.labels is labels
    assert made.others.tolist() == labels.tolist()[::-1]
    assert 0 <= made.share <= 1


@pytest.mark.parametrize("seed", range(12))
def test_share_of_cutmix_is_that_of_the_pixels(seed: int) -> None:
    x = torch.arange(8.0).view(-1, 1, 1, 1).expand(8, 3, 12, 16).contiguous()
    made = mixed(x, torch.arange(8), rng(seed), mixup=0, cutmix=1)
    assert float((made.images[0] == 0).float().mean()) == pytest.approx(made.share)
    assert set(made.images[0].unique().tolist()) <= {0.0, 7.0}


def test_both_ways_of_mixing_are_drawn_and_none_where_both_are_zero() -> None:
    x, labels = images(), torch.arange(8)
    kinds = {
        bool((mixed(x, labels, rng(seed), mixup=1, cutmix=1).images == x).any())
        for seed in range(9)
    }
    assert kinds == {True, False}
    made = mixed(x, labels, rng(), mixup=0, cutmix=0)
    assert made.images is x
    assert made.share == 1


def test_a_share_of_the_images_is_erased_by_a_rectangle_of_noise() -> None:
    x = torch.zeros(400, 1, 20, 20)
    changed = erased(x.clone(), rng(), share=0.25) != 0
    hit = changed.flatten(1).any(1)
    assert 0.18 < float(hit.float().mean()) < 0.32
    for one in changed[hit][:40, 0]:
        rows, columns = one.any(1).sum(), one.any(0).sum()
        assert int(one.sum()) == int(rows) * int(columns)
    areas = changed[hit].float().mean((1, 2, 3))
    assert float(areas.min()) > 0.01
    assert float(areas.max()) < 0.4
    assert bool((erased(x.clone(), rng(), share=0) == x).all())


def test_rand_augment_draws_the_same_from_the_same_seed_and_leaves_its_input_alone() -> None:
    pixels = (255 * images()).round()
    before = pixels.clone()
    made = augmented(pixels)
    assert torch.equal(made, augmented(pixels))
    assert not torch.equal(made, augmented(pixels, seed=1))
    assert torch.equal(pixels, before)
    assert made.shape == pixels.shape
    assert float(made.min()) >= 0
    assert float(made.max()) <= 255
    assert torch.equal(augmented(pixels, share=0), pixels)


def test_without_geometry_a_pixel_depends_on_its_neighbours_alone() -> None:
    """A mark far away does not come nearer, which masks would not follow."""
    dark = torch.full((64, 1, 20, 20), 30.0)
    marked = dark.clone()
    marked[:, :, 0:2, 0:2] = 220
    for seed in range(4):
        for whole, places in ((dark, 1), (marked, 2)):
            made = augmented(whole, seed, geometric=False)
            assert all(len(one[0, 4:, 4:].unique()) == 1 for one in made), places
    turned = augmented(marked, geometric=True)
    assert any(len(one[0, 4:, 4:].unique()) > 1 for one in turned)


@pytest.mark.parametrize("change", [*PHOTOMETRIC, saturated], ids=lambda change: change.__name__)
def test_a_change_keeps_the_shape_and_does_something(change: object) -> None:
    pixels = (255 * images()).round()
    level = torch.full((8, 1, 1, 1), 0.9)
    made = change(pixels, level, torch.ones_like(level))  # type: ignore[operator]
    assert made.shape == pixels.shape
    assert not torch.allclose(made, pixels)
    assert bool(made.isfinite().all())


def test_there_are_five_changes_that_move_pixels() -> None:
    assert len(set(GEOMETRIC)) == 5
