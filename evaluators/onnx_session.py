"""Networks in ONNX Runtime: exported from torch in memory and run on a CPU.

The only module that imports onnxruntime. Others import it where they need it, with `import_module`:
both packages are optional, and onnxruntime starts threads when it is imported, which a process that
forks must not have.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import onnx  # noqa: F401  # torch's exporter reads what it wrote with it
import onnxruntime
import torch
from torch import Tensor, nn

# Its official builds may report usage to their vendor: a measurement must not.
onnxruntime.disable_telemetry_events()

INPUT, OUTPUT = "images", "logits"


def exported(network: nn.Module, images_BCHW: Tensor, *, any_batch: bool = False) -> bytes:
    """Give a network as an ONNX model for images of this size.

    The exporter that traces takes 0.05 s for a network of the shipped space, the one that captures
    graphs 4 s (torch 2.13).

    Args:
        network: merged, in eval mode, in float32 on the CPU.
        images_BCHW: any batch of the shape, on the CPU.
        any_batch: whether the model takes batches of any number of images, or of this one alone,
            which ONNX Runtime can plan for.
    """
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        # torch says of the tracing exporter that the other one is to be preferred.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (images_BCHW,),
            file,  # type: ignore[arg-type]  # this exporter writes to a file object too
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}} if any_batch else None,
            dynamo=False,
        )
    return file.getvalue()


def forward_pass(model: bytes, images_BCHW: Tensor, *, threads: int = 1) -> Callable[[], Tensor]:
    """Give a callable that runs a model once on these images in ONNX Runtime.

    Args:
        model: as `exported` gives it.
        images_BCHW: the batch, in float32 on the CPU, of the shape that it was exported for.
        threads: that compute; they sleep while they wait for each other.

    Returns:
        A callable that gives the logits, (B, classes).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that spins while it waits takes a core from whatever is measured beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime reads rows of pixels, whatever the layout that torch prefers.
    feed = {INPUT: images_BCHW.contiguous().numpy()}

    def run() -> Tensor:
        (logits,) = session.run([OUTPUT], feed)
        return torch.from_numpy(logits)

    return run
