from __future__ import annotations

from fractions import Fraction

from runs.history import History
from runs.waiting import Waiting
from tests.test_attempts import trial_of


def history_of(*, retried: dict[int, str] | None = None) -> History:
    history = History(())
    for number, outcome in (retried or {}).items():
        history.retried[number] = {"trial": number, "outcome": outcome}
    return history


def test_what_was_handed_out_comes_in_its_order_while_it_fits() -> None:
    waiting = Waiting(history_of())
    assert not waiting
    for number in (4, 7):
        waiting.add(trial_of(number))
    assert waiting
    first = waiting.next([], Fraction(1))
    assert first is not None
    assert first.number == 4
    # A resume may have set less than was handed out.
    assert waiting.next([first], Fraction(1, 3)) is None
    second = waiting.next([first], Fraction(1))
    assert second is not None
    assert second.number == 7
    assert not waiting


def test_what_ran_out_of_memory_waits_until_nothing_runs_and_holds_the_others_back() -> None:
    waiting = Waiting(history_of(retried={5: "memory", 6: "crash"}))
    for number in (5, 6):
        waiting.add(trial_of(number))
    running = [trial_of(1)]
    assert waiting.next(running, Fraction(9)) is None
    first = waiting.next([], Fraction(9))
    assert first is not None
    assert first.number == 5
    second = waiting.next([], Fraction(9))
    assert second is not None
    assert second.number == 6
