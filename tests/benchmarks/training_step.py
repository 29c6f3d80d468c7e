"""One contender's training steps in a process of its own; prints one line of JSON.

    python -m tests.benchmarks.training_step naive|ours NET THREADS STEPS [LIBRARY]

Says `ready` after the warm-up and waits for a line, so that processes can start together.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builders.backends import Backends
from builders.network import build_network
from evaluators.device import tune_allocator
from tests.benchmarks.naive import BATCH, CLASSES, NETS, SIZE, PlainNet, architecture

WARM_UP = 2


def run(contender: str, name: str, threads: int, steps: int, library: str | None) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, SIZE, SIZE)
    labels = torch.randint(0, CLASSES, (BATCH,))
    if contender == "ours":
        tune_allocator()
        backends = Backends(library=library)
        network: nn.Module = build_network(architecture(NETS[name]), CLASSES, backends=backends)
        images = images.contiguous(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    else:
        network = PlainNet(NETS[name])
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.train()

    def step() -> None:
        loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    kept = kept_bytes(network, images)
    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    sys.stdin.readline()
    cpu, start = [], time.perf_counter()
    for _ in range(steps):
        before = time.process_time()
        step()
        cpu.append(time.process_time() - before)
    wall = time.perf_counter() - start
    found = {
        "cpu_s": statistics.median(cpu),
        "wall_s": wall / steps,
        "share": sum(cpu) / wall / threads,
        "kept_bytes": kept,
        "peak_bytes": peak_bytes(),
    }
    print(json.dumps(found), flush=True)


def peak_bytes() -> int:
    """Give the most memory that this process has held."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        # On Linux this one counts what the parent held when it started the process.
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def kept_bytes(network: nn.Module, images: Tensor) -> int:
    """Count what autograd keeps between forward and backward, without parameters."""
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(images).sum()
    assert loss.requires_grad
    return sum(size for address, size in kept.items() if address not in parameters)


if __name__ == "__main__":
    contender, name, threads, steps, *library = sys.argv[1:]
    run(contender, name, int(threads), int(steps), library[0] if library else None)
