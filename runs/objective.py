"""What a child process does for the search: train, measure latencies, test, fit a baseline.

Each function takes a frozen job and a `progress` callable and returns plain values; a child runs
one of them and ends. The seed of a training depends on the run's seed and the network alone, so a
network's accuracy does not depend on the worker or the order.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from builders import build_network, inference_network, merge_network
from builders.backends import AUTO, BackendName, Backends, SumShape
from evaluators.device import limit_memory, peak_memory, tune_allocator
from evaluators.images import ImageData, Split
from evaluators.latency import device_facts, prepared, time_passes
from evaluators.passes import Backend
from evaluators.probe import probe
from evaluators.recipe import Recipe
from evaluators.scores import Scores, evaluate
from evaluators.sparsity import trained_sparse_cost
from evaluators.states import stop_step
from evaluators.training import train_briefly
from runs.checkpoints import read_state, save_state, save_weights
from runs.images import DataSource
from runs.locks import QuietLock
from search_space.architecture import Architecture

Progress = Callable[..., None]

TIMED_STEPS = (3, 9)
"""Steps of the two trainings whose difference is the time of a step."""
TIMED_IMAGES = 250
"""Validation images that are classified for the forecast."""

MERGE_TOLERANCE = 1e-9
"""Most that merging may change in float64, relative to the greatest output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainJob:
    """One training."""

    architecture: Architecture
    seed: int
    recipe: Recipe
    data: DataSource
    device: str
    quiet: str
    """Folder whose lock the training holds, on a disk of this machine."""
    run: str
    """Run directory; the names of files below are relative to it."""
    weights: str | None
    """File for the weights of a training that reaches its full length; None keeps none."""
    start: str | None = None
    """Weights to start from instead of an initialisation."""
    length: Fraction = Fraction(1)
    """Where to stop, as a share of the full length, in (0, 1]; the schedule spans the full one."""
    checkpoint: str | None = None
    """File for the state of a training that stops below full length; None keeps none."""
    goes_on: str | None = None
    """Such a file to go on from; without it the training starts anew, with the same result."""
    micro_batch: int | None = None
    """Most images of one backward pass; None takes the whole batch."""
    gpu_share: float = 1.0
    """Part of the GPU's memory that the training may take, in (0, 1]."""
    backends: Backends = AUTO


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyJob:
    """Latencies of some networks, measured together while every training waits."""

    architectures: tuple[Architecture, ...]
    reference: Architecture
    reference_model: bytes | None
    """The reference as an ONNX model, where ONNX Runtime measures: exported once a session."""
    num_classes: int
    device: str
    batch_size: int
    backend: Backend
    quiet: str
    """Folder whose lock the measurement holds alone, on a disk of this machine."""
    budget_s: float
    """Seconds of measurement for each network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingJob:
    """Timed steps of some networks, for the forecast."""

    architectures: tuple[Architecture, ...]
    recipe: Recipe
    data: DataSource
    device: str
    backends: Backends = AUTO


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeJob:
    """Depthwise sums to choose a backend for."""

    shapes: tuple[SumShape, ...]
    library: str | None
    """File of the native backend."""
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreJob:
    """Test scores of trained networks, looked at once."""

    networks: tuple[tuple[Architecture, str], ...]
    """Architectures with the files of their weights, by names relative to `run`."""
    run: str
    """Run directory."""
    data: DataSource
    device: str


def training_seed(seed: int, architecture_id: str, repeat: int = 0) -> int:
    """Give the seed of a training: 63 bits hashed from run seed, network and repeat."""
    digest = hashlib.sha256(f"{seed}:{architecture_id}:{repeat}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def train_network(job: TrainJob, progress: Progress) -> dict[str, Any]:
    """Train one network, or on, and save its weights, or below full length its state.

    Returns:
        `state`, `accuracy`, `val_loss`, `merge_error`; `steps` from the very first, and the `curve`
        over them; `train_seconds` and `seconds` of this job alone, and `peak_bytes`, the most
        memory that it took (see `peak_memory`); in segmentation `miou`, and of the reading of the
        last map `accuracy_last`, `val_loss_last` and `miou_last`; of a sparse network that is
        complete `params_nonzero` and `macs_nonzero` of the training form.

    Raises:
        ArithmeticError: the merged network is not equal to the trained one.
        RunError: a file cannot be written, or the state to go on from is that of another training.
    """
    begin = time.monotonic()
    _settle()
    device = torch.device(job.device)
    limit_memory(device, job.gpu_share)
    peak = peak_memory(device)
    lock = QuietLock(job.quiet)
    # Held from the first image to the last weight: all of it would disturb a measurement.
    with lock.shared():
        found = _train(job, progress, between_steps=lambda: void(lock.yield_to_measurement()))
    return found | {"seconds": round(time.monotonic() - begin, 3), "peak_bytes": peak()}


def _train(
    job: TrainJob, progress: Progress, *, between_steps: Callable[[], None]
) -> dict[str, Any]:
    data = job.data.load()
    torch.manual_seed(job.seed)
    network = build_network(job.architecture, data.num_classes, backends=job.backends)
    if job.start is not None:
        network.load_state_dict(load_file(Path(job.run) / job.start))
    until = None if job.length == 1 else stop_step(job.recipe.steps(len(data.train)), job.length)
    trained = train_briefly(
        network,
        data,
        recipe=job.recipe,
        seed=job.seed,
        device=job.device,
        report=progress,
        between_steps=between_steps,
        merge=merge_network,
        until=until,
        goes_on=None if job.goes_on is None else read_state(Path(job.run) / job.goes_on),
        micro_batch=job.micro_batch,
    )
    merge_error = None
    counted = {}
    if trained.state != "diverged":
        merge_error = merge_difference(network.cpu(), _two_images(data))
        if not merge_error <= MERGE_TOLERANCE:
            raise ArithmeticError(
                f"the merged network differs by {merge_error:.1e} in float64, a bug: report it"
            )
        if trained.state == "complete" and job.architecture.weights_sparsity:
            sparse = trained_sparse_cost(network, data.num_classes)
            counted = {"params_nonzero": sparse.params_nonzero, "macs_nonzero": sparse.macs_nonzero}
        if trained.state == "complete" and job.weights is not None:
            save_weights(network, Path(job.run) / job.weights)
        if trained.checkpoint is not None and job.checkpoint is not None:
            save_state(trained.checkpoint, Path(job.run) / job.checkpoint)
    return {
        "state": trained.state,
        **_scored(trained.scores, dense=data.task == "segmentation"),
        "steps": trained.steps,
        "merge_error": merge_error,
        **counted,
        "curve": [list(point) for point in trained.curve],
        "train_seconds": round(trained.seconds, 3),
    }


def _scored(scores: Scores | None, *, dense: bool) -> dict[str, float | None]:
    """Give the results of an evaluation by the names of the record; None where it diverged."""
    found = {
        "accuracy": None if scores is None else scores.accuracy,
        "val_loss": None if scores is None else scores.loss,
    }
    if dense:
        last = None if scores is None else scores.last
        found |= {
            "miou": None if scores is None else scores.miou,
            "accuracy_last": None if last is None else last.accuracy,
            "val_loss_last": None if last is None else last.loss,
            "miou_last": None if last is None else last.miou,
        }
    return found


def measure_networks(job: LatencyJob, _progress: Progress) -> dict[str, Any]:
    """Measure the latency of deployed networks side by side while every training of the run waits.

    Returns:
        `networks`: a dict for each architecture with `median_ms`, `low_ms`, `high_ms`, `disturbed`
        and more; `seconds`: what it took; `waited`: part of that in which the trainings went on.
    """
    begin = time.monotonic()
    _settle()
    torch.manual_seed(0)
    # Weights do not change how long a network takes, so random ones do.
    networks = [merged_network(one, job.num_classes) for one in job.architectures]
    *passes, reference = prepared(
        [*networks, job.reference_model or merged_network(job.reference, job.num_classes)],
        size=job.reference.size,
        channels=job.reference.channels,
        device=job.device,
        batch_size=job.batch_size,
        backend=job.backend,
    )
    with QuietLock(job.quiet).exclusive():
        waited = time.monotonic() - begin
        measured = time_passes(passes, reference, device=job.device, budget_s=job.budget_s)
    return {
        "networks": [asdict(latency) | {"disturbed": latency.disturbed} for latency in measured],
        "seconds": round(time.monotonic() - begin, 3),
        "waited": round(waited, 3),
    }


def score_networks(job: ScoreJob, _progress: Progress) -> list[dict[str, float]]:
    """Give each network's `test_accuracy`, in segmentation `test_miou` too."""
    _settle()
    data = job.data.load()
    scored = []
    for architecture, weights in job.networks:
        network = build_network(architecture, data.num_classes)
        network.load_state_dict(load_file(Path(job.run) / weights))
        scores = evaluate(inference_network(network), data, "test", device=job.device)
        found = {"test_accuracy": scores.accuracy}
        scored.append(found if scores.miou is None else found | {"test_miou": scores.miou})
    return scored


