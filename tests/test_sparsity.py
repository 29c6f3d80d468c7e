"""Dynamic sparsity: densities as published, masks that hold, zeros that move, real counts."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builders import build_network, merge_network
from evaluators.cost import cost
from evaluators.densities import (
    SparsityInit,
    erk_densities,
    initial_densities,
    maskable_weights,
    snip_densities,
    snip_scores,
    uniform_densities,
)
from evaluators.sparsity import (
    DynamicSparsity,
    SparseCost,
    asked_densities,
    macs_by_weight,
    sparse_cost,
    trained_sparse_cost,
)
from search_space.architecture import Architecture, Stage, Stem
from search_space.yaml_io import load_architecture
from tests.random_architectures import random_architecture

SLAK = Architecture(
    size=(16, 16),
    channels=1,
    block="slak",
    stem=Stem(kind="patchify", stride=2),
    transition="convnext",
    width_factor=1.3,
    weights_sparsity=0.4,
    stages=(
        Stage(depth=1, width=8, kernel=9, placement="L", strip=5, layer_scale=1e-6),
        Stage(depth=1, width=16, kernel=7, placement="L", strip=5, layer_scale=1e-6),
    ),
)


def slak(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(SLAK, 4)


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(8, 1, 16, 16, generator=draw), torch.arange(8) % 4


def masks_of(
    network: nn.Module,
    *,
    density: float = 0.6,
    steps: int = 10,
    updates: int = 0,
    prune_rate: float = 0.3,
    seed: int = 0,
) -> DynamicSparsity:
    return DynamicSparsity(
        network,
        dict.fromkeys(maskable_weights(network), density),
        steps=steps,
        updates=updates,
        prune_rate=prune_rate,
        seed=seed,
    )


def zeros(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() == 0 for name, weight in maskable_weights(network).items()}


def nonzero(network: nn.Module) -> dict[str, int]:
    return {name: int(w.count_nonzero()) for name, w in maskable_weights(network).items()}


def same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return all(torch.equal(some[name], others[name]) for name in some)


def stepping(network: nn.Module, masks: DynamicSparsity, steps: int) -> Iterator[int]:
    """Train on one batch by AdamW; gives the number of every step once it is made."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    images, labels = batch()
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        F.cross_entropy(network(images).float(), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        masks.step()
        yield step


# ---- densities


def test_uniform_gives_every_weight_the_same_density() -> None:
    assert uniform_densities({"a": (3, 4), "b": (9,)}, 0.4) == {"a": 0.6, "b": 0.6}


def test_erk_follows_the_sum_of_the_sides_over_their_product() -> None:
    found = erk_densities({"a": (4, 1, 3, 3), "b": (20, 10)}, 0.5)
    # 118 of 236 elements are left for 11 and 30 sides.
    assert found["a"] == pytest.approx(118 / 41 * 11 / 36)
    assert found["b"] == pytest.approx(118 / 41 * 30 / 200)


def test_erk_gives_what_a_small_weight_cannot_take_to_the_others() -> None:
    found = erk_densities({"a": (4, 1, 3, 3), "b": (20, 10)}, 0.2)
    assert found["a"] == 1
    assert found["b"] == pytest.approx((0.8 * 236 - 36) / 200)


def test_erk_pins_weights_that_only_the_surplus_of_others_fills() -> None:
    found = erk_densities({"a": (2, 2), "b": (6, 5), "c": (40, 40)}, 0.4)
    assert (found["a"], found["b"]) == (1, 1)
    assert found["c"] == pytest.approx((0.6 * 1634 - 34) / 1600)


def test_snip_keeps_the_best_scores_of_all_weights_together() -> None:
    scores = {"a": torch.tensor([[4.0, 3.0], [1.0, 2.0]]), "b": torch.tensor([0.5, 0.1])}
    assert snip_densities(scores, 0.5) == {"a": 0.75, "b": 0.0}


def test_snip_shares_equal_scores_evenly() -> None:
    scores = {"a": torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), "b": torch.zeros(4)}
    # 6 of 10 are kept: both ones, and 4 of the 8 zeros.
    assert snip_densities(scores, 0.4) == {"a": pytest.approx(4 / 6), "b": 0.5}


def test_snip_leaves_what_is_almost_dense_alone() -> None:
    scores = {"a": torch.arange(1000.0), "b": torch.zeros(200), "c": torch.arange(100.0)}
    # Of a are kept: the 996 from 4 on, and the 971 from 29 on.
    assert snip_densities(scores, 0.16)["a"] == 1
    assert snip_densities(scores, 0.2)["a"] == pytest.approx(0.97, abs=0.002)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_not_finite_leave_the_network_dense(wrong: float) -> None:
    scores = {"a": torch.tensor([1.0, wrong]), "b": torch.ones(3)}
    assert snip_densities(scores, 0.4) == {"a": 1.0, "b": 1.0}


