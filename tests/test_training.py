"""Short training: the same result every time, honest about divergence, quiet about the rest."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders import Network, build_network, merge_network
from evaluators.data import load_data
from evaluators.densities import SparsityInit, maskable_weights
from evaluators.images import ImageData, Split
from evaluators.recipe import Recipe
from evaluators.scores import evaluate
from evaluators.training import Training, recalibrate, train_briefly
from search_space.architecture import Architecture, Stage, Stem, paper_branches
from search_space.errors import RunError

CPU = torch.device("cpu")


def part(split: Split, count: int) -> Split:
    return Split(images=split.images[:count], labels=split.labels[:count])


@pytest.fixture(scope="module")
def few() -> ImageData:
    """The shipped set, cut to 320 images to train on and 300 to look at."""
    data = load_data()
    return replace(data, train=part(data.train, 320), val=part(data.val, 300))


class Plain(nn.Module):
    """Convolution, batch norm, dropout and a linear layer: all that a training has to handle."""

    def __init__(self, *, drop: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 8, 5, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(8 * 36, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.drop(self.norm(self.conv(x)).relu().flatten(1)))
        return y


def trained(data: ImageData, *, seed: int = 0, **changes: Any) -> tuple[Training, nn.Module]:
    network = Plain(drop=0.2)
    recipe = Recipe(**({"epochs": 2.0, "batch_size": 32, "flip": True} | changes))
    return train_briefly(network, data, recipe=recipe, seed=seed), network


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def without_time(training: Training) -> Training:
    return replace(training, seconds=0.0)


# ---- the result


def test_a_short_training_learns(few: ImageData) -> None:
    done, _ = trained(few, epochs=8)
    assert done.state == "complete"
    assert done.scores is not None
    assert done.scores.accuracy > 0.6
    assert done.scores.loss < 1.2
    assert done.curve[-1][1] < done.curve[0][1]
    assert done.steps == 80


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(few: ImageData) -> None:
    first, one = trained(few)
    torch.manual_seed(77)
    torch.randn(1001)
    trained(few, seed=5, batch_size=16)
    np.random.default_rng().random(3)
    second, other = trained(few)
    assert without_time(first) == without_time(second)
    assert same_weights(one, other)


def test_another_seed_gives_another_training(few: ImageData) -> None:
    first, one = trained(few)
    second, other = trained(few, seed=1)
    assert first.scores != second.scores
    assert not same_weights(one, other)


def test_training_leaves_the_random_state_of_the_caller_alone(few: ImageData) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    network = Plain(drop=0.5, seed=3)
    torch.set_rng_state(before)
    train_briefly(network, few, recipe=Recipe(epochs=0.2), seed=9)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_real_network_trains_and_its_merged_form_evaluates_the_same(few: ImageData) -> None:
    row = Stage(
        depth=1,
        width=8,
        kernel=7,
        placement="L",
        dilations=paper_branches(7),
        structure="se",
        ffn_ratio=2,
    )
    architecture = Architecture(size=(28, 28), channels=1, stem=Stem(stride=4), stages=(row,))
    torch.manual_seed(0)
    network = build_network(architecture, 10)
    twin = copy.deepcopy(network)
    recipe = Recipe(epochs=1, batch_size=32)
    merged = train_briefly(network, few, recipe=recipe, seed=0, merge=merge_network)
    plain = train_briefly(twin, few, recipe=recipe, seed=0)
    assert same_weights(network, twin)
    assert merged.scores is not None
    assert plain.scores is not None
    assert merged.scores.accuracy == plain.scores.accuracy
    assert merged.scores.loss == pytest.approx(plain.scores.loss, rel=1e-5)


# ---- sparsity


def sparse_slak(seed: int = 0) -> Network:
    row = Stage(depth=2, width=8, kernel=7, placement="LS", strip=5, layer_scale=1e-6)
    torch.manual_seed(seed)
    return build_network(
        Architecture(
            size=(28, 28),
            channels=1,
            block="slak",
            stem=Stem(kind="patchify", stride=4),
            weights_sparsity=0.4,
            stages=(row,),
        ),
        10,
    )


def share_of_zeros(network: nn.Module) -> float:
    weights = maskable_weights(network).values()
    return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


@pytest.mark.parametrize("method", ["snip", "erk", "uniform"])
def test_a_sparse_network_learns_and_ends_as_sparse_as_was_asked(
    few: ImageData, method: SparsityInit
) -> None:
    network = sparse_slak()
    recipe = Recipe(epochs=3, sparsity_init=method, mask_updates=5)
    done = train_briefly(network, few, recipe=recipe, seed=0, merge=merge_network)
    assert done.state == "complete"
    assert done.curve[-1][1] < done.curve[0][1]
    # A weight that SNIP finds all but dense stays dense.
    assert share_of_zeros(network) == pytest.approx(0.4, abs=0.005)


def test_a_sparse_training_gives_the_same_bits_whatever_ran_before(few: ImageData) -> None:
    recipe = Recipe(epochs=1, mask_updates=3)
    one, other = sparse_slak(), sparse_slak()
    first = train_briefly(one, few, recipe=recipe, seed=4)
    torch.manual_seed(77)
    torch.randn(1001)
    second = train_briefly(other, few, recipe=recipe, seed=4)
    assert without_time(first) == without_time(second)
    assert same_weights(one, other)


def test_another_seed_draws_other_masks(few: ImageData) -> None:
    one, other = sparse_slak(), sparse_slak()
    for network, seed in ((one, 0), (other, 1)):
        train_briefly(network, few, recipe=Recipe(epochs=1), seed=seed)
    for name, weight in maskable_weights(one).items():
        zeros = weight == 0
        if 0.2 < float(zeros.double().mean()) < 0.8:
            assert not torch.equal(zeros, maskable_weights(other)[name] == 0), name


def test_a_sparse_training_that_goes_on_stays_as_sparse(few: ImageData) -> None:
    network = sparse_slak()
    train_briefly(network, few, recipe=Recipe(epochs=1), seed=0)
    before = {name: weight == 0 for name, weight in maskable_weights(network).items()}
    train_briefly(network, few, recipe=Recipe(epochs=1, mask_updates=0), seed=1)
    assert all(
        torch.equal(weight == 0, before[name]) for name, weight in maskable_weights(network).items()
    )


def test_sparsity_settings_do_not_act_on_a_dense_network(few: ImageData) -> None:
    first, one = trained(few)
    second, other = trained(few, sparsity_init="erk", prune_rate=0.9, mask_updates=2)
    assert without_time(first) == without_time(second)
    assert same_weights(one, other)


def test_a_sparse_network_that_is_not_finite_is_diverged(few: ImageData) -> None:
    network = sparse_slak()
    torch.nn.init.constant_(network.get_parameter("head.classify.weight"), math.nan)
    done = train_briefly(network, few, recipe=Recipe(epochs=1), seed=0)
    assert (done.state, done.steps) == ("diverged", 1)


# ---- divergence


class Exploding(nn.Module):
    """Gives finite logits for some training steps, then NaN."""

    def __init__(self, good: int) -> None:
        super().__init__()
        self.left = good
        self.head = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(x.flatten(1))
        if self.training:
            self.left -= 1
        return y * math.nan if self.left < 0 else y


def test_a_loss_that_is_not_finite_ends_as_diverged_at_its_step(few: ImageData) -> None:
    reports: list[dict[str, Any]] = []
    done = train_briefly(
        Exploding(4),
        few,
        recipe=Recipe(epochs=2, batch_size=32),
        seed=0,
        report=lambda **metrics: reports.append(metrics),
    )
    assert (done.state, done.steps) == ("diverged", 5)
    assert done.scores is None
    assert all("accuracy" not in row for row in reports)


def test_logits_that_are_not_finite_only_in_the_evaluation_are_diverged_too(
    few: ImageData,
) -> None:
    class Fragile(Exploding):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(x.flatten(1))
            return y if self.training else y / 0

    done = train_briefly(Fragile(99), few, recipe=Recipe(epochs=1, batch_size=32), seed=0)
    assert (done.state, done.steps, done.scores) == ("diverged", 10, None)


def test_an_absurd_rate_ends_without_an_exception(few: ImageData) -> None:
    done, _ = trained(few, lr=1e30)
    assert done.state == "diverged"


# ---- what the caller hears


def test_reports_come_a_few_times_an_epoch_and_end_with_the_accuracy(few: ImageData) -> None:
    rows: list[dict[str, Any]] = []
    done = train_briefly(
        Plain(),
        few,
        recipe=Recipe(epochs=2, batch_size=32),
        seed=0,
        report=lambda **metrics: rows.append(metrics),
    )
    *during, last = rows
    assert [row["step"] for row in during] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert all(row["total_steps"] == 20 and row["images_per_s"] > 0 for row in during)
    assert [(row["step"], row["loss"]) for row in during] == list(done.curve)
    assert done.scores is not None
    assert (last["accuracy"], last["val_loss"]) == (done.scores.accuracy, done.scores.loss)


def test_the_caller_is_asked_before_every_step_and_its_pauses_are_not_counted(
    few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("evaluators.training.time.perf_counter", lambda: now)
    asked = 0

    def pause() -> None:
        nonlocal now, asked
        now += 100.0
        asked += 1

    done = train_briefly(
        Plain(), few, recipe=Recipe(epochs=1, batch_size=32), seed=0, between_steps=pause
    )
    assert asked == done.steps == 10
    assert done.seconds == 0.0


# ---- the recipe


@pytest.mark.parametrize(
    ("epochs", "batch_size", "images", "steps"),
    [(1, 64, 8000, 125), (2.5, 128, 8000, 155), (0.001, 64, 8000, 1), (3, 64, 40, 3)],
)
def test_steps_come_from_whole_batches_and_fractional_epochs(
    epochs: float, batch_size: int, images: int, steps: int
) -> None:
    assert Recipe(epochs=epochs, batch_size=batch_size).steps(images) == steps


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, r"^recipe: epochs: must be a finite number above 0, got 0; change it$"),
        ({"epochs": math.inf}, r"^recipe: epochs: must be a finite number"),
        ({"batch_size": 1}, r"^recipe: batch_size: must be at least 2"),
        ({"lr": -1.0}, r"^recipe: lr: must be a finite number above 0, got -1.0"),
        ({"weight_decay": -0.1}, r"^recipe: weight_decay: must be 0 or more"),
        ({"label_smoothing": 1.0}, r"^recipe: label_smoothing: must be in \[0, 1\)"),
        ({"warmup": 1.0}, r"^recipe: warmup: must be a share in \[0, 1\)"),
        ({"shift": -1}, r"^recipe: shift: must be 0 or more"),
        ({"recalibration_batches": -1}, r"^recipe: recalibration_batches: must be 0 or more"),
        (
            {"sparsity_init": "grow"},
            r"^recipe: sparsity_init: must be snip, erk or uniform, got 'g",
        ),
        ({"prune_rate": 1.5}, r"^recipe: prune_rate: must be a share in \[0, 1\], got 1.5"),
        ({"prune_rate": math.nan}, r"^recipe: prune_rate: must be a share"),
        ({"mask_updates": -1}, r"^recipe: mask_updates: must be 0 or more"),
    ],
)
def test_a_recipe_that_cannot_train_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=said):
        Recipe(**changes)


class Recorder(nn.Module):
    """Keeps the images that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 10)
        self.batches: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.batches.append(x.detach().clone())
        y: Tensor = self.head(x.mean(dim=(1, 2, 3))[:, None])
        return y