def time_trainings(job: TimingJob, _progress: Progress) -> list[tuple[float, float]]:
    """Forecast the seconds of a whole training of each network from a few timed steps.

    Returns:
        For each network what is in proportion to the length, and what comes once.
    """
    _settle()
    data = job.data.load()
    images = len(data.val)
    val = Split(
        images=data.val.images[:TIMED_IMAGES],
        labels=data.val.labels[:TIMED_IMAGES],
    )
    data = replace(data, val=val)
    steps = job.recipe.steps(len(data.train))
    few, more = (
        replace(
            job.recipe,
            epochs=n * job.recipe.epochs / steps,
            recalibration_batches=0,
            mask_updates=round(n * job.recipe.mask_updates / steps),
        )
        for n in TIMED_STEPS
    )
    seconds = []
    for architecture in job.architectures:
        network = build_network(architecture, data.num_classes, backends=job.backends)
        short, long = (
            train_briefly(
                network, data, recipe=recipe, seed=0, device=job.device, merge=merge_network
            )
            for recipe in (few, more)
        )
        # The difference leaves out what happens once: the evaluation, and the first step's warm-up.
        step = max(long.seconds - short.seconds, 0.0) / max(1, long.steps - short.steps)
        begin = time.perf_counter()
        evaluate(merge_network(network), data, device=job.device)
        evaluation = time.perf_counter() - begin
        # Recalibration is forward passes alone: a third of a step each.
        passes = job.recipe.recalibration_batches / 3 - short.steps
        rest = evaluation * (images / len(val) - 1)
        seconds.append((step * steps, short.seconds + step * passes + rest))
    return seconds


