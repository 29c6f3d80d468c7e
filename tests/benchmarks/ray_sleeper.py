"""A crew that sleeps in place of every training; imported by Ray workers, so it stays light."""

from __future__ import annotations

import os
import pickle
import time
from typing import Any

from runs.exchange import Delivery
from runs.workers import Finished, PoolEvent, Started

SECONDS = 10.0
NETWORK = {
    "median_ms": 1.0,
    "low_ms": 0.9,
    "high_ms": 1.1,
    "disturbed": False,
    "relative": 1.0,
    "relative_low": 0.9,
    "relative_high": 1.1,
}


class Sleeper:
    """Sleeps for a training, and answers a measurement at once."""

    def __init__(self, **_: Any) -> None:
        self._until: float | None = None

    def begin(self, content: bytes, _: Any) -> Delivery | None:
        # A training is not even unpickled: that would be torch in every worker.
        if b"measure_networks" in content:
            networks = pickle.loads(content).job.payload.architectures
            measured = {"networks": [NETWORK] * len(networks), "seconds": 0.1, "waited": 0.0}
            return _done(measured)
        self._until = None
        return None

    def events(self) -> list[PoolEvent | Delivery]:
        if self._until is None:
            self._until = time.time() + SECONDS
            return [Started(key=None, pid=os.getpid(), delay_s=0.0)]
        time.sleep(max(0.0, self._until - time.time()))
        trained = {"state": "complete", "accuracy": 0.5, "val_loss": 1.0, "steps": 1}
        trained |= {"seconds": SECONDS, "train_seconds": SECONDS, "merge_error": 0.0}
        return [
            _done(
                {
                    **trained,
                    "pid": os.getpid(),
                    "began": self._until - SECONDS,
                    "ended": time.time(),
                }
            )
        ]

    def close(self) -> None:
        """Nothing runs."""


def _done(value: Any) -> Delivery:
    return Delivery(finished=Finished(key=None, outcome="ok", value=value), files={})
