"""Closed-form cost: published numbers, and equality with what is counted on built networks."""

from __future__ import annotations

import time

import pytest
import torch

from builders.network import build_network, merge_network
from evaluators.cost import Cost, cost
from evaluators.counting import count, meta_macs
from search_space.architecture import Architecture, Stage, Stem, paper_branches
from search_space.errors import SpaceError
from search_space.yaml_io import load_architecture
from tests.random_architectures import random_architecture

# Parameters train, merged; multiply-adds train, merged in G (1000 classes, 224 px).
PUBLISHED = {
    "unireplknet_a": (4_649_060, 4_437_300, 0.6747, 0.6398),
    "unireplknet_f": (6_489_328, 6_235_216, 0.9469, 0.9051),
    "unireplknet_p": (11_080_520, 10_741_704, 1.6288, 1.5731),
    "unireplknet_n": (18_818_880, 18_318_560, 2.8489, 2.7665),
    "unireplknet_t": (31_693_420, 31_037_980, 5.0035, 4.8990),
    "unireplknet_s": (56_456_704, 55_645_984, 9.2194, 9.0940),
    "unireplknet_b": (99_089_416, 98_008_456, 16.2244, 16.0572),
    "unireplknet_l": (220_076_056, 218_454_616, 36.1324, 35.8815),
    "unireplknet_xl": (388_690_984, 386_529_064, 63.9041, 63.5696),
}


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items())
def test_published_networks_cost_what_was_published(
    name: str, expected: tuple[int, int, float, float]
) -> None:
    given = cost(load_architecture(name), 1000)

    assert (
        given.params_train,
        given.params_merged,
        round(given.macs_train / 1e9, 4),
        round(given.macs_merged / 1e9, 4),
    ) == expected


@pytest.mark.parametrize(("name", "macs"), [("b", 47.176), ("l", 105.422), ("xl", 186.772)])
def test_larger_images_cost_what_was_published(name: str, macs: float) -> None:
    network = load_architecture(f"unireplknet_{name}")
    larger = Architecture(size=(384, 384), stem=network.stem, stages=network.stages)

    assert round(cost(larger, 1000).macs_merged / 1e9, 3) == macs


@pytest.mark.parametrize(
    ("structure", "params", "macs"),
    [
        ("none", 31_319_560, 4_917_050_112),
        ("bottleneck", 32_961_808, 5_181_988_800),
        ("pointwise", 32_945_248, 5_177_162_496),
        ("depthwise", 31_452_040, 4_955_660_544),
        ("se", 32_945_248, 4_918_667_520),
    ],
)
def test_structures_cost_what_table_1_prints(structure: str, params: int, macs: int) -> None:
    # Printed (some cut, not rounded): 31.3M 4.92G, 32.9M 5.18G, 32.9M 5.17G, 31.4M 4.96G,
    # 32.9M 4.92G.
    stages = tuple(
        Stage(
            depth=depth,
            width=96 * 2**index,
            kernel=kernel,
            placement="L" * depth,
            dilations=paper_branches(kernel),
            structure=structure,
            layer_scale=1e-6,
        )
        for index, (depth, kernel) in enumerate([(3, 3), (3, 13), (9, 13), (3, 13)])
    )
    given = cost(Architecture(size=(224, 224), stem=Stem(), stages=stages), 1000)

    assert (given.params_merged, given.macs_merged) == (params, macs)


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_closed_form_equals_what_fvcore_counts_in_both_forms(first: int) -> None:
    for seed in range(first, first + 10):
        architecture = random_architecture(seed, largest=9)
        given = cost(architecture, 7)
        with torch.device("meta"):
            network = build_network(architecture, 7)
            forms = network, merge_network(network)
        train, merged = (count(form, architecture.size, architecture.channels) for form in forms)

        assert given == Cost(
            params_train=train.params,
            params_merged=merged.params,
            macs_train=train.macs,
            macs_merged=merged.macs,
            activations=given.activations,
            depth=sum(stage.depth for stage in architecture.stages),
        ), f"seed {seed}: {architecture}"


@pytest.mark.parametrize("merged", [False, True])
def test_closed_form_equals_torchs_own_count_on_the_meta_device(merged: bool) -> None:  # noqa: FBT001
    for seed in range(200, 215):
        architecture = random_architecture(seed, largest=64)
        given = cost(architecture, 5)

        expected = given.macs_merged if merged else given.macs_train
        assert meta_macs(architecture, 5, merged=merged) == expected, f"seed {seed}: {architecture}"


def test_activations_are_the_outputs_of_convolutions_and_linear_layers() -> None:
    for seed in range(300, 315):
        architecture = random_architecture(seed)
        merged = merge_network(build_network(architecture, 5))
        outputs = 0

        def add(_module: object, _inputs: object, y: torch.Tensor) -> None:
            nonlocal outputs
            outputs += y.numel()

        for module in merged.modules():
            if type(module).__name__ in ("Conv2d", "DepthwiseConv", "Linear"):
                module.register_forward_hook(add)
        merged(torch.zeros(1, architecture.channels, *architecture.size))

        assert cost(architecture, 5).activations == outputs, f"seed {seed}: {architecture}"


def test_a_kind_without_a_cost_is_refused() -> None:
    stage = Stage(depth=1, width=8, placement="S")
    network = Architecture(size=(32, 32), block="convnext", stem=Stem(), stages=(stage,))

    with pytest.raises(
        SpaceError, match=r"^block: must be a kind that can be built, got 'convnext'"
    ):
        cost(network, 10)


def test_thousands_of_architectures_are_counted_in_a_second() -> None:
    # 20,000 a second on a quiet core; a loaded machine must not fail the test.
    architectures = [random_architecture(seed) for seed in range(1000)]

    start = time.process_time()
    for architecture in architectures:
        cost(architecture, 10)

    assert time.process_time() - start < 0.25
