"""How the zeros of a sparse network are shared out among its weights.

A weight here is the whole tensor of a layer, its density the share of its elements that stay. SNIP
(arXiv 1810.02340) looks at one batch, the Erdos-Renyi kernel rule (arXiv 1911.11134) at shapes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.batches import micro_batches
from evaluators.scores import cross_entropy

SparsityInit = Literal["snip", "erk", "uniform"]
"""How the zeros are shared out among the weights: a word of `Recipe.sparsity_init`."""

SPARSITY_INITS: tuple[str, ...] = get_args(SparsityInit)

DENSE = 0.99
"""From this density on a weight is not masked at all, as in the official code."""


def maskable_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Give the weights of all convolutions and linear layers by the names of the parameters.

    Stem, transitions and head are among them, as published; norms, biases and GRN are not.
    """
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in network.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
        and module.weight.ndim in (2, 4)
    }


def initial_densities(
    network: nn.Module,
    sparsity: float,
    *,
    method: SparsityInit,
    images_BCHW: Tensor,
    labels: Tensor,
    micro_batch: int | None = None,
) -> dict[str, float]:
    """Give the density of every maskable weight, so that the share `sparsity` of them all is zero.

    Less where densities come out at `DENSE` or above: such a weight stays whole, as published.

    Args:
        network: left as it is.
        sparsity: in (0, 1).
        method: `snip` looks at the batch, the others at the shapes alone.
        images_BCHW: one training batch as the network reads it.
        labels: its classes.
        micro_batch: see `snip_scores`.
    """
    if method == "snip":
        scores = snip_scores(network, images_BCHW, labels, micro_batch=micro_batch)
        return snip_densities(scores, sparsity)
    shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(network).items()}
    return SHAPE_RULES[method](shapes, sparsity)


def uniform_densities(shapes: Mapping[str, tuple[int, ...]], sparsity: float) -> dict[str, float]:
    """Give every weight the same density."""
    return dict.fromkeys(shapes, 1 - sparsity)


def erk_densities(shapes: Mapping[str, tuple[int, ...]], sparsity: float) -> dict[str, float]:
    """Give densities in proportion to (sum of the sides) / (their product), at most 1.

    What a weight cannot take goes to the others, in the same proportion. Every depthwise kernel of
    the published SLaK networks ends at 1.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    wanted = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    left = (1 - sparsity) * sum(sizes.values())
    found: dict[str, float] = {}
    while True:
        share = left / sum(wanted[name] * sizes[name] for name in wanted)
        full = [name for name in wanted if share * wanted[name] > 1]
        if not full:
            found |= {name: share * value for name, value in wanted.items()}
            return {name: found[name] for name in shapes}
        # Their surplus only raises the share of the others, so none of them would come back.
        for name in full:
            found[name] = 1.0
            left -= sizes[name]
            del wanted[name]


SHAPE_RULES = {"erk": erk_densities, "uniform": uniform_densities}
"""Methods that look at nothing but shapes: rule(shapes by name, sparsity)."""


def snip_densities(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
    """Give the share of every weight that is among the (1 - sparsity) best scores of all.

    Scores that are equal at the threshold share what is left of it evenly: taps that meet no pixel
    of their map all score 0. Densities from `DENSE` on become 1, as do all where a score is not
    finite: such a network trains densely, and shows by itself that it diverges.
    """
    every = torch.cat([score.detach().flatten().cpu() for score in scores.values()]).numpy()
    if not np.isfinite(every).all():
        return dict.fromkeys(scores, 1.0)
    kept = max(1, int((1 - sparsity) * len(every)))
    # In place; ten times faster than torch's kthvalue, on 50 million scores 0.2 s.
    every.partition(len(every) - kept)
    threshold = float(every[len(every) - kept])
    above, equal = int((every > threshold).sum()), int((every == threshold).sum())
    share = (kept - above) / equal
    found = {}
    for name, score in scores.items():
        better = int((score > threshold).sum()) + share * int((score == threshold).sum())
        density = better / score.numel()
        found[name] = 1.0 if density >= DENSE else density
    return found


def snip_scores(
    network: nn.Module, images_BCHW: Tensor, labels: Tensor, *, micro_batch: int | None = None
) -> dict[str, Tensor]:
    """Give |w dL/dw| of every maskable weight, L the plain cross-entropy of one training batch.

    In the precision of the weights, and on a copy, so that no batch norm takes note of the batch.

    Args:
        network: left as it is.
        images_BCHW: the batch.
        labels: its classes, or masks.
        micro_batch: most images of one backward pass; None takes the whole batch.
    """
    probe = copy.deepcopy(network).train()
    for some_BCHW, those, weight in micro_batches(images_BCHW, labels, micro_batch):
        loss = cross_entropy(probe(some_BCHW), those)
        (loss * weight).backward()  # type: ignore[no-untyped-call]
    scores = {}
    for name, parameter in maskable_weights(probe).items():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scores[name] = gradient.mul_(parameter.detach()).abs_()
    return scores
