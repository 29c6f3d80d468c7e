"""Random small architectures and random weights for property tests: deliberately odd ones."""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import nn

from search_space.architecture import Architecture, Branches, Stage, Stem, paper_branches
from search_space.families import CLASSIFIERS, FAMILIES, STEM_KINDS, STRUCTURES, TRANSITION_KINDS

_FAMILY_KEYS = frozenset().union(*(family.stage_keys for family in FAMILIES.values()))
KERNELS = (3, 5, 7, 9, 11, 13, 15, 17, 19, 23, 29, 31)


def random_architecture(seed: int, *, largest: int = 12) -> Architecture:
    """Draw a network for images up to about `largest` pixels: odd sizes, every part in any mixture.

    An image that is too small for the parts drawn is doubled until every map has a pixel.
    """
    draw = random.Random(seed)
    block = draw.choice(list(FAMILIES))
    stages = tuple(_stage(draw, block) for _ in range(draw.randint(1, 3)))
    hidden = random.Random(f"hidden {seed}")
    stages = tuple(
        replace(stage, ffn_hidden=hidden.choice([None, None, 1, 7, 13])) for stage in stages
    )
    architecture = Architecture(
        size=(draw.randint(1, largest), draw.randint(1, largest)),
        channels=draw.choice([1, 3]),
        block=block,
        stem=Stem(kind=draw.choice(STEM_KINDS), stride=draw.choice([1, 2, 4])),
        transition=draw.choice(TRANSITION_KINDS),
        head=draw.choice(CLASSIFIERS),
        width_factor=draw.choice([1, 1.3]) if block == "slak" else 1,
        stages=stages,
    )
    while not all(map(min, architecture.maps)):
        height, width = architecture.size
        architecture = replace(architecture, size=(2 * height, 2 * width))
    return architecture


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


def _stage(draw: random.Random, block: str) -> Stage:
    acts = FAMILIES[block].stage_keys
    depth = draw.randint(1, 2)
    kernel = draw.choice(KERNELS)
    stage = Stage(
        depth=depth,
        width=draw.randint(2, 9),
        kernel=kernel,
        placement="".join(draw.choice("LLS") for _ in range(depth)),
        dilations=_branches(draw, kernel),
        structure=draw.choice(STRUCTURES),
        se_ratio=draw.choice([2, 4, 16]),
        ffn_ratio=draw.choice([1, 2, 3.5, 4]),
        layer_scale=draw.choice([0.0, 1e-6, 0.5]),
        small_kernel=draw.choice([None, 3, min(5, kernel)]),
        dw_ratio=draw.choice([1, 1.5]),
        strip=draw.choice([None, 3, 5]),
    )
    plain = Stage(depth=depth, width=stage.width, placement=stage.placement)
    unused = {key: getattr(plain, key) for key in _FAMILY_KEYS - acts}
    return replace(stage, **unused)


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
