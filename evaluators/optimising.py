"""What trainings of any length share: the optimiser, the loss, and randomness of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from builders.heads import DenseHead
from builders.network import Network
from evaluators.dense_loss import enlarged_cross_entropy
from evaluators.device import precision
from evaluators.flat import flattened
from evaluators.scores import cross_entropy


def training_loss(
    network: nn.Module, images_BCHW: Tensor, labels: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Give the mean cross-entropy of a batch, computed in the precision of the device.

    Args:
        network: of a dense head both readings count alike.
        images_BCHW: normalised.
        labels: (B,), or masks (B, H, W).
        label_smoothing: share of the target that is spread over all classes.
    """
    if isinstance(network, Network) and isinstance(network.head, DenseHead):
        with precision(images_BCHW.device):
            readings = network.head.readings(network.features(images_BCHW))
        whole = [_whole(logits) for logits in readings]
        return enlarged_cross_entropy(whole, labels, label_smoothing=label_smoothing)
    with precision(images_BCHW.device):
        logits = network(images_BCHW)
    return cross_entropy(_whole(logits), labels, label_smoothing=label_smoothing)


def _whole(logits: Tensor) -> Tensor:
    """Give logits in at least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for a `with` block, then put the caller's state back."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def adamw(
    network: nn.Module, *, lr: float, weight_decay: float, device: torch.device
) -> Iterator[torch.optim.Optimizer]:
    """Give the optimiser of a training; for the `with` block parameters lie behind one another.

    Weight decay does not act on biases and 1-D parameters.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        bare = parameter.ndim <= 1 or name.endswith("bias")
        (spared if bare else decayed).append(parameter)
    with ExitStack() as stack:
        groups = [
            {"params": stack.enter_context(flattened(parameters)), "weight_decay": decay}
            for parameters, decay in ((decayed, weight_decay), (spared, 0.0))
        ]
        yield torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=lr,
            fused=device.type in ("cpu", "cuda"),
        )
