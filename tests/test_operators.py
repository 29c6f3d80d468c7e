"""Operators in closed form: those that run in a merged network, in order, and nothing else."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from builders.blocks import BLOCKS
from builders.depthwise import DepthwiseConv
from builders.feed_forward import ResponseNorm
from builders.heads import HEADS
from builders.network import build_network, inference_network
from builders.stems import STEMS
from builders.structures import STRUCTURES
from builders.transitions import TRANSITIONS
from evaluators import operators as listed
from evaluators.cost import cost
from evaluators.operators import KINDS, Operator, operators, taps_on_map
from search_space.architecture import Architecture
from tests.random_architectures import random_architecture

SEEDS = range(0, 60, 15)


class _Calls(TorchDispatchMode):
    """Counts the operators of torch that run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        tensors = sum(isinstance(argument, Tensor) for argument in args)
        self.counts[f"{name} of {tensors}" if name in ("add", "mul") else name] += 1
        return func(*args, **(kwargs or {}))


def seen(architecture: Architecture, num_classes: int) -> tuple[list[Operator], Counter[str]]:
    """Run a merged network: what its layers do, by hooks, and the calls of torch's operators."""
    network = inference_network(build_network(architecture, num_classes))
    found: list[Operator] = []

    def layer(module: Any, inputs: tuple[Tensor, ...], made: Tensor) -> None:
        (x,) = inputs
        weights = sum(parameter.numel() for parameter in module.parameters())
        kind, macs, effective, width, side = "dense", 0, 0, 1, 1
        if isinstance(module, nn.LayerNorm):
            kind = "norm"
        elif isinstance(module, ResponseNorm):
            kind = "response"
        else:
            macs = effective = module.weight[0].numel() * made.numel()
            width = module.weight.shape[0]
            if isinstance(module, DepthwiseConv) or getattr(module, "groups", 1) > 1:
                kind, side = "depthwise", max(module.weight.shape[2:])
                effective = width * on_map(module, x)
        found.append(Operator(kind, macs, effective, x.numel(), made.numel(), weights, width, side))

    kinds = nn.Conv2d | nn.Linear | DepthwiseConv | nn.LayerNorm | ResponseNorm
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(layer)
    with torch.inference_mode(), _Calls() as calls:
        network(torch.zeros(1, architecture.channels, *architecture.size))
    return found, calls.counts


def on_map(module: Any, x: Tensor) -> int:
    """Count the taps that meet the map: ones convolved with ones."""
    kernel = torch.ones(1, 1, *module.weight.shape[2:])
    padding = tuple(side // 2 for side in module.weight.shape[2:])
    stride = getattr(module, "stride", 1)
    return int(F.conv2d(torch.ones(1, 1, *x.shape[2:]), kernel, None, stride, padding).sum())


@pytest.mark.parametrize("first", SEEDS)
def test_layers_are_those_that_run_in_their_order(first: int) -> None:
    for seed in range(first, first + 15):
        architecture = random_architecture(seed, largest=24)
        given = list(operators(architecture, 7))
        layers = [o for o in given if o.kind in ("dense", "depthwise", "norm", "response")]

        assert layers == seen(architecture, 7)[0], f"seed {seed}: {architecture}"


@pytest.mark.parametrize("first", SEEDS)
def test_other_operators_are_as_many_as_torch_runs(first: int) -> None:
    for seed in range(first, first + 15):
        architecture = random_architecture(seed)
        given = Counter(o.kind for o in operators(architecture, 7))
        _, calls = seen(architecture, 7)

        assert set(given) <= set(KINDS)
        assert given["gelu"] == calls["gelu"]
        assert given["relu"] == calls["relu"] + calls["sigmoid"]
        # A response norm has one mean and two products of its own.
        assert given["pool"] == calls["mean"] - given["response"]
        gates = calls["mul of 2"] - 2 * given["response"]
        assert given["resize"] == calls["upsample_bilinear2d"]
        assert given["sum"] == calls["add of 2"] + gates, f"seed {seed}: {architecture}"


def test_sums_are_those_of_the_cost() -> None:
    for seed in range(200):
        architecture = random_architecture(seed, largest=64)
        given, counted = list(operators(architecture, 5)), cost(architecture, 5)

        assert sum(o.macs for o in given) == counted.macs_inference
        assert sum(o.weights for o in given) == counted.params_inference
        layers = [o for o in given if o.kind in ("dense", "depthwise")]
        assert sum(o.outputs for o in layers) == counted.activations


def test_every_part_that_can_be_built_has_its_operators() -> None:
    for ours, built in (
        (listed.STEM_OPERATORS, STEMS),
        (listed.TRANSITION_OPERATORS, TRANSITIONS),
        (listed.BLOCK_OPERATORS, BLOCKS),
        (listed.STRUCTURE_OPERATORS, STRUCTURES),
        (listed.HEAD_OPERATORS, HEADS),
    ):
        assert set(ours) == set(built)


def test_a_kernel_of_31_on_7_pixels_has_a_twentieth_of_its_taps_on_the_map() -> None:
    assert taps_on_map(7, 31) ** 2 / (31 * 7) ** 2 == pytest.approx(0.051, abs=0.001)
    assert taps_on_map(7, 3) == 3 * 7 - 2
    assert taps_on_map(7, 3, 2) == 3 * 4 - 2
    assert taps_on_map(8, 3, 2) == 3 * 4 - 1


def test_bytes_count_maps_once_an_image_and_weights_once_a_batch() -> None:
    operator = Operator("dense", 50, 50, 5, 10, 60)
    assert (operator.bytes(), operator.bytes(8)) == (4 * 75, 4 * (8 * 15 + 60))


def test_thousands_of_architectures_are_listed_in_a_second() -> None:
    # 25,000 a second on a quiet core; a loaded machine must not fail the test.
    architectures = [random_architecture(seed) for seed in range(1000)]

    start = time.process_time()
    for architecture in architectures:
        list(operators(architecture, 10))

    assert time.process_time() - start < 0.5
