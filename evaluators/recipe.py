"""How networks are trained: the same for every network of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from evaluators.densities import SPARSITY_INITS, SparsityInit
from search_space.errors import RunError


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a network is trained; the same for every network of a search.

    The defaults are for a few hundred steps, tuned on four UniRepLKNets of 14 to 100 thousand
    parameters and one epoch of the shipped data (mean validation cross-entropy, nats): batches of
    64 with a tenth of warm-up, shifts of 2 and smoothing 0.1 gave 0.81, no shifts 0.70, smoothing
    0.05 0.66, batches of 32 and four tenths of warm-up 0.59. At equal CPU time batches of 64 gave
    0.63; rates from 0.003 to 0.006 are level. After three epochs shifts of 1 still cost 0.05.
    """

    epochs: float = 0.75
    """Passes over the training split; may be a fraction. The schedule ends with them."""
    batch_size: int = 32
    lr: float = 4e-3
    """Peak learning rate of AdamW, reached after the warm-up."""
    weight_decay: float = 0.05
    """Not applied to biases and one-dimensional parameters (norms, layer scale)."""
    label_smoothing: float = 0.05
    """Of the training loss only; a validation loss is never smoothed."""
    warmup: float = 0.4
    """Share of the steps in which the rate rises; after them it falls to zero as a half cosine."""
    shift: int = 0
    """Most pixels by which a training image moves in each direction; black moves in."""
    flip: bool = False
    """Whether half of the training images are mirrored left to right."""
    recalibration_batches: int = 20
    """Batches over which batch norm statistics are averaged anew before an evaluation; 0: not."""
    sparsity_init: SparsityInit = "snip"
    """How a network with `weights_sparsity` shares out its zeros: snip, erk or uniform.

    Neither this nor the next two act on a dense network.
    """
    prune_rate: float = 0.3
    """Share of the active weights that the first update of the masks moves; falls to 0.005 as a
    half cosine. Published: 0.5 for SLaK-T, 0.3 for S and B; 0 keeps the first masks."""
    mask_updates: int = 50
    """Updates of the masks, evenly over the steps, however many these are.

    Published trainings of 93,600 steps made 46 (SLaK-T) and 936. On a SLaK of 104 thousand weights
    and these defaults (mean validation cross-entropy of two seeds, nats) none gave 1.00, 20 0.99
    and 60 0.96; without sparsity it gave 0.88.
    """

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            RunError: for a setting out of its range.
        """
        checks = {
            "epochs": (self.epochs > 0 and math.isfinite(self.epochs), "a finite number above 0"),
            "batch_size": (self.batch_size >= 2, "at least 2, which batch norm needs"),
            "lr": (self.lr > 0 and math.isfinite(self.lr), "a finite number above 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
            "warmup": (0 <= self.warmup < 1, "a share in [0, 1)"),
            "shift": (self.shift >= 0, "0 or more"),
            "recalibration_batches": (self.recalibration_batches >= 0, "0 or more"),
            "sparsity_init": (self.sparsity_init in SPARSITY_INITS, "snip, erk or uniform"),
            "prune_rate": (0 <= self.prune_rate <= 1, "a share in [0, 1]"),
            "mask_updates": (self.mask_updates >= 0, "0 or more"),
        }
        for name, (holds, rule) in checks.items():
            if not holds:
                raise RunError(
                    f"recipe: {name}: must be {rule}, got {getattr(self, name)!r}; change it"
                )

    def steps(self, images: int) -> int:
        """Give the number of optimiser steps on a split of so many images, at least one.

        The images left over after the last whole batch of an epoch wait for the next epoch's order.
        """
        return max(1, round(self.epochs * max(1, images // self.batch_size)))


SEGMENTATION = Recipe(epochs=1.0, batch_size=8, lr=0.012, label_smoothing=0.0, warmup=0.2)
"""Tuned on four random networks of the default space and the shipped scenes, one seed each.

Means of mIoU and validation cross-entropy (nats): after 0.8 epochs batches of 16 at a rate of 0.01
and two tenths of warm-up 0.149 and 0.77, batches of 8 at 0.008 and four tenths 0.182 and 0.71;
after 1.2 epochs batches of 16 0.188 and 0.72, batches of 8 at 0.008 0.213 and 0.68, at 0.012 and
two tenths of warm-up 0.223 and 0.67.
"""

SEGMENTATION_IMAGES = 3000
"""Training images of the shipped scenes; fewer are seen more often, so that the steps are as many.
"""


def default_recipe(task: str, images: int = SEGMENTATION_IMAGES) -> Recipe:
    """Give the recipe of a task, "classification" or "segmentation", where nothing else is said.

    Args:
        task: which.
        images: number of the training images; dense sets are often small.
    """
    if task != "segmentation":
        return Recipe()
    return replace(SEGMENTATION, epochs=max(1.0, round(SEGMENTATION_IMAGES / images, 2)))
