"""The live copy of a search in an Optuna storage, for optuna-dashboard: `--optuna-storage`."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from runs.history import Trial
from runs.masking import masked
from runs.optuna_export import Place, Writer, reason
from runs.plan import Plan

logger = logging.getLogger(__name__)

RETRY_S = 30.0
"""Between two attempts on a storage that failed."""
CLOSE_S = 5.0
"""How long the end of a search waits for a slow storage."""


class Mirror:
    """Brings finished trials into a study, by a thread of its own.

    Nothing here raises into the search or keeps it waiting. A storage that fails is warned of once
    and tried again now and then; trials wait for it meanwhile.
    """

    def __init__(
        self,
        target: str,
        plan: Plan,
        directory: Path,
        *,
        warn: Callable[[str], None] = logger.warning,
        retry_s: float = RETRY_S,
    ) -> None:
        """Begin to mirror a run; the study has the name of its directory.

        Args:
            target: a database's URL, or a path, as `export_study` takes it.
            plan: of the run.
            directory: of the run.
            warn: is told, once, why nothing is mirrored any more.
            retry_s: seconds between two attempts on a storage that failed.
        """
        self.target, self.plan, self.directory = target, plan, directory
        self._warn, self._warned = warn, False
        self._retry_s = retry_s
        self._queue: queue.SimpleQueue[Trial | None] = queue.SimpleQueue()
        self._behind: deque[Trial] = deque()
        self._writer: Writer | None = None
        # A storage that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name="optuna mirror", daemon=True)
        self._thread.start()

    def told(self, trial: Trial) -> None:
        """Take in a finished trial; one that the study has from an earlier session stays once."""
        self._queue.put(replace(trial, result=dict(trial.result)))

    def close(self, timeout: float = CLOSE_S) -> None:
        """Bring over what is left, for at most `timeout` seconds."""
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive() or self._behind:
            self._say(f"did not take all trials within {timeout:g} s of the end of the search")

    def _work(self) -> None:
        attempt = 0.0
        while (trial := self._queue.get()) is not None:
            self._behind.append(trial)
            if time.monotonic() >= attempt and not self._written():
                attempt = time.monotonic() + self._retry_s
        self._written()

    def _written(self) -> bool:
        """Bring over all that waits; False where the storage failed."""
        try:
            if self._writer is None:
                place = Place.of(self.target, self.directory)
                self._writer = Writer(place.open(), self.plan, self.directory, go_on=True)
            while self._behind:
                self._writer.add(self._behind[0], datetime.now())
                self._behind.popleft()
        except Exception as error:  # noqa: BLE001  # every storage and driver raises its own
            # What the study holds is read anew: the trial may have arrived all the same.
            self._writer = None
            self._say(f"failed, {reason(error)}")
            return False
        return True

    def _say(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                f"--optuna-storage: {masked(self.target)} {what}; the search goes on without it, "
                f"'replk-search export {self.directory} --optuna' writes the whole study to a file"
            )


@contextlib.contextmanager
def mirrored(
    target: str | None, plan: Plan, directory: Path, warn: Callable[[str], None]
) -> Iterator[Callable[[Trial], None]]:
    """Mirror a run for a `with` block; gives what is told of finished trials.

    Args:
        target: see `Mirror`; None mirrors nothing.
        plan: of the run.
        directory: of the run.
        warn: see there.
    """
    if target is None:
        yield lambda _: None
        return
    mirror = Mirror(target, plan, directory, warn=warn)
    try:
        yield mirror.told
    finally:
        mirror.close()
