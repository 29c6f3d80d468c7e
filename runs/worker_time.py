"""Where the time of a session's workers goes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class WorkerTime:
    """Seconds of worker time by what they went to."""

    training: float = 0.0
    latency: float = 0.0
    begin: float = field(default_factory=time.monotonic)
    session: float | None = None
    """When the session began, which does more than search; None: with the search."""

    @property
    def at_s(self) -> float:
        """Seconds since the session began, by a clock that nobody sets."""
        return round(time.monotonic() - (self.session or self.begin), 2)

    def fields(self, workers: int) -> dict[str, float]:
        """Give seconds of wall time, and of worker time on training and on latency."""
        wall = time.monotonic() - self.begin
        return {
            "wall_s": round(wall, 2),
            "worker_s": round(wall * workers, 2),
            "training_s": round(self.training, 2),
            "latency_s": round(self.latency, 2),
        }
