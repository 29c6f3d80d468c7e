"""Closed-form cost: published numbers, and equality with what is counted on built networks."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from builders.depthwise import DepthwiseConv
from builders.network import build_network, inference_network, published_network
from evaluators.cost import Cost, cost
from evaluators.counting import count, meta_macs
from search_space.architecture import Architecture, Stage, Stem, paper_branches
from search_space.errors import SpaceError
from search_space.yaml_io import load_architecture
from tests.random_architectures import random_architecture

# Parameters of the training and the published form; multiply-adds of both in G (1000 classes, 224
# px). UniRepLKNet, arXiv 2311.15599; RepLKNet, 2203.06717; SLaK, 2207.03620; ConvNeXt, 2201.03545.
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
    "replknet_31b": (79_864_168, 79_527_272, 15.4313, 15.3535),
    "replknet_31l": (172_671_016, 172_165_672, 32.7807, 32.6641),
    "replknet_xl": (335_435_752, 335_399_656, 63.0789, 63.0789),
    "replknet_b_3": (71_906_408, 71_894_376, 12.9387, 12.9387),
    "replknet_b_7": (72_712_552, 72_375_656, 13.1409, 13.0631),
    "replknet_b_13": (74_156_392, 73_819_496, 13.5142, 13.4364),
    "replknet_b_25": (78_709_096, 78_372_200, 14.8870, 14.8092),
    "slak_t": (50_703_838, 50_703_838, 8.7048, 8.7048),
    "slak_s": (91_131_820, 91_131_820, 16.6040, 16.6040),
    "slak_b": (157_950_792, 157_950_792, 28.5091, 28.5091),
    "convnext_t": (28_589_128, 28_589_128, 4.4555, 4.4555),
    "convnext_s": (50_223_688, 50_223_688, 8.6837, 8.6837),
    "convnext_b": (88_591_464, 88_591_464, 15.3547, 15.3547),
    "convnext_l": (197_767_336, 197_767_336, 34.3614, 34.3614),
    "convnext_xl": (350_196_968, 350_196_968, 60.9210, 60.9210),
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


@pytest.mark.parametrize(
    ("name", "size", "macs"),
    [
        ("unireplknet_b", 384, 47.176),
        ("unireplknet_l", 384, 105.422),
        ("unireplknet_xl", 384, 186.772),
        ("replknet_31b", 384, 45.119),
        ("replknet_31l", 384, 95.989),
        ("replknet_xl", 320, 128.730),
        ("convnext_t", 384, 13.092),
        ("convnext_s", 384, 25.518),
        ("convnext_b", 384, 45.122),
        ("convnext_l", 384, 100.978),
        ("convnext_xl", 384, 179.029),
    ],
)
def test_larger_images_cost_what_was_published(name: str, size: int, macs: float) -> None:
    larger = replace(load_architecture(name), size=(size, size))

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
            forms = network, published_network(network), inference_network(network)
        train, merged, inference = (
            count(form, architecture.size, architecture.channels) for form in forms
        )

        assert given == Cost(
            params_train=train.params,
            params_merged=merged.params,
            params_inference=inference.params,
            macs_train=train.macs,
            macs_merged=merged.macs,
            macs_inference=inference.macs,
            activations=given.activations,
            depth=sum(stage.depth for stage in architecture.stages),
        ), f"seed {seed}: {architecture}"


@pytest.mark.parametrize("form", ["train", "merged", "inference"])
def test_closed_form_equals_torchs_own_count_on_the_meta_device(form: str) -> None:
    for seed in range(200, 215):
        architecture = random_architecture(seed, largest=64)
        given = cost(architecture, 5)

        expected = getattr(given, f"macs_{form}")
        assert meta_macs(architecture, 5, form=form) == expected, f"seed {seed}: {architecture}"


def test_activations_are_the_outputs_of_convolutions_and_linear_layers() -> None:
    for seed in range(300, 315):
        architecture = random_architecture(seed)
        merged = inference_network(build_network(architecture, 5))
        outputs = 0

        def add(_module: object, _inputs: object, y: torch.Tensor) -> None:
            nonlocal outputs
            outputs += y.numel()

        for module in merged.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | DepthwiseConv):
                module.register_forward_hook(add)
        merged(torch.zeros(1, architecture.channels, *architecture.size))

        assert cost(architecture, 5).activations == outputs, f"seed {seed}: {architecture}"


def test_a_kind_without_a_cost_is_refused() -> None:
    stage = Stage(depth=1, width=8, placement="S")
    network = Architecture(size=(32, 32), block="resnet", stem=Stem(), stages=(stage,))

    with pytest.raises(SpaceError, match=r"^block: must be a kind that can be built, got 'resnet'"):
        cost(network, 10)


def test_thousands_of_architectures_are_counted_in_a_second() -> None:
    # 20,000 a second on a quiet core; a loaded machine must not fail the test.
    architectures = [random_architecture(seed) for seed in range(1000)]

    start = time.process_time()
    for architecture in architectures:
        cost(architecture, 10)

    assert time.process_time() - start < 0.25
