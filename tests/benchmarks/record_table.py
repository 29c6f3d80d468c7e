"""Record `assets/trainings.csv`: every network of `assets/table.yaml`, trained by the product.

Each of the 792 networks is trained once, with the shipped images and the recipe of a search, on one
CPU thread, to 1/9, to 1/3 and to the end of its length: rungs 0, 1 and 2 of halving, one cosine
over the full length. Accuracy and loss are those of the validation split after the rung, seconds
count from the beginning. `id` names the network: `space.census.all()` has it.

    python -m tests.benchmarks.record_table             hours; goes on where it was stopped
    python -m tests.benchmarks.record_table --check 3   trains 3 again and compares
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from builders import build_network, merge_network
from evaluators.cost import cost
from evaluators.device import tune_allocator
from evaluators.images import ImageData
from evaluators.states import stop_step
from evaluators.training import train_briefly
from runs.backends import user_cache, with_backends
from runs.engines import open_engine
from runs.objective import training_seed
from runs.plan import Plan, Settings
from runs.planning import plan_run
from runs.rungs import ladder
from search_space.architecture import Architecture

ASSETS = Path(__file__).parent / "assets"
SPACE, TABLE = ASSETS / "table.yaml", ASSETS / "trainings.csv"
COLUMNS = ("id", "rung", "accuracy", "val_loss", "train_seconds", "macs", "params")


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """What the trainings of the table share."""

    plan: Plan
    images: ImageData

    def networks(self) -> list[Architecture]:
        """Give all networks in a random order, so that half a table is a sample of it."""
        found = list(self.plan.space.census.all())
        order = np.random.default_rng(0).permutation(len(found))
        return [found[place] for place in order]

    def trained(self, network: Architecture) -> Iterator[dict[str, str]]:
        """Train a network from rung to rung; give the row of each."""
        seed, recipe = training_seed(0, network.id), self.plan.recipe
        torch.manual_seed(seed)
        module = build_network(network, self.images.num_classes, backends=self.plan.backends)
        counted, seconds, checkpoint = cost(network, self.images.num_classes), 0.0, None
        steps = recipe.steps(len(self.images.train))
        for rung, length in enumerate(ladder(self.plan.settings)):
            training = train_briefly(
                module,
                self.images,
                recipe=recipe,
                seed=seed,
                merge=merge_network,
                until=None if length == 1 else stop_step(steps, length),
                goes_on=checkpoint,
            )
            checkpoint, seconds = training.checkpoint, seconds + training.seconds
            scores = training.scores
            yield {
                "id": network.id,
                "rung": str(rung),
                "accuracy": "" if scores is None else f"{scores.accuracy:.4f}",
                "val_loss": "" if scores is None else f"{scores.loss:.5f}",
                "train_seconds": f"{seconds:.2f}",
                "macs": str(counted.macs_inference),
                "params": str(counted.params_inference),
            }
            if scores is None:
                return


def recorder() -> Recorder:
    """Plan the trainings as a search would, with the backends that a probe chooses here."""
    plan, images = plan_run(
        space=str(SPACE),
        data=None,
        root=None,
        resize=None,
        settings=Settings(budget=1, fidelity="halving", objectives=("accuracy", "macs")),
        recipe={},
        arguments=[],
    )
    with open_engine() as engine:
        plan = with_backends(
            plan,
            cache=user_cache(),
            open_pool=lambda: engine.pool(1, plan, user_cache()),
            note=print,
        )
    torch.set_num_threads(1)
    tune_allocator()
    return Recorder(plan=plan, images=images)


def rows() -> list[dict[str, str]]:
    """Read what is recorded."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def record() -> None:
    """Train what is missing."""
    found, done = recorder(), {row["id"] for row in rows()}
    with TABLE.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for network in found.networks():
            if network.id not in done:
                writer.writerows(found.trained(network))
                file.flush()


def check(count: int) -> None:
    """Train the first networks again and compare their scores with the table."""
    found, known = recorder(), {(row["id"], row["rung"]): row for row in rows()}
    for network in found.networks()[:count]:
        for row in found.trained(network):
            before = known[row["id"], row["rung"]]
            same = all(row[key] == before[key] for key in ("accuracy", "val_loss", "macs"))
            print(row["id"], row["rung"], row["accuracy"], row["val_loss"], same, flush=True)


if __name__ == "__main__":
    if "--check" in sys.argv:
        check(int(sys.argv[-1]))
    else:
        record()
