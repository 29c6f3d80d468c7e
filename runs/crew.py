"""What a worker of a cluster does on its node: run a job that arrived in a child of its own."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runs.child import describe
from runs.exchange import Delivery
from runs.nodes import Fetch, Parcel, node_home, unpacked, written
from runs.workers import Finished, Job, Pool, PoolEvent
from search_space.errors import ReplkError

WAIT_S = 1.0
"""Longest sleep between two looks at the child."""


class Crew:
    """One child at a time, with the same limits and the same watchdog as on one machine."""

    def __init__(self, *, token: str, preload: Sequence[str], cuda: bool) -> None:
        """Start the fork server.

        Args:
            token: of the session, as `runs.nodes.marked` gave it.
            preload: modules that children start with.
            cuda: whether jobs use CUDA.
        """
        self._stack = contextlib.ExitStack()
        self._home: Path = self._stack.enter_context(node_home(token))
        self._pool = self._stack.enter_context(Pool(1, preload=tuple(preload), cuda=cuda))
        self._sent: Parcel | None = None

    def begin(self, content: bytes, fetch: Fetch) -> Delivery | None:
        """Begin a job; gives its end at once where it cannot be begun on this node.

        Args:
            content: a pickled parcel.
            fetch: asks the driver for files.
        """
        sent: Parcel = pickle.loads(content)
        self._sent = sent
        try:
            self._pool.submit(_on_first_gpu(unpacked(sent, self._home, fetch)))
        except ReplkError as error:
            # Told as a child tells it: the search stops where a node lacks the images.
            return self._delivered(
                Finished(key=sent.job.key, outcome="error", error=describe(error))
            )
        return None

    def events(self) -> list[PoolEvent | Delivery]:
        """Wait a while for what happens; the last one is a `Delivery`."""
        return [
            self._delivered(event) if isinstance(event, Finished) else event
            for event in self._pool.events(WAIT_S)
        ]

    def close(self) -> None:
        """End what runs and remove its files."""
        self._stack.close()

    def _delivered(self, finished: Finished) -> Delivery:
        assert self._sent is not None
        files = written(self._sent, self._home)
        return Delivery(finished=finished, files=files if finished.outcome == "ok" else {})


def _on_first_gpu(job: Job) -> Job:
    """Name the GPU as this process sees it: Ray shows a worker its own GPUs alone."""
    payload: Any = job.payload
    if getattr(payload, "device", "cpu") == "cpu":
        return job
    return replace(job, payload=replace(payload, device="cuda:0"))
