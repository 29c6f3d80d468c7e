"""The stand-alone module of a network: the same parameters, the same numbers, only torch."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from builders.network import build_network, inference_network
from runs.export.source import model_source
from search_space.architecture import Architecture
from tests.family_architectures import EVERY, small_architecture
from tests.random_architectures import random_architecture, randomise

CLASSES = 5


def module_of(architecture: Architecture, classes: int = CLASSES) -> ModuleType:
    """Write the module of an architecture and run it."""
    channels = architecture.channels
    text = model_source(
        architecture, classes, title="A net", mean=(100.0,) * channels, std=(50.0,) * channels
    )
    module = ModuleType("model")
    exec(compile(text, "model.py", "exec"), vars(module))
    return module


def pair_of(architecture: Architecture) -> tuple[ModuleType, nn.Module, nn.Module]:
    """Give the module, our network with random weights in float64 and theirs with the same."""
    torch.manual_seed(1)
    ours = build_network(architecture, CLASSES).double().eval()
    randomise(ours)
    module = module_of(architecture)
    theirs = module.Network().double().eval()
    theirs.load_state_dict(ours.state_dict())
    return module, ours, theirs


def images_of(architecture: Architecture) -> Tensor:
    return torch.randn(2, architecture.channels, *architecture.size, dtype=torch.float64)


def check(architecture: Architecture) -> None:
    """Hold names, shapes and numbers of both forms against ours."""
    module, ours, theirs = pair_of(architecture)
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert {name: tensor.shape for name, tensor in theirs.state_dict().items()} == shapes
    assert list(theirs.state_dict()) == list(ours.state_dict())
    images = images_of(architecture)
    with torch.no_grad():
        expected, found = ours(images), theirs(images)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        merged, folded = inference_network(ours), module.merge(theirs)
        expected, found = merged(images), folded(images)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * expected.abs().max())
    assert parameters_of(folded) == parameters_of(merged)
    assert not folded.training
    assert parameters_of(module.merge(folded)) == parameters_of(folded)


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_every_family_and_mixture_computes_the_same(name: str) -> None:
    check(EVERY[name])


@pytest.mark.parametrize("block", ["unireplknet", "replknet", "slak", "convnext"])
def test_a_dense_head_computes_the_same(block: str) -> None:
    check(small_architecture(block, head="dense"))


@pytest.mark.parametrize("seed", range(24))
def test_any_architecture_computes_the_same(seed: int) -> None:
    check(random_architecture(seed))
