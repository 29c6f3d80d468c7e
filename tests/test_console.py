"""What a person sees of a search: plain lines, the live table, and the tables of the end."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console as Terminal

from runs.console import Console, closing_lines, duration, row_text
from runs.ranking import front, objectives_named
from tests.made_runs import facts_of, failed, frame_of, rows

BOTH = objectives_named(["accuracy", "latency"])


def written(console: Console) -> str:
    file = console.terminal.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def plain(total: int = 3, *, quiet: bool = False) -> Console:
    """A console that writes to a file."""
    return Console(total, workers=1, quiet=quiet, terminal=Terminal(file=io.StringIO()))


def live(width: int = 160) -> Console:
    """A console that writes to a terminal of so many columns."""
    terminal = Terminal(
        file=io.StringIO(), force_terminal=True, color_system=None, width=width, height=40
    )
    return Console(3, workers=1, terminal=terminal)


def results_of(frame: pd.DataFrame, **changes: Any) -> Any:
    paths = [Path("results/x/trials.csv"), Path("results/x/architectures/0123.yaml")]
    facts = facts_of(frame, **changes)
    return SimpleNamespace(frame=frame, front=front(frame, BOTH), facts=facts, paths=paths)


def test_without_a_terminal_each_trial_is_one_line() -> None:
    with plain() as console:
        console.plan(["200 trainings"])
        for row in rows(2):
            console.trial_started(row["trial"], row["id"])
            console.progress(row["trial"], {"step": 1, "total_steps": 9, "loss": 2.3})
            console.trial_done(row)
    first, second, third = written(console).splitlines()
    assert first == "200 trainings"
    assert second.startswith("1/3     0  ")
    assert third.startswith("2/3     1  ")
    assert second.endswith(" left")
    assert "\x1b" not in written(console)


def test_the_last_line_tells_no_time_left() -> None:
    with plain(1) as console:
        console.trial_done(rows(1)[0])
    assert "left" not in written(console)


def test_a_long_line_is_not_broken_without_a_terminal() -> None:
    console = plain()
    console.note("word " * 100 + "end")
    assert len(written(console).splitlines()) == 1


def test_brackets_in_a_text_are_no_markup() -> None:
    console = plain()
    console.note("stages[2] [bold]must[/bold] hold [/]")
    assert written(console) == "stages[2] [bold]must[/bold] hold [/]\n"


def test_quiet_hides_all_but_the_results() -> None:
    frame = frame_of(rows(2))
    with plain(quiet=True) as console:
        console.plan(["plan"])
        console.note("note")
        console.trial_done(rows(1)[0])
        assert written(console) == ""
        console.finish(results_of(frame))
    assert "ranking, first 2 of 2" in written(console)


def test_trials_of_earlier_sessions_count_but_set_no_pace() -> None:
    console = plain(5)
    console.resumed(rows(2), Counter(complete=2))
    assert console.finished == 2
    assert written(console) == ""
    console.trial_done(rows(3)[2])
    assert written(console).startswith("3/5 ")


def test_failed_trials_do_not_count_towards_the_total() -> None:
    console = plain()
    console.trial_done(failed(0, "crash: signal 9\nend of its output: ..."))
    assert console.finished == 0
    line = written(console).rstrip()
    assert line.startswith("0/3 ")
    assert line.endswith("failed: crash: signal 9")


def test_a_diverged_trial_counts_and_is_called_so() -> None:
    console = plain()
    console.trial_done(rows(1, t0={"state": "diverged", "accuracy": None, "val_loss": None})[0])
    assert console.finished == 1
    assert "diverged" in written(console)
    assert console.best is None


def test_a_finished_trial_is_a_line_of_numbers_with_their_units() -> None:
    numbers = {"accuracy": 0.8125, "val_loss": 0.5, "latency_ms": 0.25, "id": "0123456789ab"}
    row = rows(1, t0={**numbers, "macs": 1_250_000, "params": 45_600})[0]
    start, _, kernels = row_text(row).rpartition("  ")
    assert start == "   0  0123456789ab   81.2%  loss 0.500    0.250 ms     1.25 MMACs    45.6 k"
    assert set(kernels) <= set("0123456789|/x()")


def test_the_live_table_shows_progress_best_counts_and_what_runs() -> None:
    console = live()
    best = {"accuracy": 0.871}
    with console:
        console.plan([])
        console.trial_done(rows(1, t0=best)[0])
        console.counts(Counter(duplicate=4, rejected=2, complete=1))
        console.trial_started(1, "abcdef012345")
        console.progress(1, {"step": 20, "total_steps": 80, "loss": 1.5})
        console.trial_started(2, "fedcba543210")
        console.terminal.print(console._table())
    shown = written(console)
    for part in ("1/3", "best 87.1%", "4 duplicate  2 rejected", "step 20/80  loss 1.500"):
        assert part in shown
    assert "fedcba543210  starting" in shown


def test_a_row_of_the_live_table_is_one_line_in_a_narrow_terminal() -> None:
    console = live(80)
    for row in [*rows(3), failed(3, "crash: " + "word " * 40)]:
        console.trial_done(row)
    with console.terminal.capture() as shown:
        console.terminal.print(console._table())
    assert len(shown.get().splitlines()) == 1 + 4


def test_the_live_table_ends_and_the_cursor_comes_back_when_the_search_is_interrupted() -> None:
    console = live()

    def interrupted() -> None:
        with console:
            console.trial_done(rows(1)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert written(console).rfind(hide) < written(console).rfind(show)
    console.note("resume it")
    assert written(console).endswith("resume it\n")


def test_the_end_shows_ranking_front_sentences_and_files() -> None:
    frame = frame_of([*rows(20), failed(20, "oom: more than 2 GB")])
    console = plain()
    console.finish(results_of(frame, counts={"complete": 20, "failed": 1, "duplicate": 14}))
    shown = written(console)
    assert "ranking, first 15 of 21" in shown
    assert f"front, {int(frame['on_front'].sum())} networks" in shown
    assert "14 duplicate, 0 rejected, 1 failed, 0 diverged." in shown
    assert "failed 1 times: oom: more than 2 GB" in shown
    assert "results/x/trials.csv" in shown
    assert "architectures" not in shown


def test_the_ranking_of_the_end_is_in_order_and_uncut() -> None:
    frame = frame_of(rows(20))
    console = plain()
    console.finish(results_of(frame))
    lines = written(console).split("front,")[0].splitlines()
    listed = [line.split()[:2] for line in lines if line.strip()[:1].isdigit()]
    assert listed == [[str(rank), frame["id"][rank - 1]] for rank in range(1, 16)]
    assert "…" not in written(console)


def test_a_narrow_terminal_leaves_columns_to_the_files() -> None:
    frame = frame_of(rows(3))
    shown = {}
    for width in (80, 160):
        console = live(width)
        console.finish(results_of(frame))
        shown[width] = written(console)
    assert "S1..S4" in shown[160]
    assert "S1..S4" not in shown[80]


def test_a_run_without_a_complete_trial_ends_with_a_sentence() -> None:
    frame = frame_of([failed(0, "crash: signal 11")])
    console = plain()
    console.finish(results_of(frame))
    assert "No training was complete, so there is nothing to recommend." in written(console)


def test_a_run_without_any_trial_ends_with_a_sentence() -> None:
    console = plain()
    console.finish(results_of(frame_of([])))
    assert "No training was complete" in written(console)


def test_the_closing_lines_put_the_test_accuracy_beside_the_baseline() -> None:
    frame = frame_of(rows(2))
    lines = closing_lines(facts_of(frame), frame)
    said = " ".join(lines)
    assert "90.2%" in said
    assert "multinomial logistic regression on the same data 83.6%" in said


def test_without_a_final_training_the_closing_lines_claim_no_test_accuracy() -> None:
    frame = frame_of(rows(2))
    assert "test images" not in " ".join(closing_lines(facts_of(frame, final=None), frame))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (1320, "22 min"), (5400, "1.5 h")],
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
