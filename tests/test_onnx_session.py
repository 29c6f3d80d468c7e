"""Networks in ONNX Runtime give what they give in torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from builders import build_network, merge_network
from evaluators.onnx_session import exported, forward_pass
from search_space.architecture import Architecture
from tests.family_architectures import EVERY
from tests.random_architectures import randomise


def merged(architecture: Architecture) -> nn.Module:
    torch.manual_seed(0)
    network = build_network(architecture, 10)
    randomise(network)
    return merge_network(network.eval())


def images_of(architecture: Architecture, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, architecture.channels, *architecture.size, generator=generator)


@pytest.mark.parametrize("name", EVERY)
def test_a_network_gives_what_it_gives_in_torch(name: str) -> None:
    network, images = merged(EVERY[name]), images_of(EVERY[name], 2)
    with torch.inference_mode():
        expected = network(images)
    logits = forward_pass(exported(network, images), images)()
    assert logits.shape == (2, 10)
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_network_that_stands_channels_last_gives_the_same() -> None:
    architecture = EVERY["unireplknet"]
    network, images = merged(architecture), images_of(architecture, 1)
    expected = forward_pass(exported(network, images), images)()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = images.contiguous(memory_format=torch.channels_last)
    again = forward_pass(exported(network, images), images)()
    torch.testing.assert_close(again, expected)


def test_exporting_warns_of_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = exported(merged(EVERY["replknet"]), images_of(EVERY["replknet"], 1))
    assert model
    assert caught == []
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_network_in_training_stays_in_training_and_exports_its_evaluation() -> None:
    network = merged(EVERY["convnext"])
    before = network.training
    exported(network, images_of(EVERY["convnext"], 1))
    assert network.training == before