def test_snip_scores_are_weight_times_gradient_and_leave_the_network_alone() -> None:
    network = slak()
    twin = copy.deepcopy(network)
    scores = snip_scores(network, *batch())
    F.cross_entropy(twin.train()(batch()[0]), batch()[1]).backward()  # type: ignore[no-untyped-call]
    for name, weight in maskable_weights(twin).items():
        assert weight.grad is not None
        assert torch.allclose(scores[name], (weight * weight.grad).abs(), rtol=1e-5, atol=0), name
    fresh = slak().state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("method", ["snip", "erk", "uniform"])
def test_every_method_leaves_the_share_of_zeros_that_was_asked_for(method: SparsityInit) -> None:
    network = slak()
    images, labels = batch()
    found = initial_densities(network, 0.4, method=method, images_BCHW=images, labels=labels)
    sizes = {name: weight.numel() for name, weight in maskable_weights(network).items()}
    kept = sum(found[name] * size for name, size in sizes.items())
    assert kept / sum(sizes.values()) == pytest.approx(0.6, abs=0.003)
    assert all(0 <= density <= 1 for density in found.values())


def test_weights_of_convolutions_and_linear_layers_are_maskable_and_nothing_else() -> None:
    with torch.device("meta"):
        network = build_network(load_architecture("unireplknet_a"), 1000)
    for name, parameter in network.named_parameters():
        wanted = parameter.ndim in (2, 4) and name.endswith(".weight")
        assert (name in maskable_weights(network)) == wanted, name


# ---- masks


def test_a_mask_holds_exactly_as_many_weights_as_its_density_says() -> None:
    network = slak()
    masks_of(network, density=0.37)
    for name, weight in maskable_weights(network).items():
        assert int(weight.count_nonzero()) == round(0.37 * weight.numel()), name


def test_dense_weights_and_everything_else_are_left_alone() -> None:
    network, fresh = slak(), slak().state_dict()
    first, *others = maskable_weights(network)
    DynamicSparsity(network, {first: 0.5}, steps=5, updates=1, prune_rate=0.3, seed=0)
    changed = [n for n, value in network.state_dict().items() if not torch.equal(value, fresh[n])]
    assert changed == [first]
    assert others


@pytest.mark.parametrize("autocast", [False, True])
def test_zeros_hold_after_every_step_in_both_precisions(autocast: bool) -> None:  # noqa: FBT001
    network = slak()
    masks = masks_of(network)
    before = zeros(network)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        for _ in stepping(network, masks, 4):
            assert same(zeros(network), before)


def test_updates_are_spread_over_the_training_and_none_is_at_its_end() -> None:
    network = slak()
    masks = masks_of(network, steps=12, updates=3)
    moved, before = [], zeros(network)
    for step in stepping(network, masks, 12):
        now = zeros(network)
        if not same(now, before):
            moved.append(step)
        before = now
    # The step after an update shows what grew.
    assert moved == [3, 4, 6, 7, 9, 10]


def test_more_updates_than_steps_are_one_a_step() -> None:
    network = slak()
    masks = masks_of(network, steps=4, updates=50)
    counts = [sum(nonzero(network).values()) for _ in stepping(network, masks, 4)]
    # What grows back at a step is still zero after it, but not at the end.
    assert counts[0] < counts[3]
    assert counts[3] == sum(nonzero_of_density(0.6))


def nonzero_of_density(density: float) -> list[int]:
    return [round(density * weight.numel()) for weight in maskable_weights(slak()).values()]


def test_no_weight_gains_or_loses_density_by_updates() -> None:
    network = slak()
    masks = masks_of(network, steps=9, updates=3)
    for _ in stepping(network, masks, 9):
        pass
    assert list(nonzero(network).values()) == nonzero_of_density(0.6)


def test_an_update_prunes_the_smallest_and_opens_as_many_places_at_zero() -> None:
    linear = nn.Linear(100, 1, bias=False)
    weight = linear.weight.detach().view(100)
    weight.copy_(torch.arange(1, 101.0) * torch.tensor([1.0, -1.0] * 50))
    masks = masks_of(linear, density=0.5, steps=4, updates=1, prune_rate=0.2)
    masks.step()
    active = sorted(weight[weight != 0].abs().tolist())
    assert len(active) == 50
    masks.step()
    # ceil((0.2 + 0.005) / 2 x 50) = 6, half way down the cosine.
    assert sorted(weight[weight != 0].abs().tolist()) == active[6:]
    weight.fill_(1)
    masks.step()
    assert int(weight.count_nonzero()) == 50


def test_the_share_that_is_pruned_falls_as_a_half_cosine() -> None:
    masks = masks_of(nn.Linear(9, 9), steps=4, prune_rate=0.3)
    rates = [masks.rate]
    for _ in range(4):
        masks.step()
        rates.append(masks.rate)
    assert rates == pytest.approx([0.3, 0.2568, 0.1525, 0.0482, 0.005], abs=1e-4)


def test_a_share_of_nothing_keeps_the_first_masks() -> None:
    network = slak()
    masks = masks_of(network, steps=6, updates=3, prune_rate=0)
    before = zeros(network)
    for _ in stepping(network, masks, 6):
        pass
    assert same(zeros(network), before)


