"""Dynamic sparsity: a share of the weights is zero all through a training, and changes place.

Source: SLaK, arXiv 2207.03620, and its official code. Ours: a mask holds exactly as many weights as
its density says, and an update moves exactly as many as it prunes, where the official code throws a
coin for each; and masks act after every optimiser step, where the official code leaves them out in
mixed precision, so that the network fills up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from builders import Network, build_network
from evaluators.densities import (
    SHAPE_RULES,
    SparsityInit,
    initial_densities,
    maskable_weights,
    snip_densities,
    snip_scores,
)
from search_space.architecture import Architecture

LAST_RATE = 0.005
"""Share that is pruned at the end of a training, as in the official code."""

SNIP_MACS = 36e9
"""Multiply-adds of the forward pass that `sparse_cost` pays for SNIP's densities.

They decide how many images it reads, two to four. Each more takes about 1 % off the multiply-adds
that come out, and this bound, 4 images for SLaK-T and 2 for S and B, gives what the official code
gives on random images: 5.008, 9.844 and 17.138 G against 5.010, 9.874 and 17.146 G. Non-zero
parameters do not depend on it.
"""
SNIP_IMAGES = (2, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseCost:
    """Size of the training form of a network, only counting weights that are not zero."""

    params_nonzero: int
    """Parameters without the weights held at zero."""
    macs_nonzero: int
    """Multiply-adds of one image, those of every layer times the density of its weight.

    What a machine could leave out that skips single zeros; ordinary ones do not.
    """
    densities: dict[str, float]
    """Share of every maskable weight that is not zero, by the name of the parameter."""


class DynamicSparsity:
    """The masks of one training.

    After every optimiser step, weights outside their mask are zero. Some times a training each mask
    drops the share p of its weights of least magnitude; as many are drawn at random from its zeros,
    those dropped a moment ago among them, and start at zero. p falls from `prune_rate` as a half
    cosine over the steps. The moments of the optimiser are left alone, as published: a weight comes
    back with those it had.
    """

    def __init__(
        self,
        network: nn.Module,
        densities: Mapping[str, float],
        *,
        steps: int,
        updates: int,
        prune_rate: float,
        seed: int,
    ) -> None:
        """Draw the masks and set the weights outside to zero.

        Args:
            network: changed in place; on the device where it will be trained.
            densities: share of each weight that stays, by the names of `maskable_weights`; those
                without a name here stay dense. A network that was trained sparsely before has
                found its places: it keeps the zeros that it has instead.
            steps: optimiser steps of the training.
            updates: how often masks change, evenly over the training and never at its end.
            prune_rate: p at the start.
            seed: of all draws; they are made on the CPU, so that no device changes them.
        """
        self._steps, self._updates, self._first_rate = steps, updates, prune_rate
        self._done = 0
        self._draw = torch.Generator().manual_seed(seed)
        weights = {n: w for n, w in maskable_weights(network).items() if n in densities}
        goes_on = _is_sparse(weights, densities)
        # Each weight with its mask, 1 where active, of the same type and memory layout.
        self._masks: dict[str, tuple[nn.Parameter, Tensor]] = {}
        for name, parameter in weights.items():
            weight = parameter.detach()
            if goes_on:
                mask = (weight != 0).to(weight.dtype)
            else:
                flat = weight.new_zeros(weight.numel())
                flat[self._chosen(len(flat), round(densities[name] * len(flat)))] = 1
                mask = torch.empty_like(weight).copy_(flat.view(weight.shape))
            if not bool(mask.all()):
                self._masks[name] = parameter, mask
        self._apply()

    def step(self) -> None:
        """Hold the zeros after an optimiser step, and move some of them where it is time."""
        self._done += 1
        self._apply()
        if self._done < self._steps and self._due(self._done) > self._due(self._done - 1):
            for parameter, mask in self._masks.values():
                self._move(parameter.detach(), mask)

    def state(self) -> dict[str, Any]:
        """Give what `load` needs to go on after the last step: plain values and tensors."""
        masks = {name: mask.bool().cpu() for name, (_, mask) in self._masks.items()}
        return {"done": self._done, "draw": self._draw.get_state(), "masks": masks}

    def load(self, network: nn.Module, state: Mapping[str, Any]) -> None:
        """Go on where the masks of another `DynamicSparsity` were, over the same steps.

        Args:
            network: the one of these masks, with the weights of then.
            state: as `state` gave it.
        """
        self._done = state["done"]
        self._draw.set_state(state["draw"])
        weights = maskable_weights(network)
        self._masks = {
            name: (weights[name], torch.empty_like(weights[name].detach()).copy_(mask))
            for name, mask in state["masks"].items()
        }

    @property
    def rate(self) -> float:
        """Share of the active weights that an update after the last step prunes."""
        last = min(LAST_RATE, self._first_rate)
        fallen = (1 - math.cos(math.pi * self._done / self._steps)) / 2
        return self._first_rate + (last - self._first_rate) * fallen

    def _due(self, step: int) -> int:
        """Give the number of updates up to a step: one more interval than updates, so none last."""
        return step * (self._updates + 1) // self._steps

    def _apply(self) -> None:
        for parameter, mask in self._masks.values():
            parameter.detach().mul_(mask)

    def _move(self, weight: Tensor, mask: Tensor) -> None:
        """Prune the smallest weights, and open as many places drawn from all zeros."""
        # Copies in the order of the shape, whatever the memory layout.
        values, flat = (
            t.clone(memory_format=torch.contiguous_format).view(-1) for t in (weight, mask)
        )
        active = flat.nonzero().squeeze(1)
        count = math.ceil(self.rate * len(active))
        smallest = values[active].abs().topk(count, largest=False, sorted=False).indices
        flat[active[smallest]] = 0
        values[active[smallest]] = 0
        zeros = (flat == 0).nonzero().squeeze(1)
        flat[zeros[self._chosen(len(zeros), count)]] = 1
        mask.copy_(flat.view(mask.shape))
        weight.copy_(values.view(weight.shape))

    def _chosen(self, among: int, count: int) -> Tensor:
        """Draw so many different numbers below `among`."""
        return torch.randperm(among, generator=self._draw)[:count]


def asked_densities(
    network: nn.Module,
    images_BCHW: Tensor,
    labels: Tensor,
    *,
    method: SparsityInit,
    micro_batch: int | None = None,
) -> dict[str, float]:
    """Give the densities that the network's architecture asks for by its `weights_sparsity`.

    None at all for a network without one, or without an architecture: it is dense.

    Args:
        network: left as it is; on the device where it will be trained.
        images_BCHW: a training batch.
        labels: its classes, or masks.
        method: what decides how dense each weight is.
        micro_batch: most images of one backward pass; None takes the whole batch.
    """
    sparsity = getattr(getattr(network, "architecture", None), "weights_sparsity", 0)
    if not sparsity:
        return {}
    return initial_densities(
        network,
        sparsity,
        method=method,
        images_BCHW=images_BCHW,
        labels=labels,
        micro_batch=micro_batch,
    )


def sparse_cost(
    architecture: Architecture,
    num_classes: int,
    *,
    method: SparsityInit = "snip",
    seed: int = 0,
    images: int | None = None,
) -> SparseCost:
    """Forecast what an architecture costs in training at its `weights_sparsity`.

    SNIP reads the gradient of random weights on random images, for which the network is built: 6 s
    and 1.7 GB for SLaK-T at 224 pixels, 22 s and 3.9 GB for SLaK-B (one core, two busy).

    Args:
        architecture: a dense one has densities of 1.
        num_classes: outputs of the classifier.
        method: how the zeros are shared out.
        seed: of the weights and images of SNIP.
        images: how many of them; None takes as many as `SNIP_MACS` pay for.

    Raises:
        SpaceError: where a part of this kind cannot be built.
    """
    macs = macs_by_weight(architecture, num_classes)
    with torch.device("meta"):
        network = build_network(architecture, num_classes)
    shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(network).items()}
    sparsity = architecture.weights_sparsity
    if not sparsity:
        densities = dict.fromkeys(shapes, 1.0)
    elif method == "snip":
        least, most = SNIP_IMAGES
        count = images or max(least, min(most, int(SNIP_MACS // sum(macs.values()))))
        densities = _random_snip(architecture, num_classes, count=count, seed=seed)
    else:
        densities = SHAPE_RULES[method](shapes, sparsity)
    active = {name: round(densities[name] * math.prod(shape)) for name, shape in shapes.items()}
    return _cost_of(network, macs, active)


def trained_sparse_cost(network: Network, num_classes: int) -> SparseCost:
    """Count a trained network: its weights that are not zero are the active ones."""
    macs = macs_by_weight(network.architecture, num_classes)
    weights = maskable_weights(network)
    active = {name: int(weight.count_nonzero()) for name, weight in weights.items()}
    return _cost_of(network, macs, active)


def macs_by_weight(architecture: Architecture, num_classes: int) -> dict[str, int]:
    """Give the multiply-adds of one image in which every maskable weight of the training form acts.

    An element of a weight acts once at every position of the map that its layer gives.
    """
    macs: dict[str, int] = {}

    def counter(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def add(module: nn.Module, _: object, given: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, nn.Parameter)
            macs[name] = macs.get(name, 0) + weight.numel() * given.numel() // len(weight)

        return add

    with torch.device("meta"):
        network = build_network(architecture, num_classes).eval()
        image_1CHW = torch.empty(1, architecture.channels, *architecture.size)
    for name in maskable_weights(network):
        network.get_submodule(name.removesuffix(".weight")).register_forward_hook(counter(name))
    with torch.no_grad():
        network(image_1CHW)
    return macs


def _random_snip(
    architecture: Architecture, num_classes: int, *, count: int, seed: int
) -> dict[str, float]:
    """Give SNIP's densities for random weights on so many random images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(architecture, num_classes)
        images_BCHW = torch.randn(count, architecture.channels, *architecture.size)
        shape = architecture.size if architecture.task == "segmentation" else ()
        labels = torch.randint(num_classes, (count, *shape))
        scores = snip_scores(network, images_BCHW, labels)
    return snip_densities(scores, architecture.weights_sparsity)


def _is_sparse(weights: Mapping[str, Tensor], densities: Mapping[str, float]) -> bool:
    """Whether half of the zeros asked for are there; a network that was never masked has none."""
    zeros = sum(weight.numel() - int(weight.count_nonzero()) for weight in weights.values())
    asked = sum((1 - densities[name]) * weight.numel() for name, weight in weights.items())
    return 0 < asked <= 2 * zeros


def _cost_of(network: nn.Module, macs: Mapping[str, int], active: Mapping[str, int]) -> SparseCost:
    """Give the cost of a network of which so many elements of each weight are active."""
    weights = maskable_weights(network)
    densities = {name: active[name] / weight.numel() for name, weight in weights.items()}
    params = sum(parameter.numel() for parameter in network.parameters())
    masked = sum(weight.numel() for weight in weights.values())
    return SparseCost(
        params_nonzero=params - masked + sum(active.values()),
        macs_nonzero=round(sum(macs[name] * density for name, density in densities.items())),
        densities=densities,
    )
