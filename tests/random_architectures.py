"""Random small architectures and random weights for property tests: deliberately odd ones."""

from __future__ import annotations

import random

import torch
from torch import nn

from search_space.architecture import Architecture, Branches, Stage, Stem, paper_branches
from search_space.families import STRUCTURES

KERNELS = (3, 5, 7, 9, 11, 13, 15, 17, 19, 23, 29, 31)


def random_architecture(seed: int, *, largest: int = 12) -> Architecture:
    """Draw a network for images up to `largest` pixels a side: odd sizes, every structure."""
    draw = random.Random(seed)
    stages = tuple(_stage(draw) for _ in range(draw.randint(1, 3)))
    return Architecture(
        size=(draw.randint(1, largest), draw.randint(1, largest)),
        channels=draw.choice([1, 3]),
        stem=Stem(stride=draw.choice([1, 2, 4])),
        stages=stages,
    )


def randomise(network: nn.Module) -> None:
    """Draw every weight and statistic, so that nothing that folds is at a value that hides it."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        with torch.no_grad():
            if name.endswith("running_var"):
                tensor.uniform_(0.3, 2)
            elif name.endswith("num_batches_tracked"):
                continue
            elif name.endswith("down.bias"):
                tensor.uniform_(2, 3)  # or the ReLU behind it may block every gradient
            elif tensor.dim() > 1 and "response" not in name:
                tensor.normal_(std=tensor[0].numel() ** -0.5)
            else:
                tensor.normal_(mean=0.5, std=0.5)


def _stage(draw: random.Random) -> Stage:
    depth = draw.randint(1, 2)
    kernel = draw.choice(KERNELS)
    return Stage(
        depth=depth,
        width=draw.randint(2, 9),
        kernel=kernel,
        placement="".join(draw.choice("LLS") for _ in range(depth)),
        dilations=_branches(draw, kernel),
        structure=draw.choice(STRUCTURES),
        se_ratio=draw.choice([2, 4, 16]),
        ffn_ratio=draw.choice([1, 2, 3.5, 4]),
        layer_scale=draw.choice([0.0, 1e-6, 0.5]),
    )


def _branches(draw: random.Random, kernel: int) -> Branches:
    kind = draw.choice(["none", "paper", "any"])
    if kind == "none" or kernel == 3:
        return ()
    if kind == "paper":
        return paper_branches(kernel)
    branches = {(1, 1)} if draw.random() < 0.3 else set()
    for _ in range(draw.randint(1, 3)):
        k = draw.randrange(3, kernel + 1, 2)
        branches.add((k, draw.randint(1, (kernel - 1) // (k - 1))))
    return tuple(sorted(branches))
