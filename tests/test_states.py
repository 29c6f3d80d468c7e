"""A training that stops and goes on ends with the bits of one in one go, whatever it trains."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders import Network, build_network, merge_network
from evaluators.densities import maskable_weights
from evaluators.images import IGNORED, ImageData, Split
from evaluators.recipe import Recipe
from evaluators.states import State, load, stop_step, to_bytes
from evaluators.training import Training, train_briefly
from search_space.architecture import Architecture, Stage, Stem
from search_space.errors import RunError

RECIPE = Recipe(epochs=2.25, batch_size=8, shift=1, flip=True, mask_updates=7, warmup=0.2)
"""27 steps, 12 an epoch; every third is reported, so the rungs lie between two reports."""
RUNGS = (4, 13, None)

CONVOLUTION = Architecture(
    size=(12, 16),
    channels=1,
    stem=Stem(stride=2),
    stages=(
        Stage(depth=2, width=8, kernel=5, placement="L", dilations=((3, 1),), structure="se"),
        Stage(depth=1, width=12, kernel=3, placement="L"),
    ),
)
SPARSE = Architecture(
    size=(12, 16),
    channels=1,
    block="slak",
    stem=Stem(kind="patchify", stride=2),
    transition="convnext",
    weights_sparsity=0.4,
    stages=(Stage(depth=2, width=12, kernel=7, placement="L", strip=3),),
)
DENSE = replace(CONVOLUTION, head="dense")


def images(count: int, seed: int, *, dense: bool) -> Split:
    """Squares of three grey values; their classes, or that of the first."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 3, (count, 3, 4)).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    pixels = (60 + 70 * masks + rng.normal(0, 10, masks.shape)).clip(0, 255).astype(np.uint8)
    masks[rng.random(masks.shape) < 0.2] = IGNORED
    # One image in five counts nowhere.
    masks[::5] = IGNORED
    labels = masks if dense else np.arange(count) % 3
    return Split(images=pixels[..., None], labels=labels)


def data(*, dense: bool = False) -> ImageData:
    return ImageData(
        name="squares",
        source="a generator",
        train=images(101, 0, dense=dense),
        val=images(30, 1, dense=dense),
        test=images(30, 2, dense=dense),
        classes=("dark", "grey", "bright"),
        sha256="",
    )


def built(architecture: Architecture, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_network(architecture, 3, drop_path=0.2)


def train(network: nn.Module, **changes: Any) -> Training:
    dense = isinstance(network, Network) and network.architecture.head == "dense"
    given = {"recipe": RECIPE, "seed": 5, "merge": merge_network} | changes
    return train_briefly(network, data(dense=dense), **given)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def reloaded(state: State | None, path: Path) -> State:
    assert state is not None
    path.write_bytes(to_bytes(state))
    return load(path)


CASES: dict[str, tuple[Architecture, int | None]] = {
    "drop path": (CONVOLUTION, None),
    "sparse": (SPARSE, None),
    "dense": (DENSE, None),
    "micro-batches": (CONVOLUTION, 5),
    "sparse, micro-batches": (SPARSE, 5),
    "dense, micro-batches": (DENSE, 3),
}


@pytest.mark.parametrize("case", CASES)
def test_stretches_end_with_the_bits_of_a_training_in_one_go(case: str, tmp_path: Path) -> None:
    architecture, micro_batch = CASES[case]
    whole = built(architecture)
    wanted = train(whole, micro_batch=micro_batch)

    state, rungs = None, []
    for until in RUNGS:
        # Other weights and another random state: all that counts is in the file.
        network = built(architecture, seed=0 if state is None else 77)
        rungs.append(train(network, until=until, goes_on=state, micro_batch=micro_batch))
        state = reloaded(rungs[-1].checkpoint, tmp_path / "one.pt") if until else None

    assert [one.state for one in rungs] == ["stopped", "stopped", "complete"]
    assert [one.steps for one in rungs] == [4, 13, 27]
    assert replace(rungs[-1], seconds=0.0) == replace(wanted, seconds=0.0)
    assert [step for step, _ in wanted.curve] == [3, 6, 9, 12, 15, 18, 21, 24, 27]
    assert [step for step, _ in rungs[1].curve] == [3, 6, 9, 12, 13]
    assert_same(network, whole)
    assert rungs[0].scores is not None
    assert len({one.scores for one in rungs}) == 3


def test_masks_change_on_both_sides_of_a_stop() -> None:
    network = built(SPARSE)
    found = []
    state = None
    for until in (4, 13, 27):
        state = train(network, until=until, goes_on=state).checkpoint
        assert state is not None
        masks, weights = state["masks"]["masks"], maskable_weights(network)
        # A place that opened at the stop holds a zero until the next step.
        assert all(bool(mask[weights[name] != 0].all()) for name, mask in masks.items())
        found.append(torch.cat([mask.flatten() for mask in masks.values()]))
    assert 0 < int(found[0].sum()) == int(found[1].sum()) == int(found[2].sum()) < len(found[0])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_a_rung_has_the_scores_of_its_own_step_on_the_schedule_of_the_full_length() -> None:
    stopped = train(built(CONVOLUTION), until=9)
    short = train(built(CONVOLUTION), recipe=replace(RECIPE, epochs=0.75))
    assert (stopped.steps, short.steps) == (9, 9)
    assert stopped.curve[-1][0] == 9
    assert stopped.scores != short.scores


def test_a_training_goes_on_in_a_fresh_process(tmp_path: Path) -> None:
    whole = built(SPARSE)
    wanted = train(whole)
    first = train(built(SPARSE), until=3)
    assert first.checkpoint is not None
    (tmp_path / "0.pt").write_bytes(to_bytes(first.checkpoint))

    code = f"from tests.test_states import second_stretch; second_stretch({str(tmp_path)!r})"
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ}, check=True)

    network = built(SPARSE, seed=3)
    last = train(network, goes_on=load(tmp_path / "1.pt"))
    assert last.scores == wanted.scores
    assert last.curve == wanted.curve
    assert_same(network, whole)


