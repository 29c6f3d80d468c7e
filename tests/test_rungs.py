"""Rungs: how long they are, who goes on from them, and that nothing but the results decides it."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.history import History, Trial
from runs.plan import Settings
from runs.ranking import objectives_named
from runs.rungs import Ladder, crowding_distance, ladder, promotion_order, step_fields
from search_space.architecture import Architecture, Stage, Stem

BOTH = ("accuracy", "macs")
HALVING = Settings(fidelity="halving", objectives=BOTH)
PLENTY = Fraction(1000)
NETWORK = Architecture(
    stages=(Stage(width=4, depth=1, kernel=3, placement="L"),),
    stem=Stem(stride=2),
    size=(12, 12),
    channels=1,
)


class Run:
    """A run whose trainings end as they are told to."""

    def __init__(self, settings: Settings = HALVING) -> None:
        self.settings = settings
        self.ladder = Ladder(settings)
        self.events: list[dict[str, Any]] = []
        self.history = History()

    def note(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.history.apply(event)

    def ask(self, continues: int | None = None, **more: Any) -> int:
        number = len(self.history.trials)
        fields = step_fields(ladder(self.settings), 0)
        network = f"network {number}"
        if continues is not None:
            continued = self.history.trials[continues]
            assert continued.rung is not None
            network = continued.id
            fields = step_fields(ladder(self.settings), continued.rung + 1, continued.number)
        event = {"event": "asked", "trial": number, "role": "search", "id": network, "seed": 0}
        self.note({**event, "architecture": NETWORK.to_json(), **fields, **more})
        return number

    def end(self, number: int, accuracy: float = 0.5, macs: float = 1.0, **more: Any) -> None:
        trial = self.history.trials[number]
        state = "complete" if trial.length == 1 else "stopped"
        event = {"event": "done", "trial": number, "state": state, "accuracy": accuracy}
        self.note({**event, "macs": macs, "latency_ms": macs, "val_loss": 1.0, **more})

    def ask_through(self) -> int:
        """Train a new network to the second-highest rung."""
        number = self.ask()
        self.end(number)
        number = self.ask(number)
        self.end(number)
        return number

    def propose(self, left: Fraction = PLENTY) -> int | None:
        found = self.ladder.propose(self.history, left)
        # One that reads the record anew, as a resumed run does, says the same.
        again = Ladder(self.settings).propose(History(self.events), left)
        assert number_of(found) == number_of(again)
        return number_of(found)


def number_of(trial: Trial | None) -> int | None:
    return None if trial is None else trial.number


def test_rungs_end_at_powers_of_the_factor() -> None:
    assert list(map(str, ladder(HALVING))) == ["1/9", "1/3", "1"]
    halves = ladder(Settings(fidelity="halving", halving_factor=2))
    assert list(map(str, halves)) == ["1/4", "1/2", "1"]
    assert list(map(str, ladder(Settings()))) == ["1"]


@given(st.integers(2, 10))
def test_the_shares_of_a_network_that_reaches_the_top_are_one_training(factor: int) -> None:
    lengths = ladder(Settings(fidelity="halving", halving_factor=factor))
    steps = [step_fields(lengths, rung, rung - 1 if rung else None) for rung in range(3)]
    assert sum(Fraction(*step["share"]) for step in steps) == 1
    assert [Fraction(*step["length"]) for step in steps] == list(lengths)


def test_a_training_says_its_rung_and_what_it_continues() -> None:
    lengths = ladder(HALVING)
    first = {"rung": 0, "length": [1, 9], "share": [1, 9], "continues": None}
    assert step_fields(lengths, 0) == first
    assert step_fields(lengths, 1, 4) == {
        "rung": 1,
        "length": [1, 3],
        "share": [2, 9],
        "continues": 4,
    }
    assert step_fields(lengths, 2, 7)["share"] == [2, 3]
    assert step_fields(ladder(Settings()), 0) == {}


def row(number: int, accuracy: float | None, macs: float, **more: Any) -> dict[str, Any]:
    return {"trial": number, "state": "stopped", "accuracy": accuracy, "macs": macs} | more


def test_fronts_go_first_and_in_a_front_those_that_stand_alone() -> None:
    rows = [
        # The first front by MACs: its ends, and between them distances of
        # 2: (3 - 1)/9 + (.5 - .3)/.5, 3: (4 - 2)/9 + (.6 - .4)/.5, 4: (10 - 3)/9 + (.8 - .5)/.5.
        row(1, 0.3, 1.0),
        row(2, 0.4, 2.0),
        row(3, 0.5, 3.0),
        row(4, 0.6, 4.0),
        row(5, 0.8, 10.0),
        # The second front, dominated by 3 and 4 alone or by both.
        row(6, 0.5, 3.5),
        row(7, 0.2, 1.5),
        # What is not known comes behind, what diverged last of all.
        row(8, None, 0.1),
        row(0, 0.9, 0.1, state="diverged"),
    ]
    expected = [1, 5, 4, 2, 3, 6, 7, 8, 0]
    assert promotion_order(rows, objectives_named(BOTH)) == expected
    assert promotion_order(rows[::-1], objectives_named(BOTH)) == expected
    assert promotion_order([], objectives_named(BOTH)) == []


def test_one_objective_orders_by_itself_and_equals_by_number() -> None:
    rows = [row(3, 0.5, 1.0), row(1, 0.5, 9.0), row(2, 0.7, 5.0)]
    assert promotion_order(rows, objectives_named(["accuracy"])) == [2, 1, 3]


def test_crowding_is_that_of_the_front() -> None:
    losses = np.array([[0.0, 4.0], [1.0, 3.0], [3.0, 1.0], [4.0, 0.0], [5.0, 5.0]])
    found = crowding_distance(losses, np.array([0, 0, 0, 0, 1]))
    assert found.tolist() == [np.inf, 1.5, 1.5, np.inf, 0.0]


def test_one_of_three_goes_on_and_the_upper_rung_first() -> None:
    run = Run()
    for _ in range(9):
        run.ask()
    # Accuracy falls and MACs grow with the number, so each is worse than the one before.
    for number in (0, 4):
        run.end(number, 0.9 - number / 100, number)
    assert run.propose() is None
    run.end(3, 0.87, 3)
    first = run.propose()
    assert first == 0
    run.ask(first)
    assert run.propose() is None
    for number in (1, 2, 5, 6, 7, 8):
        run.end(number, 0.9 - number / 100, number)
    second = run.propose()
    assert second == 1
    run.ask(second)
    third = run.propose()
    assert third == 2
    run.ask(third)
    assert run.propose() is None
    for number in (9, 10):
        run.end(number, 0.9, number)
    assert run.propose() is None
    run.end(11, 0.95, 1)
    top = run.propose()
    assert top == 11
    assert run.history.trials[top].id == "network 2"
    # What does not fit into the rest of the budget is left, a shorter step might.
    assert run.propose(Fraction(2, 3) - Fraction(1, 9)) is None
    run.ask(top)
    run.end(12, 0.96)
    assert run.history.trials[12].state == "complete"
    assert run.propose() is None


def test_a_shorter_step_goes_on_where_a_longer_one_does_not_fit() -> None:
    run = Run()
    for number in [run.ask() for _ in range(12)]:
        run.end(number, 0.5, number)
    for _ in range(3):
        run.end(run.ask(run.propose()))
    assert run.propose(Fraction(2, 3)) == 12
    assert run.propose(Fraction(5, 9)) == 3
    assert run.propose(Fraction(1, 9)) is None


def share(ninths: int) -> Fraction:
    return Fraction(ninths, 9)


def test_the_furthest_network_keeps_what_it_needs_until_one_is_of_full_length() -> None:
    run = Run()

    def kept() -> Fraction:
        return run.ladder.reserve(run.history, PLENTY)

    assert kept() == share(8)
    assert run.ladder.begins(run.history, share(9))
    first = run.ask()
    assert kept() == share(8)
    assert not run.ladder.begins(run.history, share(8))
    assert run.ladder.begins(run.history, share(9))
    run.end(first)
    assert kept() == share(8)
    second = run.ask(first)
    assert kept() == share(6)
    run.end(second)
    assert not run.ladder.begins(run.history, share(6))
    top = run.ask(second)
    assert kept() == 0
    # One that fails on the way gives nothing, and there is no other.
    run.end(top, state="failed")
    assert kept() == share(8)
    run.end(run.ask(run.ask_through()), 0.5)
    assert run.history.done[-1].state == "complete"
    assert kept() == 0
    assert run.ladder.begins(run.history, share(1))


def test_what_cannot_bring_one_to_full_length_is_not_kept() -> None:
    run = Run()
    assert run.ladder.reserve(run.history, share(8)) == 0
    run.end(run.ask(), state="diverged")
    assert run.ladder.reserve(run.history, share(8)) == 0
    assert run.ladder.begins(run.history, share(8))
    run.end(run.ask())
    assert run.ladder.reserve(run.history, share(7)) == 0
    assert run.ladder.reserve(run.history, share(8)) == share(8)
    assert Ladder(Settings()).reserve(History(), Fraction(1)) == 0


def test_beside_the_furthest_network_others_go_on_with_what_is_not_kept() -> None:
    run = Run()
    for number in [run.ask() for _ in range(6)]:
        run.end(number, 0.5, number)
    furthest = run.ask(run.propose())
    # It is trained just now: 6/9 stay for it, and the step of the second one takes 2/9.
    assert run.propose(share(8)) == 1
    assert run.propose(share(7)) is None
    assert run.ladder.propose(run.history, share(7), beyond=True) is None
    run.end(furthest)
    assert run.propose(share(6)) is None
    assert number_of(run.ladder.propose(run.history, share(6), beyond=True)) == furthest


def test_beyond_its_places_a_rung_gives_its_best_once_all_there_ended() -> None:
    run = Run()
    numbers = [run.ask() for _ in range(2)]
    run.end(numbers[0], 0.5)
    assert run.propose() is None
    assert run.ladder.propose(run.history, PLENTY, beyond=True) is None
    run.end(numbers[1], 0.6)
    assert run.propose() is None
    assert number_of(run.ladder.propose(run.history, PLENTY, beyond=True)) == 1
    run.end(run.ask(1))
    assert number_of(run.ladder.propose(run.history, PLENTY, beyond=True)) == 2
    assert number_of(run.ladder.propose(run.history, share(8), beyond=True)) == 2
    run.end(run.ask(2))
    assert number_of(run.ladder.propose(run.history, share(2), beyond=True)) == 0
    assert run.ladder.propose(run.history, share(1), beyond=True) is None


def test_failures_take_no_place_and_are_not_tried_again() -> None:
    run = Run()
    for _ in range(7):
        run.ask()
    for number in (0, 1):
        run.end(number, 0.9 - number / 100, number)
    run.end(2, state="failed")
    assert run.propose() is None
    run.end(3, 0.1, 3)
    run.end(run.ask(run.propose()), state="infeasible")
    assert run.propose() is None
    # The place of the failed one is nobody else's.
    for number in (4, 5):
        run.end(number, 0.1, number)
        assert run.propose() is None
    run.end(6, 0.1, 6)
    assert run.propose() == 1


def test_diverged_ones_take_a_place_and_never_go_on() -> None:
    run = Run()
    for number in [run.ask() for _ in range(3)]:
        run.end(number, 0.9, 0.0, state="diverged")
    assert run.propose() is None
    run.end(run.ask(), 0.2, 9.0)
    assert run.propose() == 3


def test_full_length_trainings_have_no_part_in_it() -> None:
    run = Run(Settings(fidelity="full", objectives=BOTH))
    for number in [run.ask() for _ in range(9)]:
        run.end(number, state="complete")
    assert run.propose() is None


def test_latency_counts_as_it_was_when_the_training_ended() -> None:
    run = Run(Settings(fidelity="halving", objectives=("latency",)))
    for number in [run.ask() for _ in range(3)]:
        run.end(number, macs=1.0 + number)
    run.note({"event": "remeasured", "latencies": {"2": {"latency_ms": 0.1}}})
    assert run.propose() == 0


@st.composite
def plays(draw: st.DrawFn) -> tuple[tuple[str, ...], int, list[tuple[int, str, list[float]]]]:
    """Objectives, factor, and steps: which running trial ends next, how, and with what."""
    names = draw(st.sampled_from([("accuracy",), BOTH, ("accuracy", "latency", "params")]))
    value = st.one_of(st.integers(0, 3).map(float), st.floats(0, 1, width=16))
    states = st.sampled_from(["well"] * 8 + ["failed", "diverged"])
    step = st.tuples(st.integers(0, 3), states, st.lists(value, min_size=2, max_size=2))
    return names, draw(st.integers(2, 4)), draw(st.lists(step, max_size=60))


@given(plays())
def test_whatever_happens_the_best_go_on_once(
    play: tuple[tuple[str, ...], int, list[tuple[int, str, list[float]]]],
) -> None:
    names, factor, steps = play
    objectives = objectives_named(names)
    given_ = Settings(fidelity="halving", halving_factor=factor, objectives=names)
    run, running = Run(given_), list[int]()
    for place, state, (accuracy, size) in steps:
        while len(running) < 4:
            number = run.propose()
            if number is not None:
                chosen = run.history.trials[number]
                assert chosen.state == "stopped"
                peers = [
                    t
                    for t in run.history.done
                    if t.rung == chosen.rung and t.state in ("stopped", "diverged")
                ]
                order = promotion_order([{**t.result} for t in peers], objectives)
                continued = {t.continues for t in run.history.trials.values()}
                assert number not in continued
                at = order.index(number)
                assert at < len(peers) // factor
                # Whoever stands before it went on already, or diverged.
                before = [run.history.trials[n] for n in order[:at]]
                assert all(t.number in continued or t.state == "diverged" for t in before)
            running.append(run.ask(number))
        ended = running.pop(place)
        more = {} if state == "well" else {"state": state}
        run.end(ended, accuracy, size, params=accuracy + size, **more)
    continued_ = [t.continues for t in run.history.trials.values() if t.continues is not None]
    assert len(continued_) == len(set(continued_))


@pytest.mark.parametrize("names", [BOTH, ("accuracy", "macs", "latency")])
def test_a_proposal_among_thousands_is_quick(names: tuple[str, ...]) -> None:
    run, rng = Run(Settings(fidelity="halving", objectives=names)), np.random.default_rng(0)
    for _ in range(4000):
        number = run.ask()
        run.end(number, round(float(rng.random()), 3), float(rng.random()), latency_ms=rng.random())
    for _ in range(600):
        run.ask(number_of(run.ladder.propose(run.history, PLENTY)))
    seconds = []
    for _ in range(20):
        run.end(run.ask(), round(float(rng.random()), 3), float(rng.random()))
        begin = time.thread_time()  # others may use the machine
        assert run.ladder.propose(run.history, PLENTY) is not None
        seconds.append(time.thread_time() - begin)
    # About 3 ms with two objectives and 5 with three.
    assert min(seconds) < 0.05, seconds