def test_the_seed_decides_the_masks_and_torchs_own_does_not() -> None:
    drawn = []
    for seed, other in ((3, 0), (3, 1), (4, 0)):
        network = slak()
        torch.manual_seed(other)
        masks = masks_of(network, steps=5, updates=2, seed=seed)
        for _ in stepping(network, masks, 5):
            pass
        drawn.append(zeros(network))
    assert same(drawn[0], drawn[1])
    assert not same(drawn[0], drawn[2])


def test_a_training_that_goes_on_keeps_the_zeros_it_found() -> None:
    network = slak()
    masks_of(network)
    before = zeros(network)
    masks_of(network, seed=99)
    assert same(zeros(network), before)


def test_merging_keeps_the_zeros_of_the_pointwise_layers() -> None:
    network = slak()
    masks_of(network)
    merged = maskable_weights(merge_network(network))
    shared = {name: name.replace(".mlp", "") for name in zeros(network) if "mix" not in name}
    for name, other in shared.items():
        assert torch.equal(merged[other] == 0, zeros(network)[name]), name


def test_a_network_without_an_architecture_is_dense() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    densities = asked_densities(network, *batch(), method="snip")
    assert densities == {}
    DynamicSparsity(network, densities, steps=2, updates=1, prune_rate=0.3, seed=0).step()
    assert all(not bool(found.any()) for found in zeros(network).values())


# ---- counts


@pytest.mark.parametrize("seed", range(20))
def test_multiply_adds_by_weight_add_up_to_those_of_the_network(seed: int) -> None:
    architecture = random_architecture(seed)
    by_weight = macs_by_weight(architecture, 5)
    assert sum(by_weight.values()) == cost(architecture, 5).macs_train


# Non-zero parameters and multiply-adds (G) at 224 px and 1000 classes, of random weights on random
# images: official code of SLaK, arXiv 2207.03620.
PUBLISHED = {
    ("slak_t", "snip"): (30_473_228, 5.010),
    ("slak_t", "erk"): (30_473_228, 7.149),
    ("slak_t", "uniform"): (30_473_228, 5.223),
    ("slak_s", "snip"): (54_780_317, 9.874),
    ("slak_s", "erk"): (54_780_317, 12.136),
    ("slak_s", "uniform"): (54_780_317, 9.962),
    ("slak_b", "snip"): (94_905_276, 17.146),
    ("slak_b", "erk"): (94_905_276, 20.780),
    ("slak_b", "uniform"): (94_905_276, 17.105),
}


@pytest.mark.parametrize(("name", "method"), [pair for pair in PUBLISHED if pair[1] != "snip"])
def test_published_networks_cost_what_was_published_by_shape(
    name: str, method: SparsityInit
) -> None:
    found = sparse_cost(load_architecture(name), 1000, method=method)
    params, macs = PUBLISHED[name, method]
    assert found.params_nonzero == pytest.approx(params, abs=len(found.densities))
    assert round(found.macs_nonzero / 1e9, 3) == macs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slak_t", "slak_s", "slak_b"])
def test_published_networks_cost_what_was_published_by_snip(name: str) -> None:
    found = sparse_cost(load_architecture(name), 1000)
    params, macs = PUBLISHED[name, "snip"]
    assert found.params_nonzero == pytest.approx(params, rel=0.005)
    assert found.macs_nonzero / 1e9 == pytest.approx(macs, rel=0.01)


def test_slak_t_has_95_maskable_weights_and_erk_pins_67_of_them() -> None:
    found = sparse_cost(load_architecture("slak_t"), 1000, method="erk")
    assert len(found.densities) == 95
    assert sum(density == 1 for density in found.densities.values()) == 67


def test_a_dense_network_costs_what_it_costs() -> None:
    architecture = random_architecture(3)
    counted = cost(architecture, 5)
    found = sparse_cost(architecture, 5)
    assert found.params_nonzero == counted.params_train
    assert found.macs_nonzero == counted.macs_train
    assert set(found.densities.values()) == {1.0}


def test_a_forecast_is_the_same_every_time_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = sparse_cost(SLAK, 4)
    torch.rand(3)
    second = sparse_cost(SLAK, 4)
    torch.manual_seed(5)
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    assert sparse_cost(SLAK, 4, seed=1) != first


def test_a_trained_network_is_counted_by_its_own_zeros() -> None:
    network = build_network(SLAK, 4)
    masks_of(network, density=0.25)
    found = trained_sparse_cost(network, 4)
    weights = maskable_weights(network)
    others = sum(p.numel() for p in network.parameters()) - sum(w.numel() for w in weights.values())
    assert isinstance(found, SparseCost)
    assert found.params_nonzero == others + sum(nonzero_of_density(0.25))
    assert found.macs_nonzero == pytest.approx(0.25 * cost(SLAK, 4).macs_train, rel=0.002)
    assert found.densities["head.classify.weight"] == 0.25
