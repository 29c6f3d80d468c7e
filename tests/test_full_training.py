"""Long training: published values at the published length, and going on where it was ended."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from builders import build_network
from evaluators.full_recipe import FullRecipe, full_recipe
from evaluators.full_training import train_fully
from evaluators.images import ImageData, Split
from evaluators.recipe import Recipe
from evaluators.scores import evaluate
from evaluators.states import State
from search_space.architecture import Architecture
from search_space.errors import RunError
from tests.family_architectures import small_architecture


def recipe(**given: Any) -> FullRecipe:
    fields: dict[str, Any] = {"epochs": 3, "images": 64, "params": 1000, "task": "classification"}
    return full_recipe(Recipe(batch_size=16), **{**fields, **given})


@pytest.fixture(scope="module")
def data() -> ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 4
    pixels = rng.integers(0, 60, (64, 16, 16, 1)) + 50 * labels[:, None, None, None]
    split = Split(images=pixels.astype(np.uint8), labels=labels)
    return ImageData(
        name="shades",
        source="made up",
        train=split,
        val=split,
        test=split,
        classes=("a", "b", "c", "d"),
        sha256="0" * 64,
    )


def architecture(block: str = "unireplknet") -> Architecture:
    small = small_architecture(block, stride=2)
    return replace(small, size=(16, 16), channels=1, stages=small.stages[:2])


def network(block: str = "unireplknet", drop_path: float = 0.3) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(architecture(block), 4, drop_path=drop_path)


def test_published_length_and_size_have_the_published_values() -> None:
    found = full_recipe(
        Recipe(batch_size=1024, lr=4e-3, epochs=1),
        epochs=300,
        images=1_281_167,
        params=55_600_000,
        task="classification",
    )
    assert (found.mixup, found.cutmix, found.mixing, found.drop_path) == (0.8, 1.0, 1.0, 0.4)
    assert (found.label_smoothing, found.erasing, found.operation_share) == (0.1, 0.25, 0.5)
    assert found.magnitude == 9
    assert found.weight_decay == 0.05
    assert found.warmup * 300 == pytest.approx(20)
    assert found.average == pytest.approx(0.9999, abs=1e-6)
    assert found.lr * found.floor == pytest.approx(1e-6)
    small = recipe(epochs=300, params=4_400_000)
    assert (small.mixup, small.cutmix, small.drop_path) == (0.3, 0.3, 0.0)


def test_augmentation_grows_with_the_length() -> None:
    shares = [recipe(epochs=epochs).mixing for epochs in (1, 10, 100, 300)]
    assert shares == pytest.approx([0.01, 0.1, 1, 1])


def test_masks_are_neither_mixed_nor_erased_nor_left_behind() -> None:
    found = recipe(epochs=300, task="segmentation", params=1e9)
    assert (found.mixing, found.erasing, found.geometric) == (0, 0, False)
    assert found.operation_share == 0.5


def test_rate_rises_and_falls_to_its_floor() -> None:
    found = recipe(epochs=300)
    total = 900
    rates = [found.rate(step, total) for step in range(total)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(1, abs=1e-3)
    assert top == pytest.approx(found.warmup * total, abs=1)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert found.floor < rates[-1] < found.floor + 1e-4


def test_a_short_training_on_starts_lower() -> None:
    assert recipe(epochs=1, trained=10).lr == pytest.approx(recipe(epochs=1).lr / 10)
    assert recipe(epochs=20, trained=10).lr == recipe(epochs=20).lr


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(RunError, match=r"recipe: drop_path: must be in \[0, 1\], got 2; change"):
        FullRecipe(drop_path=2)


def test_it_learns_and_leaves_the_random_state_alone(data: ImageData) -> None:
    net = network()
    before = evaluate(net, data).loss
    state = torch.get_rng_state()
    assert train_fully(net, data, recipe=recipe(epochs=8), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    assert evaluate(net, data).loss < before - 0.2


class Ended(Exception):
    pass


@pytest.mark.parametrize("block", ["unireplknet", "slak"])
def test_a_training_that_was_ended_goes_on_to_the_same_bits(data: ImageData, block: str) -> None:
    given: dict[str, Any] = {"recipe": recipe(epochs=3, params=1e9, task="classification")}
    given["recipe"] = replace(given["recipe"], mixing=0.5, drop_path=0.3, operation_share=0.3)
    whole = network(block)
    assert train_fully(whole, data, seed=1, **given)
    states: list[State] = []

    def keep(state: State) -> None:
        # As it comes back from the disk.
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        states.append(torch.load(file, weights_only=True))

    steps = 0

    def end() -> None:
        nonlocal steps
        steps += 1
        if steps > 7:
            raise Ended

    part = network(block)
    with pytest.raises(Ended):
        train_fully(part, data, seed=1, keep=keep, keep_s=0, between_steps=end, **given)
    assert states[-1]["step"] == 7
    rest = network(block)
    assert train_fully(rest, data, seed=1, goes_on=states[-1], **given)
    for (name, one), other in zip(
        whole.state_dict().items(), rest.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    if block == "slak":
        zeros = sum(int((p == 0).sum()) for p in rest.parameters())
        assert zeros > 100
    with pytest.raises(RunError, match="another seed"):
        train_fully(network(block), data, seed=2, goes_on=states[-1], **given)


def test_a_loss_that_is_not_finite_ends_it(data: ImageData) -> None:
    wild = replace(recipe(), lr=1e30)
    states: list[State] = []
    assert not train_fully(network(), data, recipe=wild, seed=1, keep=states.append, keep_s=0)
