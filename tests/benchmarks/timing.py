"""Process time of contenders that take turns on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

ENOUGH_S = 1.0
"""Process seconds after which a contender of many takes no other turn."""


def medians(
    contenders: Mapping[str, Callable[[], object]], *, most: int = 15, least: int = 3
) -> dict[str, float]:
    """Call contenders in turn, once to warm up; give the median seconds of each."""
    for call in contenders.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(most):
        for name, call in contenders.items():
            if number >= least and sum(found[name]) > ENOUGH_S:
                continue
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return {name: median(seconds) for name, seconds in found.items()}
