"""What the fork server imports once, so that a child starts with it in memory.

Importing alone: nothing here may touch CUDA (a forked child could not use it any more) or start a
thread (a fork copies one thread only). That rules out onnxruntime, and scikit-learn: it brings
pandas and pyarrow, whose allocator starts one. torch's ONNX exporter is 0.25 s of imports.
`torch._dynamo` is what building the first optimizer would otherwise import, 2 s in each child
(torch 2.13, 2 CPU cores).
"""

import contextlib
from importlib import import_module

import numpy  # noqa: F401
import psutil  # noqa: F401
import safetensors.torch  # noqa: F401
import torch
import torch._dynamo
import torch.optim
import torch.utils.flop_counter  # noqa: F401

import builders.network  # noqa: F401
import evaluators.compliance
import evaluators.cost
import evaluators.data
import evaluators.latency
import evaluators.training  # noqa: F401

with contextlib.suppress(ImportError):
    import onnx  # noqa: F401

    for version in range(7, 21):
        import_module(f"torch.onnx.symbolic_opset{version}")
