"""What a search prints: into a pipe, into a terminal, and at its end."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console as Terminal

from runs.console import Console, closing_lines, duration, row_text
from runs.outputs import Results
from runs.pace import Pace
from runs.ranking import front, objectives_named
from tests.made_evidence import champion, dense, noise, with_standing
from tests.made_runs import NAMES, facts_of, failed, frame_of, rows
from tests.pages import findings_of

DIVERGED = {"state": "diverged", "accuracy": None, "val_loss": None}


class Screen:
    """A console that writes into a text."""

    def __init__(
        self, total: int = 5, *, terminal: bool = False, width: int = 200, quiet: bool = False
    ) -> None:
        self.file = io.StringIO()
        shown = Terminal(file=self.file, force_terminal=terminal, width=width, highlight=False)
        self.console = Console(total, workers=2, quiet=quiet, terminal=shown)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def results(frame: pd.DataFrame, **changes: Any) -> Results:
    return Results(
        findings=findings_of(frame, **changes),
        paths=[
            Path("results/x/report.html"),
            Path("results/x/architectures/0a1b.yaml"),
            Path("results/x/figures/networks/0a1b.svg"),
        ],
    )


def test_a_finished_trial_is_one_line_with_its_numbers() -> None:
    screen = Screen()
    row = rows(1)[0] | {"accuracy": 0.8125, "val_loss": 0.5, "latency_ms": 1.25}
    with screen.console as console:
        console.trial_started(0, row["id"])
        console.trial_done(row | {"macs": 2_500_000, "params": 31_400})
    (line,) = screen.lines
    assert line.startswith(f"1/5     0  {row['id']}   81.2%  loss 0.500    1.250 ms     2.50 MMACs")
    assert "31" in line


def test_a_disturbed_latency_is_told_on_its_line_and_at_the_end() -> None:
    trials = rows(4, t2={"latency_disturbed": True}, t3={"latency_disturbed": False})
    assert row_text(trials[2]).endswith("  latency disturbed")
    assert "disturbed" not in row_text(trials[3])
    lines = closing_lines(facts_of(frame_of(trials)), frame_of(trials))
    assert (
        "1 latency was measured while something else kept the machine busy, also when repeated "
        "(latency_disturbed in trials.csv)." in lines
    )
    assert "busy" not in " ".join(closing_lines(facts_of(frame_of(rows(4))), frame_of(rows(4))))


def test_a_failed_and_a_diverged_trial_are_one_line_each() -> None:
    gone = row_text(failed(3, "error: MemoryError\nat line 3"))
    assert gone.endswith("failed: error: MemoryError")
    assert "diverged" in row_text(rows(1, t0=DIVERGED)[0])


def test_failed_trials_do_not_count_as_done() -> None:
    screen = Screen()
    with screen.console as console:
        console.trial_done(failed(0, "no memory"))
        console.trial_done(rows(2, t1=DIVERGED)[1])
    assert [line.split()[0] for line in screen.lines] == ["0/5", "1/5"]


def test_quiet_hides_all_but_the_results() -> None:
    screen = Screen(quiet=True)
    with screen.console as console:
        console.plan(["space     default"])
        console.note("measuring")
        console.trial_done(rows(1)[0])
        assert screen.lines == []
        console.finish(results(frame_of(rows(3))))
    assert any(line.startswith("ranking, first 3 of 3") for line in screen.lines)


def test_brackets_in_names_and_reasons_are_printed_as_they_are() -> None:
    screen = Screen()
    with screen.console as console:
        console.note("[red]space[/red] [/]")
        console.trial_done(failed(0, "[bold]x[/bold] [/]"))
        console.finish(results(frame_of([failed(0, "[/] at [0, 1]")])))
    text = "\n".join(screen.lines)
    assert "[red]space[/red] [/]" in text
    assert "failed: [bold]x[/bold] [/]" in text
    assert "failed 1 times: [/] at [0, 1]" in text


def test_the_time_left_follows_the_pace_of_this_session_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    screen = Screen(total=10)
    made = rows(7)
    with screen.console as console:
        console.plan([])
        clock[0] += 1000
        console.resumed(made[:5], Counter(complete=5))
        console.trial_started(5, "")
        clock[0] += 120
        console.trial_done(made[5])
        console.trial_started(6, "")
        console.trial_started(7, "")
        clock[0] += 120
        console.trial_done(made[6])
    # Trainings of 120 s, two at a time: four are left after the first, then three, one of which is
    # at its end.
    assert [line.split("  ")[-1] for line in screen.lines] == ["4 min left", "2 min left"]


def test_the_time_left_of_halving_is_that_of_its_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    screen = Screen(total=3)
    short = {"rung": 0, "length": 1 / 9, "state": "stopped"}
    made = rows(4, t0=short, t1=short, t2=short, t3={"rung": 1, "length": 1 / 3, "continues": 1})
    with screen.console as console:
        for row, seconds in zip(made, (45, 45, 45, 90), strict=True):
            console.trial_started(row["trial"], "")
            clock[0] += seconds
            console.trial_done(row | {"state": "stopped"})
    # A ninth takes 45 s, so a training 405 s; two are at a time.
    assert [line.split()[0] for line in screen.lines] == ["0.1/3", "0.2/3", "0.3/3", "0.6/3"]
    assert [line.split("  ")[-1] for line in screen.lines] == [
        "10 min left",
        "9 min left",
        "9 min left",
        "8 min left",
    ]
    assert "at  1/3  " in screen.lines[-1]
    # Nothing is best before a network was trained in full length.
    assert screen.console.best is None


def test_no_worker_is_reckoned_with_that_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    pace = Pace(8)
    assert pace.left(4) is None
    for number in range(2):
        pace.begin(number)
    clock[0] += 60
    pace.end(0, 1.0)
    assert pace.left(2) == pytest.approx(30)  # 120 s of work, 60 of them done, two at a time
    clock[0] += 600
    assert pace.left(1) == 0
    assert pace.left(0) is None


def test_the_last_trial_has_no_time_left() -> None:
    screen = Screen(total=1)
    with screen.console as console:
        console.trial_done(rows(1)[0])
    assert "left" not in screen.lines[0]


def test_a_terminal_shows_running_trials_the_best_and_what_was_refused() -> None:
    screen = Screen(total=9, terminal=True)
    with screen.console as console:
        console.trial_started(0, "aaaaaaaaaaaa")
        console.trial_done(rows(1)[0] | {"accuracy": 0.8125})
        console.trial_started(1, "bbbbbbbbbbbb")
        console.progress(1, {"step": 30, "total_steps": 250, "loss": 1.5})
        console.trial_started(2, "cccccccccccc")
        console.counts(Counter(complete=1, duplicate=4, failed=2))
        console.terminal.print(console._table())
    text = screen.file.getvalue()
    for shown in ("1/9", "best 81.2%", "4 duplicate  2 failed", "bbbbbbbbbbbb", "starting"):
        assert shown in text
    assert "step 30/250  loss 1.500" in text
    assert "aaaaaaaaaaaa" not in text[text.rindex("best 81.2%") :]


def test_a_row_of_the_live_table_stays_one_line_at_eighty_columns() -> None:
    screen = Screen(terminal=True, width=80)
    for row in [*rows(3), failed(3, "crash: " + "word " * 40)]:
        screen.console.trial_done(row)
    with screen.console.terminal.capture() as shown:
        screen.console.terminal.print(screen.console._table())
    assert len(shown.get().splitlines()) == 1 + 4


def test_trials_of_earlier_sessions_count_and_are_not_shown_again() -> None:
    screen = Screen()
    screen.console.resumed(rows(2), Counter(complete=2))
    assert screen.lines == []
    screen.console.trial_done(rows(3)[2])
    assert screen.lines[0].startswith("3/5 ")


def test_a_terminal_names_the_final_training() -> None:
    screen = Screen(terminal=True)
    with screen.console as console:
        console.progress(-1, {"step": 1, "total_steps": 2, "loss": 0.5})
        console.terminal.print(console._table())
    assert "final training  step 1/2" in screen.file.getvalue()


def test_a_terminal_is_left_as_it_was_after_an_error() -> None:
    screen = Screen(terminal=True)
    with pytest.raises(KeyboardInterrupt), screen.console:
        raise KeyboardInterrupt
    shows, hides = "\x1b[?25h", "\x1b[?25l"
    text = screen.file.getvalue()
    assert text.rindex(shows) > text.rindex(hides)


def test_the_end_shows_ranking_front_answer_and_files() -> None:
    screen = Screen()
    frame = frame_of([*rows(20, t4=DIVERGED), failed(20, "error: MemoryError\nmore")])
    screen.console.finish(results(frame))
    text = "\n".join(screen.lines)
    assert "ranking, first 15 of 21" in text
    assert f"front, {len(front(frame, objectives_named(NAMES)))} networks" in text
    assert "failed 1 times: error: MemoryError" in text
    assert f"Recommended: {frame.iloc[0]['id']}, {frame.iloc[0]['accuracy']:.1%}" in text
    assert "Trained on for 12 epochs it has 90.2% of the test images" in text
    assert "results/x/report.html" in text
    assert "0a1b.yaml" not in text
    assert "0a1b.svg" not in text
    assert screen.lines[-2:] == ["  results/x/architectures", "  results/x/figures"]


def test_a_front_of_one_network_is_no_plural() -> None:
    screen = Screen()
    screen.console.finish(results(frame_of(rows(1))))
    assert "front, 1 network" in [line.strip() for line in screen.lines]


def test_a_diverged_trial_is_called_so_in_the_ranking() -> None:
    screen = Screen()
    screen.console.finish(results(frame_of(rows(2, t1=DIVERGED))))
    (line,) = [line for line in screen.lines if "diverged " in line and "trainings" not in line]
    assert line.split()[0] == "2"


@pytest.mark.parametrize("trials", [[], [failed(0, "no memory")], rows(1, t0=DIVERGED)])
def test_a_run_without_a_complete_trial_ends_with_a_sentence(trials: list[dict[str, Any]]) -> None:
    screen = Screen()
    screen.console.finish(results(frame_of(trials)))
    assert "No training was complete, so there is nothing to recommend." in screen.lines


def test_a_final_training_that_diverged_leaves_its_sentence_out() -> None:
    frame = frame_of(rows(2))
    final = facts_of(frame)["final"] | {"test_accuracy": None}
    for facts in (facts_of(frame, final=final), facts_of(frame, final=None)):
        assert not [line for line in closing_lines(facts, frame) if "Trained on" in line]


def test_a_terminal_of_eighty_columns_keeps_the_columns_that_matter() -> None:
    screen = Screen(terminal=True, width=80)
    screen.console.finish(results(frame_of(rows(3))))
    heads = [line for line in screen.lines if "rank" in line and "accuracy" in line]
    assert len(heads) == 2
    for name in ("latency ms", "k params", "kernels"):
        assert name in heads[0]
    assert "widths" not in heads[0]


def test_lines_in_a_pipe_are_never_cut() -> None:
    screen = Screen(width=40)
    long = "x" * 300
    screen.console.note(long)
    screen.console.finish(results(frame_of(rows(3))))
    assert screen.lines[0] == long
    assert any("S1..S4" in line for line in screen.lines)


def test_a_reader_who_leaves_does_not_end_the_search() -> None:
    code = (
        "from runs.console import Console\n"
        "import sys\n"
        "console = Console(5, workers=1)\n"
        "for number in range(20000):\n"
        "    console.note(str(number))\n"
        "print('searched on', file=sys.stderr)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == "searched on\n"
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (1320, "22 min"), (7200, "2.0 h")],
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def studied(names: tuple[str, ...], *, width: int) -> list[str]:
    """Give what the end of a segmentation run with a study shows."""
    frame = frame_of(with_standing(rows(5), dense=True), names)
    made = facts_of(frame, names)
    findings = findings_of(
        frame,
        names,
        data=made["data"] | {"task": "segmentation"},
        final=made["final"] | {"test_miou": 0.4, "baseline_test_miou": 0.1},
        guidelines=dense(),
        ranking_noise=noise(),
        champion=champion(made["recommended"], "miou"),
    )
    found = Results(findings=findings, paths=[])
    screen = Screen(terminal=True, width=width)
    screen.console.finish(found)
    return [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in screen.lines]


@pytest.mark.parametrize("width", [80, 160])
def test_the_end_of_a_study_shows_guidelines_noise_and_champion(width: int) -> None:
    lines = studied(("miou", "latency"), width=width)
    flowing = " ".join(" ".join(lines).split())
    for text in (
        "guidelines on this task",
        "-1.36 [-2.05, -0.67]",
        "Fresh seeds take off 1.27 points",
        "Noise floor: ",
        "an mIoU of 85.8% on the validation images after its short training, the mean over 3 seeds",
        "it has an mIoU of 40.0% on the test images, with 90.2% of the pixels",
        "* lies outside the space",
    ):
        assert text in flowing


def test_a_wide_terminal_shows_ranks_and_chances_and_a_narrow_one_what_matters() -> None:
    wide = next(line for line in studied(("miou", "latency"), width=160) if "latency ms" in line)
    assert {"estimate", "ranks", "tied", "best", "front", "gain", "mIoU"} <= {*wide.split()}
    narrow = studied(("miou", "latency"), width=80)
    heading = next(line for line in narrow if "latency ms" in line)
    assert {"rank", "mIoU", "estimate", "kernels"} <= {*heading.split()}
    assert not {"ranks", "gain", "structure"} & {*heading.split()}
    assert "…" not in "".join(narrow)


def test_a_dense_trial_is_judged_by_its_miou() -> None:
    row = rows(1)[0] | {"accuracy": 0.8, "miou": 0.3125}
    assert "mIoU 31.2%  loss" in row_text(row)
    screen = Screen(terminal=True)
    with screen.console as console:
        console.trial_done(row)
        console.trial_done(row | {"trial": 1, "accuracy": 0.9, "miou": 0.2})
        assert console.best is row
