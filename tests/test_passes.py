"""Networks made ready to be timed: which backend, which layout, CUDA graphs."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from evaluators import passes
from evaluators.passes import CAPTURE_WARMUP, default_backend, forward_pass, missing_onnxruntime


class Counted(nn.Module):
    """Counts its calls and remembers the layout of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.calls = 0
        self.channels_last: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.channels_last.add(x.is_contiguous(memory_format=torch.channels_last))
        y: Tensor = self.layer(x)
        return y


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ONNX Runtime were not installed."""
    monkeypatch.delitem(sys.modules, "evaluators.onnx_session", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


def test_a_cpu_is_timed_with_onnx_runtime_and_a_gpu_with_torch() -> None:
    assert missing_onnxruntime() is None
    assert default_backend("cpu") == "onnxruntime"
    assert default_backend("cuda:1") == "torch"


@pytest.mark.usefixtures("hidden")
def test_without_onnx_runtime_a_cpu_is_timed_with_torch() -> None:
    assert default_backend("cpu") == "torch"
    assert "onnxruntime" in str(missing_onnxruntime())


def test_torch_runs_the_network_itself_channels_last() -> None:
    network = Counted()
    run = forward_pass(network, torch.zeros(2, 3, 8, 8), backend="torch")
    run()
    assert (network.calls, network.channels_last, network.training) == (1, {True}, False)
    assert network.layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_onnx_runtime_runs_a_copy_in_evaluation() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
    images = torch.ones(2, 3, 8, 8)
    run = forward_pass(network, images, backend="onnxruntime")
    found, again = run(), run()
    assert isinstance(found, Tensor)
    assert isinstance(again, Tensor)
    torch.testing.assert_close(found, network[0](images).detach())
    torch.testing.assert_close(again, found)


class StandIn:
    """Stands in for the calls of torch.cuda that capture a graph."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.log: list[str] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it in the place of torch.cuda's."""
        for name in ("CUDAGraph", "Stream", "current_stream", "stream", "graph", "device"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def CUDAGraph(self) -> StandIn:  # noqa: N802
        return self

    def Stream(self, _: object) -> StandIn:  # noqa: N802
        return self

    def current_stream(self, _: object) -> StandIn:
        return self

    def wait_stream(self, _: object) -> None:
        self.log.append("wait")

    def replay(self) -> None:
        self.log.append("replay")

    @contextlib.contextmanager
    def device(self, _: object) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def stream(self, _: object) -> Iterator[None]:
        self.log.append("side stream")
        yield
        self.log.append("main stream")

    @contextlib.contextmanager
    def graph(self, _: object) -> Iterator[None]:
        self.log.append("capture")
        yield
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")


def test_one_image_on_a_gpu_is_the_replay_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in, network = StandIn(), Counted()
    stand_in.install(monkeypatch)
    run = passes._replayed(network, torch.zeros(1, 3, 8, 8))
    assert network.calls == CAPTURE_WARMUP + 1
    assert stand_in.log == ["wait", "side stream", "main stream", "wait", "capture"]
    run()
    assert stand_in.log[-1] == "replay"
    assert network.calls == CAPTURE_WARMUP + 1


def test_what_cannot_be_captured_is_timed_eagerly_with_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in, network = StandIn(fails=True), Counted()
    stand_in.install(monkeypatch)
    with caplog.at_level(logging.WARNING):
        run = passes._replayed(network, torch.zeros(1, 3, 8, 8))
    before = network.calls
    run()
    assert network.calls == before + 1
    assert "replay" not in stand_in.log
    assert caplog.messages == [
        "a network cannot be captured as a CUDA graph, timed eagerly: "
        "operation not permitted when stream is capturing"
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 4])
def test_a_gpu_computes_in_a_graph_what_it_computes_eagerly(batch: int) -> None:
    network = nn.Conv2d(3, 4, 3)
    images = torch.randn(batch, 3, 8, 8)
    expected = network(images)
    run: Callable[[], object] = forward_pass(network, images.cuda())
    logits = run()
    assert isinstance(logits, Tensor)
    torch.testing.assert_close(logits.cpu(), expected, rtol=1e-3, atol=1e-3)
