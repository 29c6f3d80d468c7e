"""Predicted memory of trainings, against what autograd keeps and what processes take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from builders.backends import BACKEND_NAMES, Backends
from builders.heads import DenseHead
from builders.native import compiled
from builders.network import build_network
from evaluators.cost import cost
from evaluators.dense_loss import enlarged_cross_entropy
from evaluators.held import Conditions, step_values
from evaluators.memory import CERTAIN, TRAINED_BYTES, fitting_images, smaller, training_bytes
from search_space.architecture import Architecture
from search_space.yaml_io import load_architecture
from tests.family_architectures import EVERY, small_architecture
from tests.memory_peaks import CLASSES, measured_peak
from tests.random_architectures import random_architecture

IMAGES = 4
FLOAT = 4
NETWORKS = EVERY | {"dense": small_architecture("unireplknet", stride=2, head="dense")}
SHAPES = ("se", "bottleneck", "pointwise", "depthwise")
STRUCTURED = {
    name: replace(
        EVERY["unireplknet"],
        stages=tuple(replace(one, structure=name) for one in EVERY["unireplknet"].stages),
    )
    for name in SHAPES
}
RANDOM = {f"random {seed}": random_architecture(seed, largest=40) for seed in range(20)}


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backends]:
    """Give every backend of a CPU."""
    library = str(compiled(tmp_path_factory.mktemp("native"), flags=("-O1", "-shared", "-fPIC")))
    given = {name: Backends(rest=name) for name in BACKEND_NAMES if name in ("torch", "reference")}
    return {**given, "native": Backends(library=library)}


def kept_bytes(architecture: Architecture, backends: Backends) -> int:
    """Say what autograd keeps of a forward pass, every storage once and parameters not at all."""
    network = build_network(architecture, CLASSES, backends=backends).train()
    known = [*network.parameters(), *network.buffers()]
    own = {one.untyped_storage().data_ptr() for one in known}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.randn(IMAGES, architecture.channels, *architecture.size)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if isinstance(network.head, DenseHead):
            masks = torch.zeros(IMAGES, *architecture.size, dtype=torch.long)
            graph: Any = enlarged_cross_entropy(
                network.head.readings(network.features(images)), masks
            )
        else:
            graph = network(images)
    total = sum(found.values())
    del graph
    return total


@pytest.mark.parametrize("backend", ["torch", "native", "reference"])
@pytest.mark.parametrize("name", [*NETWORKS, *STRUCTURED])
def test_what_autograd_keeps_is_known_exactly(
    name: str, backend: str, backends: dict[str, Backends]
) -> None:
    architecture = (NETWORKS | STRUCTURED)[name]
    on = Conditions(images=IMAGES, backends=backends[backend])
    kept, peak = step_values(architecture, CLASSES, on)

    measured = kept_bytes(architecture, backends[backend])
    # What is left are numbers a channel, and gates of squeeze and excitation.
    assert kept * FLOAT * IMAGES == pytest.approx(measured, rel=0.01)
    assert peak > kept


def test_what_autograd_keeps_of_any_network_is_known(backends: dict[str, Backends]) -> None:
    for architecture in RANDOM.values():
        for one in backends.values():
            kept, _ = step_values(architecture, CLASSES, Conditions(images=IMAGES, backends=one))
            # Networks of a few values a map: numbers a channel count for more here.
            measured = kept_bytes(architecture, one)
            assert kept * FLOAT * IMAGES == pytest.approx(measured, rel=0.03, abs=20_000)


def test_memory_grows_with_images_and_holds_the_optimiser() -> None:
    architecture = load_architecture("convnext_t")
    params = cost(architecture, CLASSES).params_train
    few, many = (training_bytes(architecture, CLASSES, images) for images in (32, 64))
    assert few > TRAINED_BYTES * params
    assert 1.7 < (many - TRAINED_BYTES * params) / (few - TRAINED_BYTES * params) <= 2.01


def test_the_greatest_part_of_a_batch_that_may_fit_is_taken() -> None:
    architecture = load_architecture("unireplknet_t")
    needed = {
        images: training_bytes(architecture, CLASSES, images, batch_size=64)
        for images in (64, 32, 16, 8, 4, 2)
    }
    assert sorted(needed.values(), reverse=True) == [*needed.values()]
    for images, bytes_ in needed.items():
        limit = int(bytes_ / CERTAIN) + 1
        assert fitting_images(architecture, CLASSES, 64, limit) == images
    assert fitting_images(architecture, CLASSES, 64, int(needed[2] / CERTAIN) - 1) is None


def test_a_batch_that_ran_out_of_memory_is_halved_to_two_images_and_no_further() -> None:
    tried = [33]
    while (images := smaller(tried[-1])) is not None:
        tried.append(images)
    assert tried == [33, 17, 9, 5, 3, 2]


def test_a_gpu_keeps_maps_of_half_the_bytes_and_norms_of_all() -> None:
    architecture = load_architecture("convnext_t")
    cpu, gpu = (
        training_bytes(architecture, CLASSES, 64, device=device) for device in ("cpu", "cuda:1")
    )
    assert 0.5 < gpu / cpu < 0.7


def _wide(block: str, width: int, *, size: int, stride: int) -> Architecture:
    base = EVERY[block]
    stages = tuple(
        replace(
            stage,
            width=width * 2**place,
            depth=2,
            placement="SS" if stage.kernel == 3 else "LL",
            ffn_ratio=4,
        )
        for place, stage in enumerate(base.stages)
    )
    return replace(base, size=(size, size), stem=replace(base.stem, stride=stride), stages=stages)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize(
    ("block", "width", "size", "stride", "images"),
    [
        ("unireplknet", 24, 96, 2, 32),
        ("replknet", 16, 32, 1, 32),
        ("slak", 24, 96, 2, 32),
        ("convnext", 32, 64, 4, 64),
    ],
)
def test_a_process_takes_what_is_predicted(
    block: str,
    width: int,
    size: int,
    stride: int,
    images: int,
    backend: str,
    backends: dict[str, Backends],
) -> None:
    architecture = _wide(block, width, size=size, stride=stride)
    on = backends[backend]
    measured = measured_peak(architecture.to_json(), images, rest=on.rest, library=on.library)
    # With two images in the validation split, a training step takes the most.
    predicted = training_bytes(architecture, CLASSES, images, batch_size=images + 1, backends=on)
    assert 0.75 < predicted / measured < CERTAIN


@pytest.mark.slow
def test_a_process_takes_what_is_predicted_of_a_published_network() -> None:
    architecture = load_architecture("unireplknet_a")
    measured = measured_peak(architecture.to_json(), 4, rest="torch")
    predicted = training_bytes(
        architecture, CLASSES, 4, batch_size=5, backends=Backends(rest="torch")
    )
    assert 0.75 < predicted / measured < CERTAIN


@pytest.mark.slow
def test_an_evaluation_that_takes_more_than_a_step_is_predicted(
    backends: dict[str, Backends],
) -> None:
    architecture = replace(
        _wide("convnext", 8, size=64, stride=2),
        stages=tuple(
            replace(stage, depth=1, placement=stage.placement[0])
            for stage in _wide("convnext", 8, size=64, stride=2).stages
        ),
    )
    on = backends["native"]
    measured = measured_peak(architecture.to_json(), 4, validated=250, library=on.library)
    predicted = training_bytes(architecture, CLASSES, 4, backends=on)
    assert predicted > 5 * training_bytes(architecture, CLASSES, 4, batch_size=5, backends=on)
    assert 0.75 < predicted / measured < CERTAIN
