"""Whole training steps against the loop everyone writes, in the same run and in alternation.

Batches of 64 images of 32 x 32 and 10 classes, AdamW. The plain loop has plain modules, channels
first, and an allocator as it comes; each contender runs in processes of its own.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from builders.backends import Backends
from builders.network import build_network
from tests.benchmarks.naive import BATCH, CLASSES, NETS, SIZE, PlainNet, architecture

ROOT = Path(__file__).parents[2]
ROUNDS = 2
STEPS = {"naive": 3, "ours": 10}
TARGETS = {"A": 4.0, "B": 2.5, "C": 9.0}
MACHINE_TARGET = 4.5
MACHINE_STEPS = {"naive": 6, "ours": 20}


def together(
    contender: str, net: str, *, processes: int, threads: int, steps: int, library: str
) -> list[dict[str, Any]]:
    """Run a contender in several processes that begin to count at the same moment."""
    command = [sys.executable, "-m", "tests.benchmarks.training_step", contender, net]
    command += [str(threads), str(steps), *([library] if contender == "ours" else [])]
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            )
            for _ in range(processes)
        ]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate()[0]) for process in running]


@pytest.mark.parametrize("name", NETS)
def test_a_step_has_the_gradients_of_the_plain_network(name: str, library: str) -> None:
    torch.manual_seed(0)
    ours = build_network(architecture(NETS[name]), CLASSES, backends=Backends(library=library))
    with torch.no_grad():
        for parameter in ours.parameters():
            if not parameter.any():  # GRN starts at zero, where it lets no gradient through
                parameter.normal_(std=0.1)
    plain = PlainNet(NETS[name])
    plain.take_from(ours)
    exact = copy.deepcopy(plain).double()
    x, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(0, CLASSES, (BATCH,))
    for network, images in ((ours, x), (plain, x), (exact, x.double())):
        F.cross_entropy(network.train()(images), labels).backward()

    differences = {
        "ours against plain": _difference(ours, plain, exact),
        "ours against float64": _difference(ours, exact, exact),
        "plain against float64": _difference(plain, exact, exact),
    }
    print(f"\nnet {name}: largest difference of a gradient, relative to its tensor's largest value")
    for pair, difference in differences.items():
        print(f"  {pair:22} {difference:.1e}")
    assert max(differences.values()) < 1e-3


def _difference(network: nn.Module, other: nn.Module, exact: nn.Module) -> float:
    """Give the largest difference of a gradient, relative to the largest value of its tensor.

    A tensor whose gradient is zero but for rounding (offsets in front of a batch norm) is measured
    by the largest gradient of the network.
    """
    gradients = [
        [parameter.grad.double().flatten() for parameter in one.parameters()]  # type: ignore[union-attr]
        for one in (network, other, exact)
    ]
    largest = max(float(c.abs().max()) for c in gradients[2])
    worst = 0.0
    for a, b, c in zip(*gradients, strict=True):
        own = float(c.abs().max())
        worst = max(worst, float((a - b).abs().max()) / (own if own > 1e-9 * largest else largest))
    return worst


def test_steps_on_one_core(library: str) -> None:
    print("\none thread, process time, images per second; memory in MB")
    print(
        f"{'net':4}{'plain':>7}{'ours':>7}{'ratio':>7}{'target':>8}"
        f"{'kept plain':>12}{'ours':>6}{'peak plain':>12}{'ours':>6}"
    )
    for name in NETS:
        found: dict[str, list[dict[str, Any]]] = {"naive": [], "ours": []}
        for _ in range(ROUNDS):
            for contender, runs in found.items():
                runs += together(
                    contender,
                    name,
                    processes=1,
                    threads=1,
                    steps=STEPS[contender],
                    library=library,
                )
        seconds = {who: statistics.median(r["cpu_s"] for r in runs) for who, runs in found.items()}
        memory = {
            what: [max(run[what] for run in found[who]) / 1e6 for who in ("naive", "ours")]
            for what in ("kept_bytes", "peak_bytes")
        }
        print(
            f"{name:4}{BATCH / seconds['naive']:7.0f}{BATCH / seconds['ours']:7.0f}"
            f"{seconds['naive'] / seconds['ours']:7.1f}{TARGETS[name]:8.1f}"
            f"{memory['kept_bytes'][0]:12.0f}{memory['kept_bytes'][1]:6.0f}"
            f"{memory['peak_bytes'][0]:12.0f}{memory['peak_bytes'][1]:6.0f}"
        )
        assert memory["kept_bytes"][1] < memory["kept_bytes"][0]


def test_steps_on_the_whole_machine(library: str) -> None:
    speeds: dict[str, list[float]] = {"naive": [], "ours": []}
    shares: dict[str, list[float]] = {"naive": [], "ours": []}
    for _ in range(ROUNDS):
        for contender, processes, threads in (("naive", 1, 2), ("ours", 2, 1)):
            runs = together(
                contender,
                "A",
                processes=processes,
                threads=threads,
                steps=MACHINE_STEPS[contender],
                library=library,
            )
            speeds[contender].append(sum(BATCH / run["wall_s"] for run in runs))
            shares[contender] += [run["share"] for run in runs]
    naive, ours = (statistics.median(found) for found in speeds.values())
    had = [f"{min(found):.0%}" for found in shares.values()]
    print(
        f"\nnet A, wall, images per second: plain loop with 2 threads {naive:.0f}, ours in 2 "
        f"processes of one {ours:.0f}, ratio {ours / naive:.1f} (target {MACHINE_TARGET}).\n"
        f"They had at least {had[0]} and {had[1]} of their cores: far from all of them the ratio "
        f"says nothing, because two threads wait for each other"
    )
