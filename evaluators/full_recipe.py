"""The recipe of a long training, as the families publish it, scaled to small data and lengths.

Published values are those of UniRepLKNet's released commands (arXiv 2311.15599 and its code), which
ConvNeXt, SLaK and RepLKNet share but for what is said at a field. They belong to 300 epochs of
1.28 million images; how the values here follow from them stands in `full_recipe`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from evaluators.recipe import Recipe
from search_space.errors import RunError

FULL_STRENGTH_EPOCHS = 100
"""Length from which augmentation acts as published: UniRepLKNet's ablations were that short."""
PUBLISHED_WARMUP = 20 / 300
"""Share of the steps."""
PUBLISHED_AVERAGE = 10_000 / (300 * 1251)
"""Reach of the published average of weights (decay .9999), as a share of the steps."""
PUBLISHED_SMOOTHING = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What networks up to a size are trained with."""

    params: float
    """Most parameters, merged: halfway to the next published variant."""
    drop_path: float
    mixup: float
    cutmix: float


SIZES = (
    Size(params=8.5e6, drop_path=0.0, mixup=0.3, cutmix=0.3),  # A, F
    Size(params=14.5e6, drop_path=0.1, mixup=0.3, cutmix=0.3),  # P
    Size(params=24.7e6, drop_path=0.1, mixup=0.5, cutmix=0.5),  # N
    Size(params=43.3e6, drop_path=0.2, mixup=0.8, cutmix=1.0),  # T
    Size(params=math.inf, drop_path=0.4, mixup=0.8, cutmix=1.0),  # S and larger
)
"""UniRepLKNet's variants by size, smallest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FullRecipe(Recipe):
    """How a network is trained at length; `Recipe` has the rest."""

    floor: float = 1e-6 / 4e-3
    """Rate at the end, as a share of the peak; a half cosine leads there."""
    mixing: float = 1.0
    """Share of the batches that are mixed, by one of the two next with equal chance."""
    mixup: float = 0.8
    """Images are averaged with others, by shares from Beta(a, a) with this a; 0: never."""
    cutmix: float = 1.0
    """A rectangle comes from another image, its share of the area from Beta(a, a); 0: never."""
    erasing: float = 0.25
    """Share of the images of which a rectangle becomes noise."""
    operations: int = 2
    """RandAugment: changes of one image."""
    operation_share: float = 0.5
    """RandAugment: chance of each of these changes."""
    magnitude: float = 9.0
    """RandAugment: their strength of 10, with a standard deviation of 0.5."""
    geometric: bool = True
    """RandAugment: whether images are also turned, sheared and moved, which masks are not."""
    drop_path: float = 0.4
    """Share of the images for which the last block is left out; grows linearly from the first."""
    average: float = 0.9999
    """Decay of the moving average of the weights, which is what is kept; UniRepLKNet: none."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            RunError: for a setting out of its range.
        """
        # A class with slots is made twice, so that super() would mean the first one.
        Recipe.__post_init__(self)
        shares = ("floor", "mixing", "erasing", "operation_share", "drop_path", "average")
        for name in shares:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise RunError(f"recipe: {name}: must be in [0, 1], got {value!r}; change it")

    def rate(self, step: int, total: int) -> float:
        """Give the rate of a step (from 0) of so many, as a share of the peak."""
        rising = self.warmup * total
        if step + 1 <= rising:
            return (step + 1) / rising
        fallen = (step + 1 - rising) / (total + 1 - rising)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * fallen))


def full_recipe(
    base: Recipe,
    *,
    epochs: float,
    images: int,
    params: int,
    task: str,
    trained: float | None = None,
) -> FullRecipe:
    """Scale the published recipe to a network, its images and a length.

    Batch size, peak rate, weight decay, shifts and mirroring are those of the search, which were
    tuned for batches as small as these and say which images mean the same. Augmentation, drop path
    and smoothing grow in proportion to the length up to 100 epochs: in a short training a network
    has no time to memorise images. 20 epochs more for a network of 54 thousand parameters on the
    shipped images, which had 88.5 % in validation and 87.6 % in test, gave 89.8 and 88.1 % so, and
    87.8 and 85.9 % without augmentation and the greater smoothing (one seed). The warm-up is as
    long as the search's own, or a fifteenth of the steps where that is more.

    Args:
        base: recipe of the search.
        epochs: length.
        images: number of the training images.
        params: parameters of the merged network.
        task: "classification", or "segmentation": nothing is mixed, erased or moved there that
            masks do not follow, nor smoothed, as the published dense trainings do without it.
        trained: epochs after which the weights to start from were kept; a training on that is
            shorter starts in proportion lower, so that it does not undo more than it can repair.
    """
    strength = min(1.0, epochs / FULL_STRENGTH_EPOCHS)
    dense = task == "segmentation"
    size = next(size for size in SIZES if params <= size.params)
    steps = max(1.0, epochs * max(1, images // base.batch_size))
    risen = base.warmup * base.epochs / epochs
    lr = base.lr if trained is None else base.lr * min(1.0, epochs / trained)
    own = asdict(base) | {
        "epochs": epochs,
        "lr": lr,
        "warmup": min(base.warmup, max(PUBLISHED_WARMUP, risen)),
        "label_smoothing": base.label_smoothing
        if dense
        else max(base.label_smoothing, PUBLISHED_SMOOTHING * strength),
    }
    return FullRecipe(
        **own,
        mixing=0.0 if dense else strength,
        mixup=size.mixup,
        cutmix=size.cutmix,
        erasing=0.0 if dense else 0.25 * strength,
        operation_share=0.5 * strength,
        geometric=not dense,
        drop_path=size.drop_path * strength,
        average=min(0.9999, max(0.0, 1 - 1 / (PUBLISHED_AVERAGE * steps))),
    )
