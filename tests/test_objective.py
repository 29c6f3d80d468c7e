"""Dense networks from the first step to the numbers of a trial: two readings of one trunk."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from builders import build_network, inference_network, merge_network
from evaluators.device import peak_memory
from evaluators.images import IGNORED, ImageData, Split
from evaluators.onnx_session import exported, forward_pass
from evaluators.recipe import Recipe
from evaluators.training import train_briefly
from runs.jobs import JobKey, single
from runs.objective import (
    ScoreJob,
    TimingJob,
    TrainJob,
    merge_difference,
    score_networks,
    time_trainings,
    train_network,
)
from runs.workers import Job, Pool
from search_space.architecture import Architecture, Stage, Stem
from search_space.errors import RunError
from tests.random_architectures import randomise

RECIPE = Recipe(epochs=6, batch_size=16, lr=1e-2, warmup=0.2)
STAGE = Stage(depth=1, width=8, kernel=5, placement="L", dilations=((3, 1),))
NETWORK = Architecture(
    size=(12, 16),
    channels=1,
    stem=Stem(stride=2),
    head="dense",
    stages=(STAGE, replace(STAGE, width=12)),
)
SPARSE = Architecture(
    size=(12, 16),
    channels=1,
    block="slak",
    stem=Stem(kind="patchify", stride=2),
    transition="convnext",
    head="dense",
    weights_sparsity=0.4,
    stages=(Stage(depth=1, width=12, kernel=7, placement="L", strip=3),),
)


def bright_and_dark(images: int, seed: int) -> Split:
    """Squares of 4 pixels, dark, grey or bright with noise: their class; some do not count."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 3, (images, 3, 4)).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    pixels = 60 + 70 * masks + rng.normal(0, 10, masks.shape)
    masks[rng.random(masks.shape) < 0.05] = IGNORED
    return Split(images=pixels.clip(0, 255).astype(np.uint8)[..., None], labels=masks)


DATA = ImageData(
    name="squares",
    source="a generator",
    train=bright_and_dark(96, 0),
    val=bright_and_dark(30, 1),
    test=bright_and_dark(30, 2),
    classes=("dark", "grey", "bright"),
    sha256="",
)


def silent(**_: Any) -> None:
    """Report to nobody."""


class Source:
    """Gives the squares where a job asks for its data."""

    def load(self) -> ImageData:
        return DATA


def train_job(tmp_path: Path, architecture: Architecture, **changes: Any) -> TrainJob:
    settings: dict[str, Any] = {
        "architecture": architecture,
        "seed": 1,
        "recipe": RECIPE,
        "data": Source(),
        "device": "cpu",
        "quiet": str(tmp_path),
        "run": str(tmp_path),
        "weights": "weights.safetensors",
    }
    return TrainJob(**(settings | changes))


def test_both_readings_learn_and_the_same_seed_gives_the_same() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        network = build_network(NETWORK, 3)
        found.append(train_briefly(network, DATA, recipe=RECIPE, seed=0, merge=merge_network))

    first, second = found
    assert first.scores == second.scores
    assert first.curve == second.curve
    assert first.scores is not None
    assert first.scores.last is not None
    assert first.scores.miou is not None
    # A pixel of chance is right in a third; the last map has squares of its own size.
    assert first.scores.accuracy > 0.75
    assert first.scores.miou > 0.6
    assert first.scores.last.accuracy > 0.6
    assert first.scores.loss < first.scores.last.loss


@pytest.mark.parametrize("architecture", [NETWORK, SPARSE], ids=["plain", "sparse"])
def test_a_trial_has_the_numbers_of_both_readings(
    tmp_path: Path, architecture: Architecture
) -> None:
    trained = train_network(train_job(tmp_path, architecture), silent)
    assert trained["state"] == "complete"
    assert trained["merge_error"] < 1e-12
    for name in ("accuracy", "miou", "accuracy_last", "miou_last"):
        assert 0 < trained[name] <= 1
    assert trained["val_loss"] > 0 < trained["val_loss_last"]
    if architecture is SPARSE:
        assert trained["params_nonzero"] < 0.8 * sum(
            weight.numel() for weight in build_network(SPARSE, 3).parameters()
        )

    job = ScoreJob(
        networks=((architecture, "weights.safetensors"),),
        run=str(tmp_path),
        data=Source(),  # type: ignore[arg-type]
        device="cpu",
    )
    (tested,) = score_networks(job, silent)
    assert set(tested) == {"test_accuracy", "test_miou"}
    assert tested["test_miou"] == pytest.approx(trained["miou"], abs=0.1)


def test_a_training_that_diverges_has_no_number_of_either(tmp_path: Path) -> None:
    recipe = replace(RECIPE, lr=1e30, warmup=0)
    trained = train_network(train_job(tmp_path, NETWORK, recipe=recipe), silent)
    assert trained["state"] == "diverged"
    names = ("accuracy", "val_loss", "miou", "accuracy_last", "val_loss_last", "miou_last")
    assert [trained[name] for name in names] == [None] * 6


def test_the_time_of_a_dense_training_is_forecast() -> None:
    job = TimingJob(architectures=(NETWORK,), recipe=RECIPE, data=Source(), device="cpu")  # type: ignore[arg-type]
    ((steps, once),) = time_trainings(job, silent)
    assert steps >= 0
    assert steps + once > 0