def seen_images(data: ImageData, **changes: Any) -> Tensor:
    network = Recorder()
    recipe = Recipe(**({"epochs": 1, "batch_size": 32, "shift": 0} | changes))
    train_briefly(network, data, recipe=recipe, seed=0)
    return torch.cat(network.batches)


def test_an_epoch_without_augmentation_shows_every_image_once_normalised(few: ImageData) -> None:
    (mean,), (deviation,) = few.mean_std
    pixels = torch.from_numpy(few.train.images).float().permute(0, 3, 1, 2)
    wanted = (pixels - mean) / deviation
    seen = seen_images(few)
    assert seen.shape == wanted.shape
    assert torch.allclose(
        seen.flatten(1).sum(1).sort()[0], wanted.flatten(1).sum(1).sort()[0], atol=1e-2
    )
    assert abs(float(seen.mean())) < 1e-5


def single(data: ImageData) -> ImageData:
    """Give data whose training images are all the same one: a white pixel in the middle."""
    images = np.zeros_like(data.train.images)
    images[:, 14, 10] = 255
    return replace(data, train=replace(data.train, images=images))


def places(seen: Tensor) -> set[tuple[int, int]]:
    """Give the positions of the white pixel."""
    flat = seen.flatten(1).argmax(1)
    return {(int(index) // 28, int(index) % 28) for index in flat}


def test_shifted_images_are_moved_by_at_most_the_shift_and_reach_every_place(
    few: ImageData,
) -> None:
    found = places(seen_images(single(few), shift=2, epochs=4))
    assert found == {(y, x) for y in range(12, 17) for x in range(8, 13)}


def test_black_moves_in_at_the_edge(few: ImageData) -> None:
    seen = seen_images(single(few), shift=20, epochs=1)
    (mean,), (deviation,) = single(few).mean_std
    assert float(seen.min()) == pytest.approx(-mean / deviation)
    # Some images have lost their white pixel, and nothing else came in.
    gone = seen.flatten(1).amax(1) < 0
    assert 0 < int(gone.sum()) < len(seen)


def test_flipping_mirrors_about_half_of_the_images_left_to_right(few: ImageData) -> None:
    seen = seen_images(single(few), flip=True)
    columns = seen.flatten(1).argmax(1) % 28
    assert set(columns.tolist()) == {10, 17}
    assert 0.4 < float((columns == 17).float().mean()) < 0.6


def test_weight_decay_spares_biases_and_one_dimensional_parameters(few: ImageData) -> None:
    class Idle(nn.Module):
        """Parameters without a gradient of their own: only decay moves them."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))
            self.gain = nn.Parameter(torch.ones(3))
            self.bias = nn.Parameter(torch.ones(2, 2))
            self.head = nn.Linear(784, 10)

        def forward(self, x: Tensor) -> Tensor:
            still = 0 * (self.weight.sum() + self.gain.sum() + self.bias.sum())
            y: Tensor = self.head(x.flatten(1)) + still
            return y

    network = Idle()
    train_briefly(network, few, recipe=Recipe(epochs=1, weight_decay=0.5), seed=0)
    assert bool((network.weight < 0.999).all())
    assert bool((network.gain == 1).all())
    assert bool((network.bias == 1).all())


def test_the_rate_rises_to_its_peak_and_falls_to_zero(
    few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train_briefly(Plain(), few, recipe=Recipe(epochs=2, batch_size=32, lr=1.0, warmup=0.2), seed=0)
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert all(a > b for a, b in pairwise(rates[3:]))
    assert 0 < rates[-1] < 0.02


# ---- evaluation


class Fixed(nn.Module):
    """Says class 0 with a logit of 2 for everything."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), 10)
        logits[:, 0] = 2.0
        return logits


def test_evaluation_counts_hits_and_averages_the_plain_cross_entropy(few: ImageData) -> None:
    labels = np.zeros(300, dtype=np.int64)
    labels[:75] = 1
    data = replace(few, val=replace(few.val, labels=labels))
    scores = evaluate(Fixed(), data, "val")
    assert (scores.accuracy, scores.miou, scores.last) == (0.75, None, None)
    # -log softmax: log(e^2 + 9) - 2 for a hit, log(e^2 + 9) for a miss
    assert scores.loss == pytest.approx(math.log(math.exp(2) + 9) - 1.5, rel=1e-6)


def test_each_split_can_be_evaluated(few: ImageData) -> None:
    network = Plain()
    assert len({evaluate(network, few, split).loss for split in ("train", "val", "test")}) == 3


def test_recalibrated_statistics_are_the_mean_over_the_batches(few: ImageData) -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.9))
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean = torch.full((1,), 55.0)
    recalibrate(network, few, batches=3, batch_size=64, device=CPU)
    (mean,), (deviation,) = few.mean_std
    wanted = (float(few.train.images[:192].mean()) - mean) / deviation
    assert norm.running_mean is not None
    assert float(norm.running_mean) == pytest.approx(wanted, abs=1e-5)
    assert norm.momentum == 0.1
    assert not network.training
    assert not norm.training


def test_no_batches_leave_the_statistics_alone(few: ImageData) -> None:
    norm = nn.BatchNorm2d(1)
    norm.running_mean = torch.full((1,), 55.0)
    recalibrate(norm, few, batches=0, batch_size=64, device=CPU)
    assert float(norm.running_mean) == 55.0


@pytest.mark.gpu
def test_a_gpu_trains_in_bfloat16(few: ImageData) -> None:
    done = train_briefly(Plain(), few, recipe=Recipe(epochs=8), seed=0, device="cuda")
    assert done.scores is not None
    assert done.scores.accuracy > 0.5
