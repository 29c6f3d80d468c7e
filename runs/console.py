"""What a person sees while a search runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
from rich.console import Console as Terminal
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runs.console_ranking import OUTSIDE, ranking_table
from runs.guideline_table import console_table
from runs.history import SPENDING
from runs.method_text import disturbed_text
from runs.noise_text import champion_lines, noise_lines, standing_text
from runs.pace import Pace
from runs.ranking import kernels_text
from runs.rung_table import console_table as rung_table
from runs.wording import (
    amount,
    length_text,
    main_score,
    missing,
    plural,
    score_text,
    scores_of,
    share,
    spent_text,
)
from search_space.architecture import Architecture

logger = logging.getLogger(__name__)

LAST_SHOWN = 8
"""Finished trials in the live table."""
RANKED_SHOWN = 15
"""Rows of the ranking at the end."""
PLAIN_WIDTH = 160
"""Columns where there is no terminal."""
REFUSED = ("stopped", "duplicate", "rejected", "failed", "infeasible", "diverged")
"""What became of proposals that did not come to a complete training."""
FAILED_SHOWN = 3
"""Reasons of failed trials at the end."""


class _Terminal(Terminal):
    """A terminal whose reader may leave: the search goes on, its results are in files."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, as long as what we print to takes it: a log may lie on a full disk."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            logger.warning("nothing more is shown (%s); the search goes on", error.strerror)
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Show nothing more."""
        self.quiet = True
        # What is still in Python's buffer must have somewhere to go at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Console:
    """Shows one session of a search; use it as a context manager."""

    def __init__(
        self, total: int, *, workers: int, quiet: bool = False, terminal: Terminal | None = None
    ) -> None:
        """Show a search of `total` trainings, `workers` at a time; `quiet`: the results only."""
        self.total = total
        self.workers = workers
        self.quiet = quiet
        self.terminal = terminal or _Terminal(highlight=False)
        if not self.terminal.is_terminal:
            # A file or a pipe has no width of its own; a table must not be cut there.
            self.terminal = _Terminal(file=self.terminal.file, highlight=False, width=PLAIN_WIDTH)
        self.finished = 0.0
        """Trainings that are done; one that was stopped is a part of one."""
        self.tally: Counter[str] = Counter()
        self.best: dict[str, Any] | None = None
        self._lengths: dict[int, float] = {}
        """Where the finished trials ended, which the next ones go on from."""
        self._running: dict[int, tuple[str, dict[str, Any]]] = {}
        self._pace = Pace(workers)
        self._last: deque[dict[str, Any]] = deque(maxlen=LAST_SHOWN)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Start the live table where there is a terminal."""
        if self.terminal.is_terminal and not self.quiet:
            self._live = Live(
                get_renderable=self._table,
                console=self.terminal,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the live table."""
        self._end_live()

    def plan(self, lines: Sequence[str]) -> None:
        """Show what will be done."""
        for line in lines:
            self._say(line)

    def note(self, text: str) -> None:
        """Show one line."""
        self._say(text)

    def warn(self, text: str) -> None:
        """Show one line that must not be missed: also where only the results are printed."""
        if self.quiet or not self.terminal.is_terminal:
            logger.warning("%s", text)
        else:
            self._say(text)

    def resumed(self, rows: Sequence[dict[str, Any]], counts: Counter[str]) -> None:
        """Take in what earlier sessions did; the time left is reckoned from this session alone."""
        for row in rows:
            self._count(row)
        self.counts(counts)

    def trial_started(self, number: int, text: str) -> None:
        """A training begins."""
        self._running[number] = (text, {})
        self._pace.begin(number)

    def progress(self, number: int, metrics: dict[str, Any]) -> None:
        """A training reports; a number that was not started is the final training."""
        name, _ = self._running.get(number, ("final training", {}))
        self._running[number] = (name, metrics)

    def trial_done(self, row: dict[str, Any]) -> None:
        """A trial has its result."""
        self._running.pop(row["trial"], None)
        self._last.append(row)
        self._pace.end(row["trial"], self._count(row))
        if self._live is None:
            at = f"{amount(self.finished):>{len(str(self.total))}}/{self.total}"
            self._say(f"{at}  {row_text(row)}  {self._left()}".rstrip())

    def counts(self, counts: Counter[str]) -> None:
        """Take in trials by state, duplicates and rejected ones included."""
        self.tally = counts

    def finish(self, results: Any) -> None:
        """Show ranking, front and what to make of them; also where `quiet` hid the rest."""
        self._end_live()
        found = results.findings
        facts, frame, front = found.facts, found.frame, found.front
        width = self.terminal.width
        whole = frame[frame["state"] != "stopped"]
        shown = whole.head(RANKED_SHOWN)
        self.terminal.print(
            ranking_table(shown, f"\nranking, first {len(shown)} of {len(whole)}", width=width)
        )
        self.terminal.print(
            ranking_table(front, f"\nfront, {plural(len(front), 'network')}", width=width)
        )
        # Folders of many files stand for these.
        files = [f"  {path}" for path in dict.fromkeys(map(_shown, results.paths))]
        for table in (rung_table(facts), console_table(facts, width)):
            if table is not None:
                self.terminal.print(table)
        for line in ("", *closing_lines(facts, frame), *files):
            self.terminal.print(Text(line), soft_wrap=True)

    def _count(self, row: dict[str, Any]) -> float:
        """Take in a finished trial; gives the part of a training that it was."""
        if row["state"] not in SPENDING:
            return 0.0
        length = float(row.get("length") or 1.0)
        share_ = length - self._lengths.get(row.get("continues", -1), 0.0)
        self._lengths[row["trial"]] = length
        # Ninths in floats: three of them are a third.
        self.finished = round(self.finished + share_, 9)
        # Scores of lower rungs are lower, and say nothing beside one of full length.
        if row["state"] == "complete" and (
            self.best is None or main_score(row)[1] > main_score(self.best)[1]
        ):
            self.best = row
        return share_

    def _say(self, text: str) -> None:
        if not self.quiet:
            self.terminal.print(Text(text), soft_wrap=True)

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _left(self) -> str:
        """Say how long the trainings that are left will take, by the pace of this session."""
        seconds = self._pace.left(self.total - self.finished)
        return "" if seconds is None else f"{duration(seconds)} left"

    def _table(self) -> Group:
        head = Table.grid(padding=(0, 2))
        refused = "  ".join(f"{self.tally[key]} {key}" for key in REFUSED if self.tally[key])
        head.add_row(
            ProgressBar(total=self.total, completed=self.finished, width=30),
            Text(f"{amount(self.finished)}/{self.total}"),
            Text(self._left()),
            Text(f"best {_score(self.best)}" if self.best else ""),
            Text(refused, style="dim"),
        )
        # One line each: a row that wraps would make the table jump.
        lines = [Text(row_text(row), no_wrap=True, overflow="ellipsis") for row in self._last]
        for number, (name, metrics) in sorted(self._running.items()):
            step, total = metrics.get("step", 0), metrics.get("total_steps", 0)
            at = f"step {step}/{total}  loss {metrics['loss']:.3f}" if total else "starting"
            lines.append(Text(f"{'' if number < 0 else number:>4}  {name:12}  {at}", style="dim"))
        return Group(head, *lines)


def _shown(path: Path) -> Path:
    """Give the folder that stands for a file among many, or the file."""
    folders = [folder for folder in path.parents if folder.name in ("architectures", "figures")]
    return folders[-1] if folders else path


def row_text(row: dict[str, Any]) -> str:
    """Write a finished trial on one line."""
    start = f"{row['trial']:>4}  {row['id']}  "
    if row["state"] in ("failed", "infeasible"):
        return f"{start}{row['state']}: {str(row.get('error')).splitlines()[0]}"
    kernels = kernels_text(Architecture.from_json(row["architecture"]).stages)
    score = (
        "diverged          "
        if row["state"] == "diverged"
        else f"{_score(row):>6}  loss {row['val_loss']:.3f}"
    )
    costs = (
        f"{row['latency_ms']:7.3f} ms  {row['macs'] / 1e6:7.2f} MMACs  {row['params'] / 1e3:6.1f} k"
    )
    disturbed = "  latency disturbed" if row.get("latency_disturbed") else ""
    at = "" if missing(row.get("rung")) else f"at {length_text(row['length']):>4}  "
    return f"{start}{at}{score}  {costs}  {kernels}{disturbed}"


def _score(row: dict[str, Any]) -> str:
    word, value = main_score(row)
    return f"{word} {share(value)}".lstrip()


def closing_lines(facts: dict[str, Any], frame: pd.DataFrame) -> list[str]:
    """Say what the run came to, a sentence a line."""
    counts = facts["counts"]
    refused = [
        f"{counts.get(key, 0)} {key}"
        for key in REFUSED
        if counts.get(key) or key not in ("stopped", "infeasible")
    ]
    networks = plural(facts["distinct"], "distinct network")
    lines = [f"{spent_text(facts)} of {networks}; {', '.join(refused)}."]
    lost = frame[frame["state"].isin(["failed", "infeasible"])]
    reasons = Counter(
        (str(state), str(error).splitlines()[0])
        for state, error in zip(lost["state"], lost["error"], strict=True)
    )
    lines += [
        f"  {state} {times} times: {reason}"
        for (state, reason), times in reasons.most_common(FAILED_SHOWN)
    ]
    if disturbed := disturbed_text(frame):
        lines.append(disturbed)
    if facts["recommended"] is None:
        return [*lines, "No training was complete, so there is nothing to recommend."]
    row = frame[frame["id"] == facts["recommended"]].iloc[0]
    lines.append(
        f"Recommended: {row['id']}, "
        f"{standing_text(facts, row, right_after='after its short training')}, "
        f"{row['latency_ms']:.3f} ms, {row['params']:,} parameters."
    )
    if facts["final"] is not None and facts["final"]["test_accuracy"] is not None:
        final = facts["final"]
        lines.append(
            f"Trained on for {final['epochs']:g} epochs it has "
            f"{score_text(scores_of(final, 'test_'), 'the test images')}; multinomial logistic "
            f"regression on the same data {score_text(scores_of(final, 'baseline_test_'))}."
        )
    lines += [*champion_lines(facts), *noise_lines(facts)]
    if "outside_space" in frame and frame["outside_space"].fillna(value=False).any():
        lines.append(
            f"{OUTSIDE} lies outside the space: its hidden width gives it the MACs of its twins."
        )
    return lines


def plain(name: str) -> str:
    """Write a name so that it cannot steer a terminal."""
    return name if name.isprintable() else ascii(name)


def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
