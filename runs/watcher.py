"""What a search tells whoever looks on: a console, or nobody."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol


class Watcher(Protocol):
    """What the loop tells a console."""

    def trial_started(self, number: int, text: str) -> None:
        """A training begins."""

    def progress(self, number: int, metrics: dict[str, Any]) -> None:
        """A training reports."""

    def trial_done(self, row: dict[str, Any]) -> None:
        """A trial has its result."""

    def counts(self, counts: Counter[str]) -> None:
        """Trials by state, duplicates and rejected ones included."""
