"""Whole networks: published counts, structure, first weights, merging of random architectures."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from builders.backends import AUTO, Backends
from builders.blocks import UniRepLKNetBlock
from builders.layers import Mergeable
from builders.network import Network, build_network, merge_network, published_network
from evaluators.cost import cost
from evaluators.counting import num_params
from search_space.architecture import Architecture, Stage, Stem, paper_branches
from search_space.errors import SpaceError
from search_space.yaml_io import load_architecture, shipped_names
from tests.random_architectures import random_architecture, randomise

SMALL = Architecture(
    size=(16, 12),
    stem=Stem(stride=2),
    stages=(
        Stage(depth=1, width=8, placement="S"),
        Stage(
            depth=3,
            width=16,
            kernel=13,
            placement="LSL",
            dilations=paper_branches(13),
            structure="se",
            layer_scale=1e-6,
        ),
    ),
)


def _images(architecture: Architecture, dtype: torch.dtype) -> Tensor:
    return torch.randn(2, architecture.channels, *architecture.size, dtype=dtype)


def _difference(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", sorted(set(shipped_names()) - {"default", "families", "tiny"}))
def test_a_published_network_is_built_as_it_is_counted(name: str) -> None:
    architecture = load_architecture(name)
    given = cost(architecture, 1000)
    with torch.device("meta"):
        network = build_network(architecture, 1000)

    forms = network, published_network(network), merge_network(network)
    assert tuple(map(num_params, forms)) == (
        given.params_train,
        given.params_merged,
        given.params_inference,
    )


@pytest.mark.parametrize("first", range(0, 500, 50))
def test_merged_equals_original_in_float64(first: int) -> None:
    for seed in range(first, first + 50):
        architecture = random_architecture(seed)
        network = build_network(architecture, 3).double().eval()
        randomise(network)
        x = _images(architecture, torch.float64)

        with torch.no_grad():
            difference = _difference(merge_network(network)(x), network(x))

        assert difference <= 1e-12, f"seed {seed}: {architecture}"


def test_merged_equals_original_in_float32() -> None:
    for seed in range(300, 380):
        architecture = random_architecture(seed)
        network = build_network(architecture, 3).eval()
        randomise(network)
        x = _images(architecture, torch.float32)

        with torch.no_grad():
            difference = _difference(merge_network(network)(x), network(x))

        assert difference <= 1e-5, f"seed {seed}: {architecture}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_merges_and_runs(dtype: torch.dtype) -> None:
    network = build_network(SMALL, 3).to(dtype).eval()

    merged = merge_network(network)

    assert {parameter.dtype for parameter in merged.parameters()} == {dtype}
    with torch.no_grad():
        y = merged(_images(SMALL, dtype))
    assert y.dtype == dtype
    assert y.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_mixture_merges_and_runs_in_half_precision(dtype: torch.dtype) -> None:
    for seed in range(500, 540):
        architecture = random_architecture(seed, largest=6)
        network = build_network(architecture, 3).to(dtype).eval()

        with torch.no_grad():
            y = merge_network(network)(_images(architecture, dtype))

        assert y.dtype == dtype
        assert y.isfinite().all(), f"seed {seed}: {architecture}"


def test_nothing_that_merges_is_left_in_a_merged_network() -> None:
    merged = merge_network(build_network(SMALL, 3, drop_path=0.2))

    kinds = [type(module) for module in merged.modules()]
    assert not any(issubclass(kind, Mergeable | nn.BatchNorm2d) for kind in kinds)
    assert not merged.training


def test_merging_leaves_the_original_as_it_was() -> None:
    network = build_network(SMALL, 3).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    merged = merge_network(network)
    for parameter in merged.parameters():
        nn.init.ones_(parameter)

    after = network.state_dict()
    assert network.training
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_merged_network_copies_pickles_and_merges_again_without_change() -> None:
    merged = merge_network(build_network(SMALL, 3))
    x = _images(SMALL, torch.float32)

    for other in (
        copy.deepcopy(merged),
        pickle.loads(pickle.dumps(merged)),
        merge_network(merged),
    ):
        assert torch.equal(other(x), merged(x))


def test_a_network_exports_with_operators_of_torch_only() -> None:
    network = build_network(SMALL, 3).eval()
    x = _images(SMALL, torch.float32)

    for form in (network, merge_network(network)):
        exported = torch.export.export(form, (x,))

        calls = [node for node in exported.graph.nodes if node.op == "call_function"]
        assert all(str(node.target).startswith("aten.") for node in calls)
        torch.testing.assert_close(exported.module()(x), form(x))


def test_a_network_trains_under_autocast() -> None:
    network = build_network(SMALL, 3)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = network(_images(SMALL, torch.float32)).float().square().sum()
    loss.backward()

    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_network_keeps_its_architecture() -> None:
    network = build_network(SMALL, 3)
    merged = merge_network(network)

    assert network.architecture == SMALL
    assert isinstance(merged, Network)
    assert merged.architecture == SMALL


def test_blocks_follow_the_placement() -> None:
    network = build_network(SMALL, 3)

    kernels = [
        next(m.weight.shape[-1] for m in block.mix.modules() if hasattr(m, "weight"))
        for block in network.stages[1]
        if isinstance(block, UniRepLKNetBlock)
    ]
    assert kernels == [13, 3, 13]


@pytest.mark.parametrize("seed", range(400, 410))
def test_every_stage_makes_the_map_that_the_architecture_says(seed: int) -> None:
    architecture = random_architecture(seed, largest=25)
    network = build_network(architecture, 3).eval()

    maps = network.features(_images(architecture, torch.float32))

    assert [tuple(y.shape[2:]) for y in maps] == list(architecture.maps)
    assert [y.shape[1] for y in maps] == list(architecture.widths)


def test_maps_are_channels_last_throughout() -> None:
    seen = []
    network = build_network(SMALL, 3)
    for module in network.modules():
        if isinstance(module, UniRepLKNetBlock):
            module.register_forward_hook(
                lambda _module, _inputs, y: seen.append(
                    y.is_contiguous(memory_format=torch.channels_last)
                )
            )

    network(_images(SMALL, torch.float32))

    assert seen == [True] * 4


def test_drop_path_grows_from_nothing_to_its_rate() -> None:
    network = build_network(SMALL, 3, drop_path=0.3)

    rates = [m.drop_path.rate for m in network.modules() if isinstance(m, UniRepLKNetBlock)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_initial_weights_are_those_of_the_published_recipe() -> None:
    network = build_network(replace(SMALL, size=(32, 32)), 1000)

    weights = torch.cat(
        [
            module.weight.flatten()
            for module in network.modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
    )
    biases = [
        module.bias for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(bias.any() for bias in biases if bias is not None)
    parameters = dict(network.named_parameters())
    assert not any(p.any() for name, p in parameters.items() if "response" in name)
    assert parameters["stages.1.0.feed_forward.scale"].unique().tolist() == pytest.approx([1e-6])
    assert parameters["stages.1.0.mix.branches.0.conv.weight"].std().item() == pytest.approx(
        0.02, rel=0.1
    )


def test_the_same_global_seed_gives_the_same_weights() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(7)
        networks.append(build_network(SMALL, 3).state_dict())

    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        (
            {"block": "resnet"},
            "block: .* got 'resnet'; this version builds unireplknet, replknet, slak, convnext$",
        ),
        ({"stem": Stem(kind="conv7")}, "stem.kind: .* got 'conv7'; this version builds uni"),
        ({"transition": "pool"}, "transition: .* got 'pool'; this version builds unireplknet,"),
        ({"head": "pool"}, "head: .* got 'pool'; this version builds pool_norm, norm_pool, dense$"),
    ],
)
def test_a_kind_without_a_builder_is_refused_with_those_that_have_one(
    changed: dict[str, object], where: str
) -> None:
    with pytest.raises(SpaceError, match=f"^{where}"):
        build_network(replace(SMALL, **changed), 3)  # type: ignore[arg-type]


def test_networks_of_two_backends_train_alike() -> None:
    x, labels = _images(SMALL, torch.float32), torch.tensor([0, 2])
    gradients = []
    for backends in (AUTO, Backends(rest="reference")):
        torch.manual_seed(0)
        network = build_network(SMALL, 3, backends=backends)
        nn.functional.cross_entropy(network(x), labels).backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})

    for name, expected in gradients[1].items():
        actual = gradients[0][name]
        assert actual is not None
        assert expected is not None
        scale = expected.abs().max().item()
        # What a batch norm behind it takes away has no gradient but rounding.
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-3 * scale + 1e-6, msg=name)
