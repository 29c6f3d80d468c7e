"""Long training of one network, which is what a winner gets before it is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.augment import Mixture, erased, mixed, rand_augment
from evaluators.batches import Augmenter
from evaluators.device import fastest_kernels, place, precision
from evaluators.full_recipe import FullRecipe
from evaluators.images import ImageData
from evaluators.optimising import adamw, own_randomness, training_loss
from evaluators.scores import cross_entropy
from evaluators.sparsity import DynamicSparsity, asked_densities
from evaluators.states import Carried, Course, State, course_of, identity
from evaluators.training import recalibrate

KEEP_S = 20.0
"""Seconds between two states; as many times more as the last one took seconds to write."""
REPORT_S = 0.5
RECALIBRATION_IMAGES = 5000
"""Training images over which the batch norms of the averaged weights are averaged."""


def train_fully(
    network: nn.Module,
    data: ImageData,
    *,
    recipe: FullRecipe,
    seed: int,
    device: torch.device | str = "cpu",
    report: Callable[..., None] = lambda **_: None,
    between_steps: Callable[[], None] = lambda: None,
    goes_on: State | None = None,
    keep: Callable[[State], None] | None = None,
    keep_s: float = KEEP_S,
) -> bool:
    """Train a network in place with the full recipe; its weights become their moving average.

    A training that was ended goes on from the last state that was kept, and comes to what it would
    have come to. The caller's random state is left alone.

    Args:
        network: built with the recipe's drop path, with the weights to start from; moved to the
            device, channels last, and left in eval mode with its batch norms averaged anew.
        data: as the network reads it.
        recipe: how to train.
        seed: of the order, of what is changed in images, and of what the network draws itself.
        device: where to train.
        report: called twice a second with `step`, `total_steps` and `loss`.
        between_steps: called before every step; may block.
        goes_on: a state that `keep` was given in the same training.
        keep: takes a state now and then, and that of the last step.
        keep_s: seconds between two.

    Returns:
        Whether the loss stayed finite; where it did not, the weights are of no use.

    Raises:
        RunError: `goes_on` is the state of another training.
    """
    device = torch.device(device)
    place(network, device)
    total = recipe.steps(len(data.train))
    of = identity(network, data, recipe, seed)
    course = Course() if goes_on is None else course_of(goes_on, of, device)
    batches = Augmenter(
        data,
        batch_size=min(recipe.batch_size, len(data.train)),
        shift=recipe.shift,
        flip=recipe.flip,
        order=torch.Generator().manual_seed(seed),
        device=device,
    ).batches(skip=course.step)
    changes = _Changes(data, recipe, device)
    reported = kept = time.monotonic()
    wait = keep_s
    with own_randomness(seed, device), fastest_kernels(device):
        densities: dict[str, float] = {}
        if goes_on is None:
            first = next(batches)
            densities = asked_densities(network, *first, method=recipe.sparsity_init)
            batches = chain([first], batches)
        masks = DynamicSparsity(
            network,
            densities,
            steps=total,
            updates=recipe.mask_updates,
            prune_rate=recipe.prune_rate,
            seed=seed,
        )
        network.train()
        with adamw(
            network, lr=recipe.lr, weight_decay=recipe.weight_decay, device=device
        ) as optimiser:
            carried = Carried(network=network, optimiser=optimiser, masks=masks, device=device)
            average = _Average(network, recipe.average)
            if goes_on is not None:
                carried.restore(goes_on)
                average.load(goes_on["average"])
            for step, batch in zip(range(course.step + 1, total + 1), batches, strict=False):
                between_steps()
                for group in optimiser.param_groups:
                    group["lr"] = recipe.lr * recipe.rate(step - 1, total)
                rng = np.random.default_rng([seed, step])
                optimiser.zero_grad(set_to_none=False)
                loss = _loss(network, changes(*batch, rng), recipe.label_smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                masks.step()
                average.step(step)
                course.step = step
                course.losses.append(loss.detach())
                now = time.monotonic()
                # Reading a loss makes a GPU wait.
                if now - reported < min(REPORT_S, keep_s) and step < total:
                    continue
                if not course.finite:
                    return False
                if keep is not None and (step == total or now - kept >= wait):
                    keep({**carried.captured(course, of), "average": average.state()})
                    kept = time.monotonic()
                    wait = keep_s * max(1.0, kept - now)
                report(step=step, total_steps=total, loss=course.point()[1])
                course.losses.clear()
                reported = now
            average.give(masks)
        size = min(recipe.batch_size, len(data.train))
        rounds = max(recipe.recalibration_batches, RECALIBRATION_IMAGES // size)
        recalibrate(
            network,
            data,
            batches=rounds if recipe.recalibration_batches else 0,
            batch_size=size,
            device=device,
        )
        network.eval()
    return True


class _Changes:
    """What a recipe does to a batch of normalised images."""

    def __init__(self, data: ImageData, recipe: FullRecipe, device: torch.device) -> None:
        self._recipe = recipe
        self._dense = data.task == "segmentation"
        mean, deviation = (torch.tensor(v, dtype=torch.float32) for v in data.mean_std)
        self._mean_C, self._scale_C = mean.to(device), deviation.to(device)

    def __call__(self, images_BCHW: Tensor, labels: Tensor, rng: np.random.Generator) -> Mixture:
        """Change a batch; what is drawn depends on the generator alone."""
        recipe = self._recipe
        mean, scale = self._mean_C.view(1, -1, 1, 1), self._scale_C.view(1, -1, 1, 1)
        if recipe.operations and recipe.operation_share:
            pixels = rand_augment(
                images_BCHW * scale + mean,
                rng,
                operations=recipe.operations,
                share=recipe.operation_share,
                magnitude=recipe.magnitude,
                geometric=recipe.geometric and not self._dense,
                fill_C=self._mean_C,
            )
            images_BCHW = (pixels - mean) / scale
        if self._dense:
            return Mixture(images_BCHW, labels, labels, 1.0)
        images_BCHW = erased(images_BCHW, rng, share=recipe.erasing)
        if rng.random() >= recipe.mixing:
            return Mixture(images_BCHW, labels, labels, 1.0)
        return mixed(images_BCHW, labels, rng, mixup=recipe.mixup, cutmix=recipe.cutmix)


class _Average:
    """The moving average of a network's parameters; short at the start, when they change most."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._names, self._current = zip(*network.named_parameters(), strict=True)
        self._own = [parameter.detach().clone() for parameter in self._current]

    @torch.no_grad()
    def step(self, number: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self._decay, number / (9 + number))
        torch._foreach_lerp_(self._own, self._current, 1 - decay)

    def state(self) -> list[Tensor]:
        """Give what `load` takes."""
        return [own.cpu() for own in self._own]

    def load(self, state: Sequence[Tensor]) -> None:
        """Go on with the average of a state."""
        for own, value in zip(self._own, state, strict=True):
            own.copy_(value)

    @torch.no_grad()
    def give(self, masks: DynamicSparsity) -> None:
        """Give the average to the network; what is held at zero at the end is zero."""
        held: dict[str, Any] = masks.state()["masks"]
        for name, current, own in zip(self._names, self._current, self._own, strict=True):
            current.copy_(own)
            if name in held:
                current.mul_(held[name].to(current))


def _loss(network: nn.Module, batch: Mixture, label_smoothing: float) -> Tensor:
    if batch.share == 1:
        return training_loss(network, batch.images, batch.labels, label_smoothing=label_smoothing)
    with precision(batch.images.device):
        logits = network(batch.images)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own, other = (
        cross_entropy(logits, labels, label_smoothing=label_smoothing)
        for labels in (batch.labels, batch.others)
    )
    return batch.share * own + (1 - batch.share) * other
