"""A network in words, part by part: what a drawing shows, for who hears it or reads it as text."""

from __future__ import annotations

from collections.abc import Sequence

from builders.blocks import strip_beside
from runs.wording import listed, plural
from search_space.architecture import Architecture, Branches, Stage

FAMILY_NAMES = {
    "unireplknet": "UniRepLKNet",
    "replknet": "RepLKNet",
    "slak": "SLaK",
    "convnext": "ConvNeXt",
}
STEM_WORDS = {
    "unireplknet": "two 3x3 convolutions",
    "replknet": "3x3, depthwise 3x3, 1x1, depthwise 3x3",
    "patchify": "one convolution of patches",
}
TRANSITION_WORDS = {
    "unireplknet": "3x3 convolution at stride 2",
    "replknet": "1x1, depthwise 3x3 at stride 2",
    "convnext": "2x2 convolution at stride 2",
}
HEAD_WORDS = {
    "pool_norm": "pooling, norm, linear",
    "norm_pool": "norm, pooling, linear",
    "dense": "pyramid over all stages, a label for every pixel",
}
STRUCTURE_WORDS = {
    "se": "squeeze-and-excitation",
    "bottleneck": "a bottleneck (1x1, 3x3, 1x1)",
    "pointwise": "a pair of 1x1 convolutions",
    "depthwise": "a pair of depthwise 3x3 convolutions",
}
"""What adds depth inside a block, beside none."""

Groups = list[tuple[tuple[int, ...], int]]
"""Kernels of neighbouring blocks, and how often they come one after the other."""


def groups(kernels: Sequence[int]) -> Groups:
    """Write a row of blocks as patterns that repeat: 27 blocks `L S S L S S ...` are one, 9 times.

    At every place the shortest of the patterns that cover most blocks is taken.
    """
    found: Groups = []
    start = 0
    while start < len(kernels):
        rest = tuple(kernels[start:])
        best, times = rest[:1], 1
        for period in range(1, len(rest) // 2 + 1):
            count = 1
            while rest[count * period : (count + 1) * period] == rest[:period]:
                count += 1
            if count > 1 and count * period > len(best) * times:
                best, times = rest[:period], count
        found.append((best, times))
        start += len(best) * times
    return found


def beside(stage: Stage, kernel: int, block: str) -> Branches:
    """Give the branches (kernel k, dilation r) that are trained beside a depthwise kernel."""
    if kernel == 3:
        return ()
    if block == "unireplknet":
        return stage.dilations
    if block == "replknet":
        return () if stage.small_kernel is None else ((stage.small_kernel, 1),)
    strip = strip_of(stage, kernel, block)
    return () if strip is None else ((strip, 1),)


def strip_of(stage: Stage, kernel: int, block: str) -> int | None:
    """Give the short side of a SLaK block's strips; None where the kernel is a square."""
    return strip_beside(stage, kernel) if block == "slak" else None


def kernel_words(stage: Stage, kernel: int, block: str) -> str:
    """Say what a block's depthwise convolution is: `13x13 beside 5x5 and 3x3 with taps 4 apart`."""
    strip = strip_of(stage, kernel, block)
    text = f"{kernel}x{kernel}" if strip is None else f"{kernel}x{strip} and {strip}x{kernel}"
    branches = [
        f"{k}x{k}{f' with taps {r} apart' if r > 1 else ''}"
        for k, r in beside(stage, kernel, block)
    ]
    return f"{text} beside {listed(branches)}" if branches else text


def stage_words(architecture: Architecture, number: int) -> str:
    """Say what a stage is, its map and its blocks; `number` counts from 0."""
    stage, (height, width) = architecture.built_stages[number], architecture.maps[number]
    blocks = "; ".join(
        f"{' then '.join(dict.fromkeys(_run_words(pattern)))}{f', {times} times' * (times > 1)}"
        for pattern, times in groups(stage.kernels)
    )
    kinds = [k for k in dict.fromkeys(stage.kernels) if k > 3]
    branches = "".join(
        f" {kernel_words(stage, k, architecture.block)}."
        for k in kinds
        if beside(stage, k, architecture.block)
    )
    structure = STRUCTURE_WORDS.get(stage.structure)
    each = "each " if stage.depth > 1 else ""
    return (
        f"Stage {number + 1}: {height}x{width} map, {plural(stage.width, 'channel')}, "
        f"{plural(stage.depth, 'block')} ({blocks})"
        f"{f', {each}with {structure}' if structure else ''}, "
        f"{_hidden(stage)} hidden channels.{branches}"
    )


def network_words(architecture: Architecture) -> list[str]:
    """Say what a network is, a sentence a part, from the images to the head."""
    height, width = architecture.size
    sparse = architecture.weights_sparsity
    name = FAMILY_NAMES.get(architecture.block, architecture.block)
    sentences = [
        f"Blocks of {name} for images of {height}x{width} pixels with "
        f"{plural(architecture.channels, 'channel')}"
        f"{f', {sparse:.0%} of the weights held at zero' if sparse else ''}.",
        f"Stem: {STEM_WORDS.get(architecture.stem.kind, architecture.stem.kind)}, stride "
        f"{architecture.stem.stride}.",
    ]
    sentences += [stage_words(architecture, number) for number in range(len(architecture.stages))]
    if len(architecture.stages) > 1:
        step = TRANSITION_WORDS.get(architecture.transition, architecture.transition)
        sentences.append(f"Between stages: {step}.")
    return [*sentences, f"Head: {HEAD_WORDS.get(architecture.head, architecture.head)}."]


def _run_words(kernels: Sequence[int]) -> list[str]:
    return [
        f"{f'{times} of ' * (times > 1)}{pattern[0]}x{pattern[0]}"
        if len(pattern) == 1
        else " and ".join(f"{k}x{k}" for k in pattern)
        for pattern, times in groups(kernels)
    ]


def _hidden(stage: Stage) -> str:
    return f"{stage.ffn_width:,}"
