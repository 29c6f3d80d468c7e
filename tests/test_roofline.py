from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from builders import Network, build_network, merge_network
from builders.depthwise import DepthwiseConv
from evaluators import roofline as module
from evaluators.cost import cost
from evaluators.machine import Machine
from evaluators.operators import operators
from evaluators.roofline import Roofline, measure_roofline, observed, taps_on_map
from search_space.architecture import Architecture
from search_space.yaml_io import load_architecture
from tests.family_architectures import EVERY
from tests.random_architectures import random_architecture

CLASSES = 7
ROOFS = Machine(peaks={"x": 100.0}, bandwidths=((2**18, 100.0), (2**28, 10.0)), call_us=1.0)
NETWORKS = EVERY | {f"drawn {seed}": random_architecture(seed) for seed in range(6)}


@pytest.fixture(autouse=True)
def known_roofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the measurement of the machine out: it has tests of its own."""
    monkeypatch.setattr(module, "measure_machine", lambda _: ROOFS)


def merged(architecture: Architecture) -> Network:
    network = merge_network(build_network(architecture, CLASSES).eval())
    assert isinstance(network, Network)
    return network


def measured(architecture: Architecture, **given: int) -> Roofline:
    return measure_roofline(
        merged(architecture),
        size=architecture.size,
        channels=architecture.channels,
        budget_s=0.0,
        **given,
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_every_multiply_add_and_every_weight_stands_in_one_layer(name: str) -> None:
    network = NETWORKS[name]
    found = measured(network, batch_size=2)
    layers = {layer.name: layer for layer in found.layers}
    assert len(layers) == len(found.layers)
    assert sum(layer.macs for layer in found.layers) == 2 * cost(network, CLASSES).macs_inference
    listed = (one for one in operators(network, CLASSES) if one.kind == "depthwise")
    on_map = sum(one.effective_macs for one in listed)
    depthwise = (layer for layer in found.layers if "depthwise" in layer.kind)
    assert sum(layer.effective_macs for layer in depthwise) == 2 * on_map
    modules = dict(merged(network).named_modules())
    products = {
        name
        for name, part in modules.items()
        if isinstance(part, nn.Conv2d | nn.Linear | DepthwiseConv)
    }
    assert {name for name, layer in layers.items() if layer.macs} == products
    assert {name for name, part in modules.items() if isinstance(part, nn.LayerNorm)} <= set(layers)
    assert all((layer.kind != "other") == (layer.macs > 0) for layer in found.layers)
    assert found.layers_ms == pytest.approx(sum(layer.ms for layer in found.layers))
    assert all(layer.ms > 0 for layer in found.layers)
    assert found.whole_ms > 0
    assert found.rounds == module.MIN_ROUNDS
    assert found.disturbed <= found.rounds


def test_a_layer_is_counted_as_by_hand() -> None:
    network = replace(load_architecture("unireplknet_a"), size=(64, 64))
    layers = {layer.name: layer for layer in measured(network, batch_size=3).layers}
    # 80 channels on 8 x 8, the 13 x 13 kernel with a bias, float32.
    mix = layers["stages.1.0.mix"]
    assert (mix.kind, mix.what) == ("large depthwise", "depthwise 13x13, 80")
    assert mix.output == (3, 80, 8, 8)
    assert mix.macs == 3 * 80 * 64 * 169
    # On a line of 8 pixels each pair of pixels less than 7 apart is one tap: 8 + 2 (7 + ... + 2).
    assert mix.effective_macs == 3 * 80 * 62**2
    assert mix.bytes == 4 * (2 * 3 * 80 * 64 + 80 * 169 + 80)
    assert mix.intensity == pytest.approx(2 * mix.effective_macs / mix.bytes)
    assert mix.gflops == pytest.approx(2 * mix.effective_macs / (mix.ms * 1e6))
    assert mix.gbs == pytest.approx(mix.bytes / (mix.ms * 1e6))
    expand = layers["stages.1.0.feed_forward.expand"]
    assert expand.kind == "pointwise"
    assert expand.what.endswith(", 80 to 320")
    assert expand.macs == expand.effective_macs == 3 * 64 * 80 * 320
    assert expand.bytes == 4 * (3 * 64 * (80 + 320) + 80 * 320 + 320)
    assert layers["transitions.0.conv"].kind == "dense"
    assert layers["transitions.0.conv"].what == "conv 3x3 / 2, 40 to 80"
    assert layers["stages.0.0.mix"].kind == "small depthwise"


def test_what_has_no_weights_is_not_lost() -> None:
    network = replace(load_architecture("unireplknet_a"), size=(64, 64))
    found = measured(network).layers
    layers = {layer.name: layer for layer in found}
    elements = 40 * 16 * 16
    for name, what, values in (
        ("stages.0.0", "add", 3 * elements),
        ("stages.0.0.structure", "SqueezeExcite: mean, relu, sigmoid, mul", None),
        # The norm's scale and shift are read too.
        ("transitions.0.norm", "layer_norm", 2 * 80 * 8 * 8 + 2 * 80),
    ):
        assert (layers[name].kind, layers[name].what) == ("other", what)
        assert layers[name].macs == layers[name].effective_macs == 0
        assert values is None or layers[name].bytes == 4 * values
    active = [one for one in found if one.name.startswith("stages.0.0") and "gelu" in one.what]
    assert [one.kind for one in active] == ["other"]
    assert active[0].bytes >= 2 * 4 * 4 * elements
    order = [layer.name for layer in found if "stages.0.0" in layer.name]
    assert order[0] == "stages.0.0.mix"
    assert order[-1] == "stages.0.0"


def test_layers_come_in_the_order_in_which_they_work() -> None:
    names = [layer.name for layer in measured(load_small()).layers]
    expand = names.index("stages.0.0.feed_forward.expand")
    assert names[expand + 1 : names.index("stages.0.0.feed_forward.project")] == [
        "stages.0.0.feed_forward",  # GELU
        "stages.0.0.feed_forward.response",
    ]
    assert names[0] == "stem.first"
    assert names[-1] == "head.classify"


def load_small() -> Architecture:
    return replace(load_architecture("unireplknet_a"), size=(32, 32))


def test_measuring_leaves_no_hook_and_no_thread_behind() -> None:
    network, threads = merged(load_small()), torch.get_num_threads()
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert observed(network, images)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding", "dilation"),
    [(8, 13, 1, 6, 1), (7, 3, 2, 1, 1), (5, 3, 1, 4, 4), (9, 2, 2, 0, 1), (1, 3, 1, 1, 1)],
)
def test_taps_on_the_map_are_what_a_convolution_of_ones_sums(
    side: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    conv = torch.ones(1, 1, kernel, dtype=torch.float64)
    made = nn.functional.conv1d(
        torch.ones(1, 1, side, dtype=torch.float64), conv, None, stride, padding, dilation
    )
    taps = taps_on_map(
        side, made.numel(), kernel, stride=stride, padding=padding, dilation=dilation
    )
    assert taps == int(made.sum())


class Mixed(nn.Module):
    """Products of matrices in other words, in place, of a view, and one layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(6, 6)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BN = x_BCHW.flatten(1)[:, :6]
        y_BN = self.twice(self.twice(x_BN)).relu_()
        y_BN = torch.addmm(y_BN, x_BN, x_BN.new_ones(6, 6))
        return (y_BN @ y_BN.T).expand(2, -1, -1).sum(0)


def test_a_network_of_any_operators_is_measured() -> None:
    found = measure_roofline(Mixed(), size=(4, 4), channels=1, batch_size=5, budget_s=0.0)
    own, twice = sorted(found.layers, key=lambda layer: layer.name)
    assert (twice.name, twice.macs, twice.operators) == ("twice", 2 * 5 * 36, 2)
    assert own.macs == 5 * 36 + 25 * 6
    assert twice.bytes == 2 * 4 * (2 * 30 + 36 + 6) + 4 * (16 - 6) * 0
    assert math.isfinite(own.intensity)
