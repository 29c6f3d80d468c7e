"""How far the training of an export is, for a person: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from runs.console import duration

EVERY_S = 30.0
"""Between two lines, where there is no terminal."""


class TrainingBar:
    """Shows a training; use it as a context manager. What it shows goes to the error stream."""

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing at all where `quiet`."""
        self._quiet = quiet
        self._terminal = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._begun: tuple[float, int] | None = None
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Show one line."""
        if not self._quiet:
            self._terminal.print(Text(text), soft_wrap=True)

    def report(self, *, step: int, total_steps: int, loss: float, **_: Any) -> None:
        """Take in how far a training is."""
        if self._quiet:
            return
        now = time.monotonic()
        # The first report is where the clock starts: before it there was a start-up.
        began, first = self._begun = self._begun or (now, step)
        seconds = (now - began) / max(1, step - first) * (total_steps - step)
        left = f"{duration(seconds)} left" if step > first else ""
        text = f"step {step:,}/{total_steps:,}  loss {loss:.3f}  {left}".rstrip()
        if not self._terminal.is_terminal:
            if now - self._said >= EVERY_S or step == total_steps:
                self._said = now
                self.note(text)
            return
        if self._bar is None:
            columns = (BarColumn(30), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._terminal, transient=True)
            self._bar.add_task("", total=total_steps)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=step, description=text)