def test_merging_keeps_both_readings_and_deployment_the_first() -> None:
    torch.manual_seed(0)
    network = build_network(NETWORK, 3).double().eval()
    randomise(network)
    images = torch.randn(2, 1, *NETWORK.size, dtype=torch.float64)

    with torch.inference_mode():
        both = network(images)
        torch.testing.assert_close(merge_network(network)(images), both, rtol=1e-12, atol=1e-12)
        first = inference_network(network)(images)
    assert both.shape == (2, 2, 3, *NETWORK.size)
    torch.testing.assert_close(first, both[:, 0], rtol=1e-12, atol=1e-12)
    assert merge_difference(network, images) < 1e-12


def test_what_is_deployed_runs_in_onnx_runtime() -> None:
    torch.manual_seed(0)
    network = build_network(NETWORK, 3).eval()
    randomise(network)
    deployed, images = inference_network(network), torch.randn(2, 1, *NETWORK.size)
    with torch.inference_mode():
        expected = deployed(images)
    found = forward_pass(exported(deployed, images), images)()
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


# ---- rungs


SPARSE_COUNTS = {"params_nonzero", "macs_nonzero"}
"""Of complete trainings: masks that change at a stop have places that hold a zero for a moment."""


def assert_same_files(one: Path, other: Path) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is measured."""
    return {k: v for k, v in found.items() if k not in ("seconds", "train_seconds", "peak_bytes")}


@pytest.mark.parametrize("architecture", [NETWORK, SPARSE], ids=["plain", "sparse"])
def test_a_training_in_rungs_leaves_the_file_of_one_in_one_go(
    tmp_path: Path, architecture: Architecture
) -> None:
    whole = train_network(train_job(tmp_path, architecture, weights="whole/0.st"), silent)
    rungs = []
    for rung, length in enumerate((Fraction(1, 9), Fraction(1, 3), Fraction(1))):
        job = train_job(
            tmp_path,
            architecture,
            weights="rungs/0.st",
            length=length,
            checkpoint=f"checkpoints/{rung}.pt" if length < 1 else None,
            goes_on=f"checkpoints/{rung - 1}.pt" if rung else None,
        )
        rungs.append(train_network(job, silent))
        assert (tmp_path / "rungs/0.st").exists() == (rung == 2)
        assert (tmp_path / f"checkpoints/{rung}.pt").exists() == (rung < 2)

    assert [found["state"] for found in rungs] == ["stopped", "stopped", "complete"]
    assert [found["steps"] for found in rungs] == [4, 12, 36]
    assert all(found["merge_error"] < 1e-12 for found in rungs)
    assert all(whole.keys() - found.keys() <= SPARSE_COUNTS for found in rungs)
    assert plain(rungs[2]) == plain(whole)
    assert_same_files(tmp_path / "rungs/0.st", tmp_path / "whole/0.st")
    # Drafts are gone too.
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["0.pt", "1.pt"]


def test_a_state_that_is_gone_costs_only_time(tmp_path: Path) -> None:
    third = {"length": Fraction(1, 3), "checkpoint": "one.pt"}
    straight = train_network(train_job(tmp_path, NETWORK, **third), silent)
    job = train_job(tmp_path, NETWORK, **third, goes_on="checkpoints/7.pt")
    assert plain(train_network(job, silent)) == plain(straight)


def test_a_state_of_another_network_is_refused_by_its_file(tmp_path: Path) -> None:
    ninth = train_job(tmp_path, NETWORK, length=Fraction(1, 9), checkpoint="checkpoints/0.pt")
    train_network(ninth, silent)
    job = train_job(tmp_path, SPARSE, goes_on="checkpoints/0.pt")
    said = r"checkpoints/0\.pt: must be the state of this very training, got one with another netwo"
    with pytest.raises(RunError, match=said):
        train_network(job, silent)


def test_a_state_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    job = train_job(tmp_path, NETWORK, length=Fraction(1, 9), checkpoint="checkpoints/0.pt")
    with pytest.raises(RunError, match=r"checkpoints/0\.pt: could not be written, .*make room"):
        train_network(job, silent)


def test_a_training_that_diverges_at_a_rung_leaves_no_state(tmp_path: Path) -> None:
    job = train_job(
        tmp_path,
        NETWORK,
        recipe=replace(RECIPE, lr=1e30, warmup=0),
        length=Fraction(1, 3),
        checkpoint="0.pt",
    )
    assert train_network(job, silent)["state"] == "diverged"
    assert not (tmp_path / "0.pt").exists()


def test_micro_batches_train_as_well_and_are_told_from_the_seed_alone(tmp_path: Path) -> None:
    job = train_job(tmp_path, NETWORK, micro_batch=5)
    first, second = (train_network(job, silent) for _ in range(2))
    assert plain(first) == plain(second)
    assert first["miou"] > 0.6
    assert first["steps"] == 36


def test_a_job_says_how_much_memory_it_took() -> None:
    """In a child of its own, as everywhere outside tests."""
    job = Job(key=JobKey(kind="train"), function=fill, payload=100_000_000)
    with Pool(1, preload=("runs.warm",)) as pool:
        taken = single(pool, job)
    assert 95_000_000 <= taken < 150_000_000


def fill(count: int, _progress: Any) -> int:
    """Take so many bytes and give them back, as a job."""
    torch.ones(8)
    peak = peak_memory(torch.device("cpu"))
    torch.ones(count, dtype=torch.uint8)
    return peak()
