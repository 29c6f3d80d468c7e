"""What shows the trials of a run elsewhere while it goes on, and never gets in its way.

One thread with a queue for each target: `--optuna-storage`, `--tensorboard`, `--mlflow`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from runs.history import Trial
from runs.masking import masked, reason

logger = logging.getLogger(__name__)

RETRY_S = 30.0
"""Between two attempts on a target that failed."""
CLOSE_S = 5.0
"""How long the end of a search waits for a slow target."""
PATIENCE_S = 60.0
"""How long a run that is only to be shown waits for each trial, and for the target to open."""


class Writer(Protocol):
    """An open target, which knows the trials that it holds."""

    def add(self, trial: Trial) -> None:
        """Add a finished trial; one that is there already stays once."""

    def end(self) -> None:
        """Put it away: nothing follows in this session."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Somewhere that trials are shown."""

    option: str
    """By which it was asked for."""
    place: str
    """As it was given."""
    open: Callable[[], Writer]
    """Opens it, anew after each failure, and reads which trials it holds; may raise anything."""
    advice: str
    """What brings the trials there, or elsewhere, once the search is over."""


class Mirror:
    """Brings finished trials to a target, by a thread of its own.

    Nothing here raises into the search or keeps it waiting. A target that fails is warned of once
    and tried again now and then; trials wait for it meanwhile.
    """

    def __init__(
        self,
        target: Target,
        *,
        warn: Callable[[str], None] = logger.warning,
        retry_s: float = RETRY_S,
    ) -> None:
        """Begin to mirror a run.

        Args:
            target: where to.
            warn: is told, once, why nothing is mirrored any more.
            retry_s: seconds between two attempts on a target that failed.
        """
        self.target = target
        self._warn, self._warned = warn, False
        self._retry_s = retry_s
        self._queue: queue.SimpleQueue[Trial | None] = queue.SimpleQueue()
        self._behind: deque[Trial] = deque()
        self._taken = 0
        self._writer: Writer | None = None
        # A target that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name=target.option, daemon=True)
        self._thread.start()

    def told(self, trial: Trial) -> None:
        """Take in a finished trial; one that the target has from an earlier session stays once."""
        self._queue.put(replace(trial, result=dict(trial.result)))

    def finish(self) -> None:
        """Tell the thread that nothing follows."""
        self._queue.put(None)

    def close(self, timeout: float = CLOSE_S, *, patient: bool = False) -> None:
        """Bring over what is left, for at most `timeout` seconds.

        Args:
            timeout: in seconds.
            patient: counts it anew after every trial that arrives.
        """
        self.finish()
        taken = -1
        while self._thread.is_alive() and taken < (taken := self._taken):
            self._thread.join(timeout)
            if not patient:
                break
        if self._thread.is_alive() or self._behind:
            self._say(f"did not take all trials within {timeout:g} s of the end of the search")

    def _work(self) -> None:
        attempt = 0.0
        while (trial := self._queue.get()) is not None:
            self._behind.append(trial)
            if time.monotonic() >= attempt and not self._written():
                attempt = time.monotonic() + self._retry_s
        self._written(last=True)

    def _written(self, *, last: bool = False) -> bool:
        """Bring over all that waits; False where the target failed."""
        try:
            if self._writer is None and self._behind:
                self._writer = self.target.open()
            while self._writer is not None and self._behind:
                self._writer.add(self._behind[0])
                self._behind.popleft()
                self._taken += 1
            if self._writer is not None and last:
                self._writer.end()
        except Exception as error:  # noqa: BLE001  # every storage and driver raises its own
            # What the target holds is read anew: the trial may have arrived all the same.
            self._writer = None
            self._say(f"failed, {reason(error)}")
            return False
        return True

    def _say(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            target = self.target
            self._warn(
                f"{target.option}: {masked(target.place)} {what}; "
                f"the search goes on without it, {masked(target.advice)}"
            )


@contextlib.contextmanager
def mirrored(
    targets: Sequence[Target], warn: Callable[[str], None], *, patient: bool = False
) -> Iterator[Callable[[Trial], None]]:
    """Mirror a run for a `with` block; gives what is told of finished trials.

    Args:
        targets: where to; none mirrors nothing.
        warn: see `Mirror`.
        patient: waits at the end for as long as trials arrive.
    """
    mirrors = [Mirror(target, warn=warn) for target in targets]

    def told(trial: Trial) -> None:
        for mirror in mirrors:
            mirror.told(trial)

    try:
        yield told
    finally:
        # All at once: the wait is that for the slowest, not for one after the other.
        until = time.monotonic() + CLOSE_S
        for mirror in mirrors:
            mirror.finish()
        for mirror in mirrors:
            left = PATIENCE_S if patient else max(0.0, until - time.monotonic())
            mirror.close(left, patient=patient)
