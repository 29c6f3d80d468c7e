"""Slots on a Ray cluster: trainings where Tune has room, everything else on one measuring node.

To the core loop it is what a pool of children is. A lost worker, actor or node is a crash of the
one job that it had.
"""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import ray

from runs.exchange import Delivery, Exchange
from runs.jobs import JobKey
from runs.nodes import marked, parcel, store
from runs.ray_node import Desk, Measurer, Outfit
from runs.ray_tuner import Experiment
from runs.workers import Finished, Job, PoolEvent, Progress, Started
from search_space.errors import RunError, WorkFailed

logger = logging.getLogger(__name__)

TRAININGS = frozenset({"train", "longer"})
"""Kinds of jobs that are spread over the cluster."""
AHEAD = 8
"""One job in so many is handed out before there is a worker for it, so that none waits for one."""
WAITS_S = 120.0
"""A training that no worker has begun by then is worth a line."""
LOST = "its Ray worker or node was lost: "
MEASURED_TWICE = 2
"""How often a job of the measuring node is begun where the node is lost."""


@dataclass(kw_only=True, slots=True)
class _Running:
    job: Job
    submitted: float
    training: bool
    began: float | None = None


class RayPool:
    """Runs jobs on a cluster; see `runs.jobs.Slots`."""

    def __init__(
        self,
        size: Callable[[], int],
        *,
        run: Path,
        preload: tuple[str, ...],
        resources: dict[str, float],
        measuring: Callable[[], dict[str, Any]],
        beside: dict[str, Any],
        crew: str = "runs.crew:Crew",
    ) -> None:
        """Open it; workers start with the first job that needs them.

        Args:
            size: gives the number of trainings at a time; may change.
            run: run directory; need not exist.
            preload: modules that children start with.
            resources: of one training, as Ray counts them.
            measuring: gives the actor options that choose a measuring node.
            beside: actor options that put an actor on the driver's node.
            crew: module and class of what runs the jobs on a node.
        """
        self._size = size
        self._run = run
        self._measuring = measuring
        self._resources = resources
        self._told_waiting = False
        self._number = 0
        self._running: dict[int, _Running] = {}
        self._stack = contextlib.ExitStack()
        token = self._stack.enter_context(marked(run))
        self._token = token
        outfit = Outfit(
            desk=f"desk-{token}",
            token=token,
            preload=preload,
            cuda="GPU" in resources,
            crew=crew,
        )
        # One worker alone waits for nobody.
        muster = size() if size() > 1 else 0
        self._desk: Any = ray.remote(Desk).options(name=outfit.desk, **beside).remote(muster)
        self._stack.callback(lambda: ray.kill(self._desk))
        self._exchange = Exchange(size, muster=muster)
        self._experiment = Experiment(
            self._exchange,
            lambda number, told: self._exchange.tell((number, told)),
            outfit=outfit,
            resources=resources,
            on_end=lambda error: self._exchange.tell((None, error)),
        )
        self._stack.callback(self._experiment.close)
        self._outfit = outfit
        self._measurer: Any = None
        self._to_measure: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def free(self) -> int:
        """Number of jobs that `submit` takes now.

        One worker gets one job after another, so that a search with one worker proposes what it
        proposes anywhere. More workers get some jobs ahead; measurements take no worker away.
        """
        size = self._size()
        ahead = math.ceil(size / AHEAD) if size > 1 else 0
        return max(0, size + ahead - len(self._running))

    def submit(self, job: Job) -> None:
        """Hand a job out.

        Raises:
            ValueError: no slot is free, or the key is running.
            WorkFailed: the cluster cannot be reached.
        """
        if self.free < 1:
            raise ValueError("no slot is free; see RayPool.free")
        if any(running.job.key == job.key for running in self._running.values()):
            raise ValueError(f"a job with key {job.key!r} is running")
        number, self._number = self._number, self._number + 1
        content = pickle.dumps(parcel(job, self._run, self._token))
        training = isinstance(job.key, JobKey) and job.key.kind in TRAININGS
        running = _Running(job=job, submitted=time.monotonic(), training=training)
        if training:
            try:
                ray.get(self._desk.leave.remote(number, content))
            except ray.exceptions.RayError as error:
                raise WorkFailed(f"ray: the cluster must stay in reach, got: {error}") from error
            self._running[number] = running
            self._exchange.offer(number)
            self._experiment.start()
            return
        self._running[number] = running
        if self._thread is None:
            self._thread = threading.Thread(target=self._measure, name="ray-measure", daemon=True)
            self._thread.start()
        self._to_measure.put((number, content))

    def events(self, timeout: float | None = None) -> list[PoolEvent]:
        """Return what happened, oldest first for each job.

        Waits up to `timeout` seconds (None: without limit) for the first event; returns an empty
        list at once where nothing runs.

        Raises:
            WorkFailed: Ray Tune came to an end.
        """
        if not self._running:
            return []
        found: list[PoolEvent] = []
        for number, told in self._exchange.listen(timeout):
            if number is None:
                raise WorkFailed(f"ray: the cluster must stay in reach, got: {told!r}")
            found += self._events_of(number, told)
        self._watch()
        return found

    def close(self) -> None:
        """End all jobs; a second call does nothing."""
        # First, or the thread that measures would take the end of its actor for a lost node.
        self._exchange.end()
        self._to_measure.put(None)
        if self._measurer is not None:
            ray.kill(self._measurer)
            self._measurer = None
        self._stack.close()
        self._running.clear()

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pool."""
        self.close()

    def _watch(self) -> None:
        """Say once that the cluster gives no workers."""
        first = next((r for r in self._running.values() if r.training), None)
        if self._told_waiting or first is None or first.began is not None:
            return
        if time.monotonic() > first.submitted + WAITS_S:
            self._told_waiting = True
            logger.warning(
                "no worker of the cluster has begun a training since %g s, each needs %s; look "
                "with 'ray status' what takes the room",
                WAITS_S,
                " and ".join(f"{amount:g} {kind}" for kind, amount in self._resources.items()),
            )

    def _events_of(self, number: int, told: Any) -> list[PoolEvent]:
        """Turn what a worker told, or the exception that it ended by, into events of its job."""
        running = self._running.get(number)
        if running is None:
            return []
        key = running.job.key
        if not isinstance(told, list):
            del self._running[number]
            if running.training:
                # Its worker may have died before it took it.
                self._desk.drop.remote(number)
            seconds = time.monotonic() - (running.began or time.monotonic())
            why = LOST + " ".join(str(told).split())[:500]
            return [Finished(key=key, outcome="crash", error=why, seconds=seconds)]
        found: list[PoolEvent] = []
        for event in told:
            if isinstance(event, Delivery):
                del self._running[number]
                found.append(self._stored(event, key))
            elif isinstance(event, Started):
                running.began = time.monotonic()
                delay = running.began - running.submitted
                found.append(Started(key=key, pid=event.pid, delay_s=delay))
            elif isinstance(event, Progress):
                found.append(replace(event, key=key))
        return found

    def _stored(self, delivery: Delivery, key: Any) -> Finished:
        """Write what a job wrote on its node, before anybody knows that it is done."""
        finished = replace(delivery.finished, key=key)
        try:
            store(self._run, delivery.files)
        except RunError as error:
            why = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
            return replace(finished, outcome="error", value=None, error=why)
        return finished

    def _measure(self) -> None:
        """Run jobs one after another on the measuring node; a thread's whole life."""
        while (given := self._to_measure.get()) is not None:
            number, content = given
            self._exchange.tell((number, self._measured(number, content)))

    def _measured(self, number: int, content: bytes) -> Any:
        """Run one job there; gives its end, or why there was none."""
        for attempt in range(MEASURED_TWICE):
            if self._exchange.ended:
                break
            try:
                if self._measurer is None:
                    options = self._measuring()
                    self._measurer = ray.remote(Measurer).options(**options).remote(self._outfit)
                stream = self._measurer.run.options(num_returns="streaming").remote(content)
                for ref in stream:
                    event = ray.get(ref)
                    if isinstance(event, Delivery):
                        return [event]
                    self._exchange.tell((number, [event]))
            except Exception as error:  # noqa: BLE001
                if self._exchange.ended or attempt + 1 == MEASURED_TWICE:
                    return error
                self._measurer = None
                logger.warning(
                    "the node that measures was lost; another one goes on, and latencies stay "
                    "ratios to the reference: %s",
                    str(error).splitlines()[0],
                )
        return RuntimeError("the job has no end")
