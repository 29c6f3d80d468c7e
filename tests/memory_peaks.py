"""A process of its own that trains a network for some steps and says what memory that took.

`python -m tests.memory_peaks` reads one JSON object: architecture, images, validated, library,
rest; it prints the bytes by which the resident memory rose above what it was before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 10
STEPS = 3


def measured_peak(
    architecture: str,
    images: int,
    *,
    validated: int = 2,
    rest: str | None = None,
    library: str | None = None,
) -> int:
    """Give the bytes that a process takes beside its start.

    Args:
        architecture: as JSON.
        images: of a batch.
        validated: images that are classified at the end.
        rest: the backend of the depthwise sums.
        library: of the compiled backend.
    """
    asked = {"architecture": architecture, "images": images, "validated": validated}
    asked |= {"rest": rest, "library": library}
    done = subprocess.run(
        [sys.executable, "-m", "tests.memory_peaks"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    return int(done.stdout)


def _peak(asked: dict[str, Any]) -> int:
    import torch

    from builders.backends import Backends
    from evaluators.device import tune_allocator
    from search_space.architecture import Architecture
    from tests.family_architectures import small_architecture

    torch.set_num_threads(1)
    tune_allocator()
    backends = Backends(rest=asked["rest"], library=asked["library"])
    architecture = Architecture.from_json(asked["architecture"])
    # A step of a small network loads what is loaded once.
    _trained(small_architecture(architecture.block), 2, 2, 1, backends)
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak is what it is now
    before = _status("VmRSS")
    _trained(architecture, asked["images"], asked["validated"], STEPS, backends)
    return _status("VmHWM") - before


def _trained(architecture: Any, images: int, validated: int, steps: int, backends: Any) -> None:
    from builders.network import build_network, merge_network
    from evaluators.images import ImageData, Split
    from evaluators.recipe import Recipe
    from evaluators.training import train_briefly

    shape = (*architecture.size, architecture.channels)
    dense = architecture.head == "dense"

    def split(count: int) -> Split:
        pixels = np.zeros((count, *shape), np.uint8)
        pixels[:, ::2] = 255
        labels = np.zeros((count, *shape[:2]) if dense else count, np.uint8 if dense else np.int64)
        return Split(images=pixels, labels=labels)

    data = ImageData(
        name="grey",
        source="made",
        train=split(images),
        val=split(validated),
        test=split(1),
        classes=tuple(map(str, range(CLASSES))),
        sha256="",
    )
    recipe = Recipe(epochs=steps, batch_size=images, recalibration_batches=1)
    network = build_network(architecture, CLASSES, backends=backends)
    train_briefly(network, data, recipe=recipe, seed=0, merge=merge_network)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    found = next(line for line in lines if line.startswith(f"{name}:"))
    return int(found.split()[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(f"{_peak(json.load(sys.stdin))}\n")
