from __future__ import annotations

from typing import Any

from runs.history import History
from search_space.architecture import Architecture, Stage, Stem

NETWORK = Architecture(
    size=(12, 12),
    channels=1,
    stem=Stem(stride=2),
    stages=(Stage(depth=1, width=4, kernel=3, placement="S"),),
)


def asked(number: int, role: str = "search") -> dict[str, Any]:
    return {
        "seq": number,
        "event": "asked",
        "trial": number,
        "role": role,
        "id": f"id{number}",
        "seed": 7,
        "architecture": NETWORK.to_json(),
        "params": {},
        "distributions": {},
    }


def done(number: int, state: str = "complete", **fields: Any) -> dict[str, Any]:
    return {"seq": 100 + number, "event": "done", "trial": number, "state": state, **fields}


def test_what_was_asked_and_never_done_is_pending() -> None:
    history = History([asked(0), asked(1), done(1)])
    assert [trial.number for trial in history.pending] == [0]
    assert [trial.number for trial in history.done] == [1]


def test_complete_and_diverged_trials_eat_budget_and_failed_ones_do_not() -> None:
    events = [asked(n) for n in range(4)]
    events += [done(0), done(1, "diverged"), done(2, "failed"), done(3, "infeasible")]
    assert History(events).spent == 2


def test_trials_finish_in_the_order_of_their_results() -> None:
    history = History([asked(0), asked(1), done(1), done(0)])
    assert [trial.number for trial in history.done] == [1, 0]


def test_refused_proposals_count_once_a_trial_even_where_a_kill_made_them_be_drawn_again() -> None:
    refused = {"event": "refused", "trial": 0, "duplicates": 2, "rejected": {"macs": 3}}
    history = History([refused, refused, asked(0)])
    assert history.counts["duplicate"] == 2
    assert history.counts["rejected"] == 3
    assert history.rejected == {"macs": 3}


def test_a_later_measurement_replaces_the_latency_and_tests_are_added() -> None:
    history = History(
        [
            asked(0),
            done(0, accuracy=0.5, latency_ms=2.0),
            {"event": "remeasured", "latencies": {"0": {"latency_ms": 1.5, "separable": True}}},
            {"event": "tested", "accuracies": {"0": 0.4}},
        ]
    )
    (row,) = history.rows()
    assert (row["latency_ms"], row["test_accuracy"], row["accuracy"]) == (1.5, 0.4, 0.5)
    assert row["separable"] is True


def test_a_row_has_the_trial_its_network_and_none_of_the_record_s_own_fields() -> None:
    (row,) = History([asked(3), done(3, curve=[[1, 2.0]])]).rows()
    assert row["trial"] == 3
    assert row["seed"] == 7
    assert row["architecture"] == NETWORK.to_json()
    assert not {"seq", "event", "curve", "crc"} & set(row)


def test_events_of_a_later_version_are_passed_over() -> None:
    history = History([asked(0), {"event": "audited", "seq": 9}, done(0)])
    assert history.spent == 1


def test_starts_are_counted_so_that_a_training_cannot_take_the_driver_down_for_ever() -> None:
    started = {"event": "started", "trial": 0}
    assert History([asked(0), started, started]).trials[0].starts == 2


def test_an_interrupted_training_was_not_begun() -> None:
    started = {"event": "started", "trial": 0}
    events = [asked(0), started, started, {"event": "interrupted", "trials": [0]}]
    assert History(events).trials[0].starts == 1


def test_a_longer_training_eats_no_budget_and_a_later_try_replaces_a_failed_one() -> None:
    longer = {"event": "longer", "trial": 0, "factor": 4.0}
    history = History(
        [
            *(asked(0), done(0)),
            longer | {"state": "failed", "error": "crash: x"},
            longer | {"state": "complete", "accuracy": 0.9},
        ]
    )
    assert history.longer[0, 4]["accuracy"] == 0.9
    assert history.spent == 1
    assert "longer" not in history.final
    assert history.rows() == History([asked(0), done(0)]).rows()
