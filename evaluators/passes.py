"""A network made ready to be timed: one forward pass of one batch as a callable, by backend."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Literal

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

Backend = Literal["onnxruntime", "torch"]
"""What runs the merged network."""

Pass = Callable[[], object]
"""One forward pass of one batch, to be called in inference mode.

On a GPU it returns before the device is done."""

CAPTURE_WARMUP = 11
"""Passes on the side stream before a CUDA graph is captured: lazy set-up must lie behind."""


def default_backend(device: torch.device | str = "cpu") -> Backend:
    """Give ONNX Runtime for a CPU where it is installed, else torch.

    At batch 1 eager torch spends most of its time on calling its operators: ONNX Runtime runs the
    same small network 3 to 4 times faster, as whoever deploys it would.
    """
    on_cpu = torch.device(device).type == "cpu"
    return "onnxruntime" if on_cpu and missing_onnxruntime() is None else "torch"


def missing_onnxruntime() -> str | None:
    """Say why ONNX Runtime cannot be used here; None where it can."""
    try:
        import_module("evaluators.onnx_session")
    except ImportError as error:
        return " ".join(str(error).split())
    return None


def forward_pass(
    network: nn.Module | bytes,
    images_BCHW: Tensor,
    *,
    backend: Backend = "torch",
    threads: int = 1,
) -> Pass:
    """Make a network ready to be timed on one batch.

    Args:
        network: merged; it is moved to the device of the images, channels last, in eval mode. For
            ONNX Runtime also its model, as `evaluators.onnx_session.exported` gives it.
        images_BCHW: the batch, in float32.
        backend: "torch" runs the network itself, channels last: in torch's other layout large
            kernels fall off the fast path on a CPU, and networks are ranked wrongly (Spearman 0.72
            to 0.85). "onnxruntime" is for a CPU.
        threads: of ONNX Runtime; torch's are set for the whole process.

    Raises:
        ImportError: ONNX Runtime is not installed.
    """
    if backend == "onnxruntime":
        session = import_module("evaluators.onnx_session")
        model = (
            network if isinstance(network, bytes) else session.exported(network.eval(), images_BCHW)
        )
        ready: Pass = session.forward_pass(model, images_BCHW, threads=threads)
        return ready
    assert isinstance(network, nn.Module), "torch cannot run an ONNX model"
    device = images_BCHW.device
    # nn.Module.to has no overload for a memory format alone.
    network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
    if device.type == "cuda" and len(images_BCHW) == 1:
        return _replayed(network, images_BCHW)
    return lambda: network(images_BCHW)


def _replayed(network: nn.Module, images_BCHW: Tensor) -> Pass:
    """Give the replay of a CUDA graph, or the eager pass of a network that cannot be captured.

    A small network at batch 1 is launched more slowly than it computes, so eager passes would time
    the launches. The graph is captured as torch's notes on CUDA semantics ask: after a warm-up on a
    side stream. A replay reads the same images every time.
    """
    device, graph = images_BCHW.device, torch.cuda.CUDAGraph()
    try:
        with torch.inference_mode(), torch.cuda.device(device):
            side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(CAPTURE_WARMUP):
                    network(images_BCHW)
            torch.cuda.current_stream(device).wait_stream(side)
            with torch.cuda.graph(graph):
                logits = network(images_BCHW)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        logger.warning("a network cannot be captured as a CUDA graph, timed eagerly: %s", reason)
        return lambda: network(images_BCHW)

    # The graph holds addresses only: what it reads must live as long as it does.
    def replay(_read: object = (network, images_BCHW)) -> object:
        graph.replay()
        return logits

    return replay
