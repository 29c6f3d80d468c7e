"""Where the jobs of a run are done: child processes of this machine, or a Ray cluster.

The core loop sees `runs.jobs.Slots` alone; a session opens an engine and asks it for pools. What
needs ray is imported when a Ray engine is opened, not before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Protocol

import torch

from runs.devices import sharing
from runs.jobs import MEMORY_SHARE, Room, Slots, memory_limit
from runs.plan import Plan, default_workers, resolved_device
from runs.workers import Pool
from search_space.errors import RunError

PRELOAD = ("runs.warm", "runs.objective")
PRELOAD_DENSE = (*PRELOAD, "torchmetrics")
"""In segmentation: mean IoU would be a second of imports in every training."""


class Engine(Protocol):
    """What runs the jobs of a session."""

    @property
    def name(self) -> str:
        """Local or ray."""

    def device(self, asked: str) -> str:
        """Give the device that trainings use for what the user asked for: auto, cpu, cuda, cuda:N.

        Raises:
            RunError: there is no such device.
        """

    def workers(self, asked: int | None, device: str, gpus_per_trial: float = 1.0) -> int:
        """Give the number of trainings at a time; None stands for as many as there is room for.

        Args:
            asked: by the user.
            device: as `device` gave it.
            gpus_per_trial: part of a GPU that a training gets.

        Raises:
            RunError: there is no room for a training.
        """

    def room(self, workers: int, device: str, gpus_per_trial: float = 1.0) -> Room:
        """Give the memory that one of so many trainings at a time may take.

        Args:
            workers: trainings at a time.
            device: as `device` gave it.
            gpus_per_trial: part of a GPU that a training gets.

        Raises:
            RunError: there is no room for a training.
        """

    def pool(self, workers: int, plan: Plan, directory: Path) -> AbstractContextManager[Slots]:
        """Open slots for the jobs of a plan.

        Args:
            workers: trainings at a time.
            plan: gives device, task and the part of a GPU.
            directory: of the run; need not exist before a job reads or writes there.

        Raises:
            RunError: there is no room for a training.
        """

    def close(self) -> None:
        """End what runs and let go of the machines; a second call does nothing."""


class LocalEngine:
    """Child processes of this machine."""

    name = "local"

    def device(self, asked: str) -> str:
        """Give the device of this machine for what the user asked for.

        Raises:
            RunError: there is no such device.
        """
        return resolved_device(asked)

    def workers(self, asked: int | None, device: str, gpus_per_trial: float = 1.0) -> int:
        """Give one training a CPU core, or as many on each GPU as share it."""
        if asked is not None:
            return asked
        return default_workers(device) * (1 if device == "cpu" else sharing(gpus_per_trial))

    def room(self, workers: int, device: str, gpus_per_trial: float = 1.0) -> Room:
        """Give one training its part of the main memory, or of its GPU's."""
        host = memory_limit(workers)
        if device == "cpu":
            return Room(host_bytes=host, alone_bytes=memory_limit(1))
        index = int(device.partition(":")[2] or 0)
        total = torch.cuda.get_device_properties(index).total_memory
        return Room(
            host_bytes=host,
            gpu_bytes=int(MEMORY_SHARE * gpus_per_trial * total),
            alone_bytes=int(MEMORY_SHARE * total),
            gpus=torch.cuda.device_count(),
        )

    def pool(self, workers: int, plan: Plan, directory: Path) -> Pool:  # noqa: ARG002
        """Start a pool of children."""
        return Pool(workers, preload=preload(plan), cuda=plan.settings.device != "cpu")

    def close(self) -> None:
        """Do nothing: each pool ends its own children."""


def preload(plan: Plan) -> tuple[str, ...]:
    """Name the modules that the children of a run start with."""
    return PRELOAD_DENSE if plan.settings.task == "segmentation" else PRELOAD


@contextlib.contextmanager
def open_engine(ray: str | None = None) -> Iterator[Engine]:
    """Open an engine for a `with` block.

    Args:
        ray: None: children of this machine; `local`: a Ray of its own on this machine; `auto` or
            an address: that Ray cluster.

    Raises:
        RunError: there is no cluster there, or ray is not installed.
    """
    engine: Engine = LocalEngine() if ray is None else _ray_engine()(ray)
    try:
        yield engine
    finally:
        engine.close()


def _ray_engine() -> Callable[[str], Engine]:
    # Not at the top: ray is half a second of imports.
    try:
        engine: Callable[[str], Engine] = import_module("runs.ray_engine").RayEngine
    except ImportError as error:
        raise RunError(
            f"--ray: must have ray installed, with its Tune, got: {error}; run "
            "pip install 'ray[tune]'"
        ) from error
    return engine