def second_stretch(folder: str) -> None:
    """What the fresh process does."""
    torch.set_num_threads(1)
    done = train(built(SPARSE, seed=9), until=9, goes_on=load(Path(folder) / "0.pt"))
    assert done.checkpoint is not None
    (Path(folder) / "1.pt").write_bytes(to_bytes(done.checkpoint))


def test_a_stretch_without_a_step_only_looks() -> None:
    first = train(built(CONVOLUTION), until=3)
    again = train(built(CONVOLUTION, seed=9), until=3, goes_on=first.checkpoint)
    assert again.scores == first.scores
    assert again.curve == first.curve
    assert (again.state, again.steps) == ("stopped", 3)


def test_a_stop_at_the_last_step_gives_a_checkpoint_too() -> None:
    stopped = train(built(CONVOLUTION), until=27)
    network = built(CONVOLUTION, seed=9)
    done = train(network, goes_on=stopped.checkpoint)
    assert (stopped.state, done.state) == ("stopped", "complete")
    assert done.scores == stopped.scores


def test_a_training_that_diverges_before_its_stop_has_no_checkpoint() -> None:
    lost = train(built(CONVOLUTION), until=9, recipe=replace(RECIPE, lr=1e30, warmup=0.0))
    assert (lost.state, lost.scores, lost.checkpoint) == ("diverged", None, None)


def test_reports_say_where_a_stretch_ends() -> None:
    rows: list[dict[str, Any]] = []
    first = train(built(CONVOLUTION), until=3)
    train(built(CONVOLUTION), until=9, goes_on=first.checkpoint, report=lambda **m: rows.append(m))
    assert {row["total_steps"] for row in rows} == {9}
    assert [row["step"] for row in rows] == [6, 9, 9]
    assert "accuracy" in rows[-1]


def test_a_checkpoint_has_the_statistics_of_the_training_not_those_of_the_evaluation() -> None:
    network = built(CONVOLUTION)
    state = train(network, until=3).checkpoint
    assert state is not None
    counts = {"then": state["network"], "now": network.state_dict()}
    tracked = {
        when: {int(value) for name, value in weights.items() if name.endswith("tracked")}
        for when, weights in counts.items()
    }
    # Three steps, and all twelve batches of an epoch that recalibrate.
    assert tracked == {"then": {3}, "now": {12}}


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 6}, "seed"),
        ({"recipe": replace(RECIPE, epochs=9, lr=1e-3)}, "epochs, lr"),
        ({"network": SPARSE}, "network"),
    ],
)
def test_the_state_of_another_training_is_refused(changes: dict[str, Any], named: str) -> None:
    state = train(built(CONVOLUTION), until=3).checkpoint
    network = built(changes.pop("network", CONVOLUTION))
    said = rf"^checkpoint: must be the state of this very training, got one with another {named}; "
    with pytest.raises(RunError, match=said + "delete it, and the training begins anew"):
        train(network, goes_on=state, **changes)


