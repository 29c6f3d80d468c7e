"""A run of seconds for tests: four shapes on 12 x 12 images, networks of a few hundred weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.images import ImageData
from evaluators.recipe import Recipe
from runs.engines import PRELOAD
from runs.plan import Plan, Settings
from runs.planning import plan_run
from runs.workers import Job, Pool, PoolEvent, Started

SPACE = """\
name: micro
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [4, 6]}, kernel: {choice: [3, 5, 7]}}
  - {depth: {choice: [1, 2]}, width: {int: [4, 8], step: 2}, kernel: {choice: [3, 5]}}
every_stage:
  dilations: {choice: [none, paper, [[3, 1]]]}
  ffn_ratio: 1
shared:
  structure: {choice: [none, se]}
"""

RECIPE = Recipe(epochs=1, batch_size=32)


def write_data(path: Path, *, train: int = 96, val: int = 40, test: int = 40) -> Path:
    """Write an npz of bars, crosses and squares, bright or dark, drawn from a fixed seed.

    Bright or dark at random, so that a linear classifier gets few of them right.
    """
    rng = np.random.default_rng(0)
    shapes = np.zeros((4, 12, 12))
    shapes[0, 5:7, 2:10] = shapes[1, 2:10, 5:7] = 1
    shapes[2] = np.maximum(shapes[0], shapes[1])
    shapes[3, 3:9, 3:9] = 1
    arrays = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        labels = np.arange(count) % 4
        contrast = rng.choice([-100, 100], count)[:, None, None]
        noisy = 128 + contrast * shapes[labels] + rng.normal(0, 20, (count, 12, 12))
        arrays[f"{split}_images"] = noisy.clip(0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    np.savez(path, **arrays)
    return path


def write_space(path: Path, text: str = SPACE) -> Path:
    """Write the space."""
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a user brings."""

    space: Path
    data: Path

    def planned(
        self, *, text: str | None = None, recipe: Recipe = RECIPE, **settings: Any
    ) -> tuple[Plan, ImageData]:
        """Plan a run of this space, or of the one in `text`."""
        given = {"objectives": ("accuracy", "macs"), "keep_weights": "all", "seed": 3}
        given |= {"backend": "torch", **settings}
        path = self.space
        if text is not None:
            path = write_space(self.space.with_name("other.yaml"), text)
        return plan_run(
            space=str(path),
            data=str(self.data),
            root=None,
            resize=None,
            settings=Settings(**given),
            recipe=asdict(recipe),
            arguments=["--some", "options"],
        )


@dataclass
class Silence:
    """A watcher that remembers the finished trials."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def trial_started(self, number: int, text: str) -> None:
        """Say nothing."""

    def progress(self, number: int, metrics: dict[str, Any]) -> None:
        """Say nothing."""

    def trial_done(self, row: dict[str, Any]) -> None:
        """Remember it."""
        self.rows.append(row)

    def counts(self, counts: Counter[str]) -> None:
        """Say nothing."""


class Meddled(Pool):
    """A pool whose jobs are remembered, and can be changed or met with something."""

    def __init__(
        self,
        workers: int = 1,
        *,
        change: Callable[[Job], Job] = lambda job: job,
        at_start: Callable[[Started], None] = lambda _: None,
    ) -> None:
        """Start it; `change` sees each job before, `at_start` each child as it begins."""
        super().__init__(workers, preload=PRELOAD)
        self.jobs: list[Job] = []
        self._change, self._at_start = change, at_start

    def submit(self, job: Job) -> None:
        """Start the job as it is changed."""
        self.jobs.append(job)
        super().submit(self._change(job))

    def events(self, timeout: float | None = None) -> list[PoolEvent]:
        """Give the events as they are."""
        found = super().events(timeout)
        for event in found:
            if isinstance(event, Started):
                self._at_start(event)
        return found


def without_images(job: Job) -> Job:
    """Take the images away from a job."""
    gone = replace(job.payload.data, copy="/nowhere/at/all")
    return replace(job, payload=replace(job.payload, data=gone))


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    """Give the names of events."""
    return [event["event"] for event in events]