def probe_shapes(
    job: ProbeJob, _progress: Progress
) -> tuple[dict[str, BackendName], float, dict[str, Any]]:
    """Choose a backend for each shape, by `SumShape.key`; gives the seconds and the device too."""
    _settle()
    begin = time.monotonic()
    chosen = probe(job.shapes, library=job.library, device=job.device)
    return chosen, time.monotonic() - begin, device_facts(job.device)


def fit_baseline(source: DataSource, _progress: Progress) -> dict[str, float]:
    """Fit multinomial logistic regression on the same images."""
    # Not at the top: scikit-learn starts a thread at import, and the fork server must have none.
    baseline = import_module("evaluators.baseline").linear_baseline(source.load())
    # Accuracies, and mIoUs where the images have masks.
    return {key: value for key, value in asdict(baseline).items() if isinstance(value, float)}


def merge_difference(network: nn.Module, images: Tensor) -> float:
    """Give the greatest difference that merging makes in float64, over the greatest output."""
    exact = copy.deepcopy(network).double().eval()
    with torch.inference_mode():
        expected = exact(images.double())
        merged = merge_network(exact)(images.double())
    return float((merged - expected).abs().max() / expected.abs().max())


def _settle() -> None:
    """Prepare a child for its job."""
    # What the fork server imported is never garbage: going through it costs 0.4 s a collection.
    gc.freeze()
    tune_allocator()


def void(_: object) -> None:
    """Drop a value where a callable must give none."""


def merged_network(architecture: Architecture, num_classes: int) -> nn.Module:
    """Give the network as it is deployed (see `inference_network`), with random weights."""
    return inference_network(build_network(architecture, num_classes).eval())


def _two_images(data: ImageData) -> Tensor:
    pixels = torch.from_numpy(data.val.images[:2]).permute(0, 3, 1, 2)
    return pixels.double() / 127.5 - 1
