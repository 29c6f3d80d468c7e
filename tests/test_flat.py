"""Parameters in one tensor: seen by nobody but the optimiser, and given back as they were."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from evaluators.flat import ALIGNMENT, flattened


def small() -> nn.Sequential:
    """Weights of several shapes, one of them channels last."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(45, 7)
    )
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def images(seed: int) -> Tensor:
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


def train(network: nn.Module, optimiser: torch.optim.Optimizer, *, set_to_none: bool) -> None:
    for step in range(5):
        optimiser.zero_grad(set_to_none=set_to_none)
        network(images(step)).square().sum().backward()
        optimiser.step()


def test_a_training_ends_with_the_same_weights() -> None:
    network = small()
    twin = copy.deepcopy(network)
    settings = {"lr": 0.01, "weight_decay": 0.1, "fused": True}
    train(twin, torch.optim.AdamW(twin.parameters(), **settings), set_to_none=True)
    with flattened(list(network.parameters())) as flat:
        train(network, torch.optim.AdamW(flat, **settings), set_to_none=False)
    for trained, expected in zip(network.parameters(), twin.parameters(), strict=True):
        # A tail that fills no vector is rounded otherwise.
        torch.testing.assert_close(trained, expected, rtol=1e-5, atol=1e-6)


def test_shape_strides_and_values_stay() -> None:
    network = small()
    before = {name: (p.shape, p.stride(), p.clone()) for name, p in network.named_parameters()}
    with flattened(list(network.parameters())) as (flat,):
        storage = flat.untyped_storage().data_ptr()
        for name, parameter in network.named_parameters():
            shape, strides, values = before[name]
            assert parameter.untyped_storage().data_ptr() == storage
            assert parameter.storage_offset() % ALIGNMENT == 0
            assert (parameter.shape, parameter.stride()) == (shape, strides), name
            assert torch.equal(parameter, values), name
    assert not network[0].weight.is_contiguous()


@pytest.mark.parametrize("fails", [False, True])
def test_every_parameter_has_memory_of_its_own_again(*, fails: bool) -> None:
    network = small()
    strides = [parameter.stride() for parameter in network.parameters()]
    try:
        with flattened(list(network.parameters())) as (flat,):
            network(images(0)).sum().backward()
            flat.add_(1)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    for parameter, stride in zip(network.parameters(), strides, strict=True):
        assert parameter.grad is None
        assert parameter.stride() == stride
        size = parameter.numel() * parameter.element_size()
        assert parameter.untyped_storage().nbytes() == size
    bias = network[1].bias
    assert torch.equal(bias, torch.ones_like(bias))


def test_a_backward_pass_writes_into_the_flat_gradient() -> None:
    network = small()
    twin = copy.deepcopy(network)
    twin(images(0)).sum().backward()
    with flattened(list(network.parameters())) as (flat,):
        network(images(0)).sum().backward()
        assert flat.grad is not None
        total = sum(p.grad.abs().sum() for p in twin.parameters() if p.grad is not None)
        torch.testing.assert_close(flat.grad.abs().sum(), total)


def test_gaps_stay_zero() -> None:
    network = small()
    with flattened(list(network.parameters())) as (flat,):
        used = torch.zeros_like(flat, dtype=torch.bool)
        for parameter in network.parameters():
            start = parameter.storage_offset()
            used[start : start + parameter.numel()] = True
        train(network, torch.optim.AdamW([flat], lr=0.1, fused=True), set_to_none=False)
        assert not flat[~used].any()


def test_a_frozen_parameter_is_left_alone() -> None:
    network = small()
    network[0].weight.requires_grad_(requires_grad=False)
    frozen, address = network[0].weight.clone(), network[0].weight.data_ptr()
    with flattened(list(network.parameters())) as flat:
        train(network, torch.optim.AdamW(flat, weight_decay=0.5), set_to_none=False)
    assert torch.equal(network[0].weight, frozen)
    assert network[0].weight.data_ptr() == address


def test_a_parameter_that_no_loss_reaches_has_a_gradient_of_zero() -> None:
    idle = nn.Parameter(torch.ones(3))
    with flattened([idle]):
        assert idle.grad is not None
        assert not idle.grad.any()


def test_one_tensor_for_each_dtype() -> None:
    mixed = [nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float32, torch.float64)]
    with flattened(mixed) as flat:
        assert [one.dtype for one in flat] == [torch.float32, torch.float64]
    with flattened([]) as flat:
        assert flat == []