def test_a_network_of_the_same_name_with_other_weights_is_refused() -> None:
    def linear(width: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.Linear(width, 3))

    state = train(linear(4), until=3, merge=None).checkpoint
    with pytest.raises(RunError, match=r"^checkpoint: .* got one of a network with other weights"):
        train(linear(5), goes_on=state, merge=None)


def test_a_state_of_another_format_is_refused() -> None:
    state = {**(train(built(CONVOLUTION), until=3).checkpoint or {}), "format": 9}
    with pytest.raises(RunError, match=r"^checkpoint: .* got one of format 9, not 1; delete it"):
        train(built(CONVOLUTION), goes_on=state)


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_code(path: Path) -> None:
    torch.save({"format": os.getcwd}, path)


def a_list(path: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize("harm", [halved, with_code, a_list, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_refused_and_no_code_in_it_is_run(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "0.pt"
    reloaded(train(built(CONVOLUTION), until=3).checkpoint, path)
    harm(path)
    with pytest.raises(RunError, match=r"0.pt: must be the state of this very training, got a"):
        load(path)


def test_a_file_that_is_gone_is_said_to_be() -> None:
    with pytest.raises(FileNotFoundError):
        load(Path("nowhere.pt"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"until": 0}, r"^until: must be a step from 1, where .* to 27, where it ends, got 0"),
        ({"until": 28}, r"^until: must be a step from 1, .* got 28"),
        ({"micro_batch": 1}, r"^micro_batch: must be at least 2, which batch norm needs, got 1"),
    ],
)
def test_a_number_out_of_its_range_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=said):
        train(built(CONVOLUTION), **changes)


def test_a_stop_behind_the_training_is_refused() -> None:
    state = train(built(CONVOLUTION), until=9).checkpoint
    with pytest.raises(RunError, match=r"^until: must be a step from 9, .* got 3"):
        train(built(CONVOLUTION), goes_on=state, until=3)


@pytest.mark.parametrize(
    ("total", "length", "step"),
    [(27, (1, 9), 3), (250, (1, 3), 83), (2, (1, 9), 1), (5, (1, 2), 3)],
)
def test_a_share_of_the_length_is_rounded_to_a_step(
    total: int, length: tuple[int, int], step: int
) -> None:
    assert stop_step(total, Fraction(*length)) == step


# ---- micro-batches


class Exact(nn.Module):
    """Computes in float64, without batch norm; one image knows nothing of another."""

    def __init__(self, *, dense: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        last = (nn.Conv2d(6, 3, 1),) if dense else (nn.Flatten(), nn.Linear(6 * 12 * 16, 3))
        self.layers = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.GELU(), *last).double()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.double())
        return y


@pytest.mark.parametrize("dense", [False, True], ids=["classes", "masks"])
@pytest.mark.parametrize("micro_batch", [2, 3, 7, 99])
def test_micro_batches_make_the_steps_of_the_whole_batch(micro_batch: int, dense: bool) -> None:  # noqa: FBT001
    found = []
    for most in (None, micro_batch):
        network = Exact(dense=dense)
        done = train_briefly(network, data(dense=dense), recipe=RECIPE, seed=0, micro_batch=most)
        found.append((network, done))
    (whole, one), (cut, other) = found
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert one.scores is not None
    assert other.scores is not None
    assert other.scores.loss == pytest.approx(one.scores.loss, rel=1e-6)
    np.testing.assert_allclose([p for _, p in one.curve], [p for _, p in other.curve], rtol=1e-9)


def test_micro_batches_bound_the_images_of_every_pass() -> None:
    seen: dict[bool, set[int]] = {True: set(), False: set()}

    class Counted(nn.Module):
        """Notes how many images it is given."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(192, 3)

        def forward(self, x: Tensor) -> Tensor:
            seen[torch.is_grad_enabled()].add(len(x))
            y: Tensor = self.head(self.norm(x).flatten(1))
            return y

    train(Counted(), merge=None, micro_batch=3, recipe=replace(RECIPE, batch_size=16))
    # 16 as evenly as it goes in parts of at most 3; four times as many where nothing is kept.
    assert seen == {True: {2, 3}, False: {12, 6}}
