"""Short training of one network on data that lies in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluators.batches import Augmenter, Normaliser, micro_batches
from evaluators.device import fastest_kernels, place, precision
from evaluators.images import ImageData
from evaluators.optimising import adamw, own_randomness, training_loss
from evaluators.recipe import Recipe
from evaluators.scores import Scores, evaluate
from evaluators.sparsity import DynamicSparsity, asked_densities
from evaluators.states import Carried, Course, State, course_of, identity
from search_space.errors import RunError

# Shapes: B batch, H height, W width, C channels; uint8 pixels lie as BHWC, networks read BCHW.

REPORTS_PER_EPOCH = 4
FORWARD_IMAGES = 4
"""Images of a forward pass alone for each of a backward pass, where memory is short.

The one keeps a few maps at a time, the other those of every layer. A network of three blocks of 32
channels on 96 x 96 pixels took 1.36 GB in batches of 32, 0.22 in parts of 8 and 0.06 in parts of 2,
evaluation included (`peak_bytes`, CPU).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What a training ended with."""

    state: Literal["complete", "stopped", "diverged"]
    """`stopped`: at the step it was to. `diverged`: the loss or the logits left the finite numbers
    at step `steps` (on CUDA, where losses are read a few times an epoch, at one of the steps since
    the last reading)."""
    scores: Scores | None
    """On the validation split; None where diverged."""
    steps: int
    """Optimiser steps made, those before it went on included."""
    seconds: float
    """Wall time of this stretch alone, without the pauses in `between_steps`, evaluation included.
    """
    curve: tuple[tuple[int, float], ...]
    """(step, mean training loss since the last point), smoothed as it was trained, from the first
    step of all on. One that stopped has a last point there, which one that went on has not."""
    checkpoint: State | None = field(default=None, compare=False, repr=False)
    """What `goes_on` takes, where stopped (see `evaluators.states`)."""


def train_briefly(
    network: nn.Module,
    data: ImageData,
    *,
    recipe: Recipe,
    seed: int,
    device: torch.device | str = "cpu",
    report: Callable[..., None] = lambda **_: None,
    between_steps: Callable[[], None] = lambda: None,
    merge: Callable[[nn.Module], nn.Module] | None = None,
    until: int | None = None,
    goes_on: State | None = None,
    micro_batch: int | None = None,
) -> Training:
    """Train a network in place from the weights it holds, and evaluate it on the validation split.

    AdamW with linear warm-up and a cosine to zero within the budget; on CUDA the forward pass runs
    in bfloat16. With one thread on the CPU, the same weights, data, recipe and seed give the same
    result bit for bit, whatever ran before in the process. The caller's random state is left alone.

    Where the network's architecture asks for `weights_sparsity`, that share of its weights is zero
    from before the first step to the end (see `evaluators.sparsity`); SNIP reads the first batch.

    A training may stop on the way, be evaluated, and go on from its checkpoint, in another process
    too: warm-up and cosine span the full length all the same, and the end has the bits of a
    training in one go.

    Args:
        network: maps (B, C, H, W) to logits as `evaluate` reads them; moved to the device, channels
            last.
        data: as the network reads it (see `matched`).
        recipe: how to train.
        seed: of the order, the augmentation and whatever the network draws itself (drop path).
        device: where to train.
        report: called a few times an epoch with `step`, `total_steps` (where it stops or ends),
            `loss`, `images_per_s`, and once evaluated with `accuracy` and `val_loss` as well.
        between_steps: called before every step; may block, which is not counted in the time.
        merge: makes the inference network that is evaluated, which is faster; None evaluates the
            training form.
        until: step, counted from the very first, at which it stops, with a checkpoint even where
            that is the last one; None trains to the end.
        goes_on: checkpoint of the same network, data, recipe and seed; its weights replace those
            that the network holds.
        micro_batch: most images of one backward pass, at least 2: their gradients add up to that of
            the batch, which takes less memory. Batch norms then see the statistics of fewer images,
            and drop path draws in another order, so the result is another one. Evaluations take
            fewer images at a time too. None takes whole batches.

    Raises:
        RunError: `goes_on` is the state of another training, or a number is out of its range.
    """
    device = torch.device(device)
    place(network, device)
    total = recipe.steps(len(data.train))
    last = total if until is None else until
    of = identity(network, data, recipe, seed)
    course = Course() if goes_on is None else course_of(goes_on, of, device)
    _check(course.step, last, total, micro_batch)
    batch_size = min(recipe.batch_size, len(data.train))
    batches = Augmenter(
        data,
        batch_size=batch_size,
        shift=recipe.shift,
        flip=recipe.flip,
        order=torch.Generator().manual_seed(seed),
        device=device,
    ).batches(skip=course.step)
    watch = _Watch()
    reported = course.step
    every = max(1, len(data.train) // batch_size // REPORTS_PER_EPOCH)
    checkpoint = scores = None
    with own_randomness(seed, device), fastest_kernels(device):
        densities: dict[str, float] = {}
        if goes_on is None:
            first = next(batches)
            densities = asked_densities(
                network, *first, method=recipe.sparsity_init, micro_batch=micro_batch
            )
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
            if goes_on is not None:
                carried.restore(goes_on)
            for step, batch in zip(range(course.step + 1, last + 1), batches, strict=False):
                with watch.paused():
                    between_steps()
                for group in optimiser.param_groups:
                    group["lr"] = recipe.lr * _rate(step - 1, total, recipe.warmup)
                parts = micro_batches(*batch, micro_batch)
                course.losses.append(_step(network, optimiser, parts, recipe.label_smoothing))
                course.step = step
                masks.step()
                # A rest shorter than half an interval joins the last report.
                due = step == total or (step % every == 0 and total - step > every // 2)
                # Reading a loss makes a GPU wait, so there it is read only where it is reported.
                if (due or device.type != "cuda") and not course.finite:
                    break
                if due:
                    point = course.point()
                    course.curve.append(point)
                    course.losses.clear()
                    speed = (step - reported) * batch_size / watch.lap()
                    reported = step
                    report(step=step, total_steps=last, loss=point[1], images_per_s=speed)
            finite = course.finite
            if finite and until is not None:
                checkpoint = carried.captured(course, of)
        if finite:
            if course.losses:
                course.curve.append(course.point())
            scores = _scored(network, data, recipe, device, merge=merge, micro_batch=micro_batch)
    if scores is not None:
        report(
            step=course.step,
            total_steps=last,
            loss=course.curve[-1][1],
            accuracy=scores.accuracy,
            val_loss=scores.loss,
        )
    ended: Literal["complete", "stopped"] = "complete" if until is None else "stopped"
    return Training(
        state="diverged" if scores is None else ended,
        scores=scores,
        steps=course.step,
        seconds=watch.seconds,
        curve=tuple(course.curve),
        checkpoint=None if scores is None else checkpoint,
    )


def recalibrate(
    network: nn.Module, data: ImageData, *, batches: int, batch_size: int, device: torch.device
) -> None:
    """Average the statistics of every batch norm anew over the first training images, as they are.

    The running averages of a short training still hold the statistics of weights long gone. Only
    the batch norms are in training mode meanwhile, so that drop path changes nothing.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms or not batches:
        return
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    normalise = Normaliser(data, device)
    last = len(data.train) - batch_size
    with torch.no_grad(), precision(device):
        for start in range(0, min(batches * batch_size, last + 1), batch_size):
            pixels = torch.from_numpy(data.train.images[start : start + batch_size])
            network(normalise(pixels.to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _scored(
    network: nn.Module,
    data: ImageData,
    recipe: Recipe,
    device: torch.device,
    *,
    merge: Callable[[nn.Module], nn.Module] | None,
    micro_batch: int | None,
) -> Scores | None:
    """Recalibrate and evaluate a network; None where a cross-entropy is not finite."""
    most = min(recipe.batch_size, len(data.train))
    images = recipe.recalibration_batches * most
    if micro_batch is not None:
        most = min(most, FORWARD_IMAGES * micro_batch)
    recalibrate(network, data, batches=-(-images // most), batch_size=most, device=device)
    scores = evaluate(
        merge(network) if merge else network,
        data,
        device=device,
        most_images=None if micro_batch is None else most,
    )
    losses = [one.loss for one in (scores, scores.last) if one is not None]
    return scores if all(map(math.isfinite, losses)) else None


def _check(begin: int, last: int, total: int, micro_batch: int | None) -> None:
    if not begin <= last <= total or last < 1:
        raise RunError(
            f"until: must be a step from {max(1, begin)}, where the training is, to {total}, where "
            f"it ends, got {last}; change it"
        )
    if micro_batch is not None and micro_batch < 2:
        raise RunError(
            f"micro_batch: must be at least 2, which batch norm needs, got {micro_batch}; change it"
        )


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    parts: Sequence[tuple[Tensor, Tensor, float]],
    label_smoothing: float,
) -> Tensor:
    """Make one optimiser step on the parts of a batch; give the loss before it."""
    # The gradients of the parameters are views: see `evaluators.flat`.
    optimiser.zero_grad(set_to_none=False)
    losses = []
    for images_BCHW, labels, weight in parts:
        loss = training_loss(network, images_BCHW, labels, label_smoothing=label_smoothing)
        if len(parts) > 1:
            loss = loss * weight
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    optimiser.step()
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


class _Watch:
    """Wall time in seconds that can be stopped."""

    def __init__(self) -> None:
        self._start = self._lap = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of a `with` block."""
        before = time.perf_counter()
        yield
        away = time.perf_counter() - before
        self._start += away
        self._lap += away

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._start

    def lap(self) -> float:
        """Time since the last lap, at least a microsecond."""
        now = time.perf_counter()
        taken, self._lap = now - self._lap, now
        return max(taken, 1e-6)


def _rate(step: int, total: int, warmup: float) -> float:
    """Give the rate of the step (from 0) as a share of its peak: up linearly, down as a cosine."""
    rising = warmup * total
    if step + 1 <= rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - rising) / (total + 1 - rising)))
