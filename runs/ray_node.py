"""Actors of a Ray cluster: trainings as Tune knows them, the measuring node, the driver's desk.

Everything heavy is imported where an actor begins, and nothing of a job lives in Tune's own state,
which is never let go of: a trial's configuration is a number, and its job waits at the desk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import ray
from ray import tune

from runs.exchange import Delivery
from runs.workers import PoolEvent, Progress

PROGRESS_S = 2.0
"""Least time between two reports of a training: each costs the driver a millisecond or two."""
GATHER_S = 15.0
"""Longest wait for the next worker before the first job is begun without it."""
POLL_S = 0.25
JOB, OUTFIT = "job", "outfit"
"""Keys of a trial's configuration."""
TOLD = "told"
"""Key of a trial's results: a list of pool events, the last one perhaps a `Delivery`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outfit:
    """What every worker of a session is given."""

    desk: str
    """Name of the desk's actor."""
    token: str
    preload: tuple[str, ...]
    cuda: bool
    crew: str = "runs.crew:Crew"
    """Module and class of what runs the jobs."""

    def crew_here(self) -> Any:
        """Make the crew in this process."""
        module, _, name = self.crew.partition(":")
        return getattr(import_module(module), name)(
            token=self.token, preload=self.preload, cuda=self.cuda
        )


Told = PoolEvent | Delivery


class Desk:
    """An actor beside the driver: holds jobs until they are fetched, and reads files for them."""

    def __init__(self, workers: int) -> None:
        """Begin with nothing; `workers` are to be there before the first job."""
        self._workers = workers
        self._here: set[int] = set()
        self._came = time.monotonic()
        self._parcels: dict[int, bytes] = {}

    def gathered(self, worker: int) -> bool:
        """Whether all are there of whom this is one, or nobody has come for a while."""
        if worker not in self._here:
            self._here.add(worker)
            self._came = time.monotonic()
        return len(self._here) >= self._workers or time.monotonic() > self._came + GATHER_S

    def leave(self, number: int, parcel: bytes) -> None:
        """Keep a pickled parcel."""
        self._parcels[number] = parcel

    def take(self, number: int) -> bytes | None:
        """Give a pickled parcel away; None where it was taken before."""
        return self._parcels.pop(number, None)

    def drop(self, number: int) -> None:
        """Let go of a parcel that nobody will take."""
        self._parcels.pop(number, None)

    def read(self, path: str) -> bytes | None:
        """Read a file of the driver's machine; None where it is gone."""
        found: bytes | None = import_module("runs.nodes").contents(path)
        return found


def fetch_from(desk: Any) -> Any:
    """Give what asks a desk for files."""
    return lambda path: ray.get(desk.read.remote(path))


class Training(tune.Trainable):
    """A worker that trains one network after another, each in a child of its own."""

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare for the first job; what costs time waits for it."""
        self._crew: Any = None
        self._job: int | None = config[JOB]
        self._outfit = Outfit(**config[OUTFIT])
        self._begun = False
        self._told_at = float("-inf")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job."""
        self._job = new_config[JOB]
        self._begun = False
        return True

    def step(self) -> dict[str, Any]:
        """Go on with the job until there is something to tell."""
        if self._job is not None and self._job < 0:
            return self._gather(self._job)
        told = [] if self._begun else self._begin()
        while not self._worth_telling(told):
            told = _latest([*told, *self._crew.events()])
        self._told_at = time.monotonic()
        return {TOLD: told, "done": isinstance(told[-1], Delivery)}

    def cleanup(self) -> None:
        """End what runs."""
        if self._crew is not None:
            self._crew.close()

    def _gather(self, number: int) -> dict[str, Any]:
        """Wait for the other workers.

        As soon as one is free, Tune gives it the job of one that is still starting, and ends that:
        where trainings are short and starting is slow, most would never be there.
        """
        self._crew = self._crew or self._outfit.crew_here()
        desk = ray.get_actor(self._outfit.desk)
        while not ray.get(desk.gathered.remote(number)):
            time.sleep(POLL_S)
        return {TOLD: [], "done": True}

    def _begin(self) -> list[Told]:
        self._begun, self._told_at = True, float("-inf")
        self._crew = self._crew or self._outfit.crew_here()
        desk = ray.get_actor(self._outfit.desk)
        content: Any = ray.get(desk.take.remote(self._job))
        if content is None:
            raise RuntimeError(f"job {self._job} was taken by another worker")
        ended = self._crew.begin(content, fetch_from(desk))
        return [] if ended is None else [ended]

    def _worth_telling(self, told: list[Told]) -> bool:
        if not told:
            return False
        late = time.monotonic() >= self._told_at + PROGRESS_S
        return late or not all(isinstance(event, Progress) for event in told)


def _latest(told: list[Told]) -> list[Told]:
    """Leave out the reports before the last one."""
    last = next((event for event in reversed(told) if isinstance(event, Progress)), None)
    return [event for event in told if not isinstance(event, Progress) or event is last]


class Measurer:
    """An actor on the measuring node: runs one job after another, each in a child of its own."""

    def __init__(self, outfit: Outfit) -> None:
        """Prepare for the first job."""
        self._crew = outfit.crew_here()
        self._desk = ray.get_actor(outfit.desk)

    def run(self, content: bytes) -> Iterator[Told]:
        """Run the job of a pickled parcel; yields what happens, a `Delivery` at the end."""
        event = self._crew.begin(content, fetch_from(self._desk))
        if event is not None:
            yield event
        while not isinstance(event, Delivery):
            for event in self._crew.events():
                yield event
