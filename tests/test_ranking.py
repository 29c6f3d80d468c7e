"""Order, fronts and hypervolume of made-up runs, by literals and by brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from runs.columns import BY_NAME, COLUMNS, CONTRACT, DTYPES, table_schema
from runs.ranking import (
    OBJECTIVES,
    block_text,
    front,
    hypervolume,
    kernels_text,
    objectives_named,
    rank,
    reference_point,
    trials_frame,
)
from search_space.architecture import Architecture, Stage, Stem
from search_space.errors import RunError

BOTH = objectives_named(["accuracy", "latency"])
FIRST = [column.name for column in CONTRACT]


def trial(
    number: int, accuracy: float | None, latency: float | None, **more: Any
) -> dict[str, Any]:
    row = {"trial": number, "role": "search", "state": "complete", "id": f"{number:012x}"}
    return row | {"accuracy": accuracy, "latency_ms": latency} | more


def ranked(*rows: dict[str, Any], names: tuple[str, ...] = ("accuracy", "latency")) -> pd.DataFrame:
    return rank(trials_frame(rows), objectives_named(names))


def numbers(frame: pd.DataFrame, column: str) -> list[Any]:
    return [None if pd.isna(value) else value for value in frame[column]]


def test_the_columns_are_the_contract_in_its_order() -> None:
    contract = (
        "trial, role, state, id, seed, accuracy, val_loss, test_accuracy, latency_ms, macs, "
        "params, s1, s2, s3, s4, rank, front_rank, on_front, seconds, error, architecture"
    )
    assert ", ".join(FIRST) == contract
    frame = trials_frame([trial(0, 0.5, 1.0, extra="kept")])
    assert list(frame.columns)[: len(FIRST)] == FIRST
    assert frame.columns[-1] == "extra"


def test_the_schema_describes_every_column_once() -> None:
    fields = table_schema()["fields"]
    assert [field["name"] for field in fields] == list(BY_NAME)
    assert len(BY_NAME) == len(COLUMNS)
    assert {field["type"] for field in fields} == {"string", "integer", "number", "boolean"}
    assert all(len(field["description"]) > 9 for field in fields)
    assert {column.kind for column in COLUMNS} == set(DTYPES)


def test_only_sparse_networks_have_counts_of_what_is_not_zero() -> None:
    sparse = trial(1, 0.5, 1.0, params_nonzero=600, macs_nonzero=7000)
    frame = trials_frame([trial(0, 0.5, 1.0), sparse])
    text = frame[["trial", "params_nonzero", "macs_nonzero"]].to_csv(index=False)
    assert text.splitlines() == ["trial,params_nonzero,macs_nonzero", "0,,", "1,600,7000"]


def test_a_frame_of_no_trials_has_every_column_and_ranks() -> None:
    frame = rank(trials_frame([]), BOTH)
    assert len(frame) == 0
    assert set(BY_NAME) <= set(frame.columns)
    assert len(front(frame, BOTH)) == 0
    assert reference_point(frame, BOTH) == {}
    assert hypervolume(frame, BOTH, {}) == 0


def test_a_missing_value_is_an_empty_field_of_the_csv() -> None:
    frame = trials_frame([trial(0, None, None, state="failed", error="RuntimeError: no, memory")])
    line = frame[FIRST].to_csv(index=False, lineterminator="\n").splitlines()[1]
    assert line == '0,search,failed,000000000000,,,,,,,,,,,,,,,,"RuntimeError: no, memory",'


def test_a_seed_may_use_all_64_bits() -> None:
    frame = trials_frame([trial(0, 0.5, 1.0, seed=2**64 - 1)])
    assert "18446744073709551615" in frame.to_csv()


def test_trials_are_ranked_by_accuracy_best_first() -> None:
    frame = ranked(trial(0, 0.5, 1.0), trial(1, 0.9, 3.0), trial(2, 0.7, 2.0))
    assert numbers(frame, "trial") == [1, 2, 0]
    assert numbers(frame, "rank") == [1, 2, 3]


def test_a_minimised_first_objective_ranks_the_least_first() -> None:
    rows = [trial(0, 0.5, 1.0), trial(1, 0.9, 3.0), trial(2, 0.7, 0.5)]
    assert numbers(ranked(*rows, names=("latency",)), "trial") == [2, 0, 1]


def test_equal_accuracies_go_by_loss_then_by_the_cheaper_then_by_the_earlier() -> None:
    frame = ranked(
        trial(0, 0.8, 2.0, val_loss=0.5),
        trial(1, 0.8, 2.0, val_loss=0.4, macs=200),
        trial(2, 0.8, 1.0, val_loss=0.5),
        trial(3, 0.8, 2.0, val_loss=0.4, macs=100),
        trial(4, 0.8, 2.0, val_loss=0.4, macs=100),
    )
    assert numbers(frame, "trial") == [3, 4, 1, 2, 0]


def test_only_trials_of_full_length_compete() -> None:
    frame = ranked(
        trial(0, 0.5, 3.0, length=1.0),
        trial(1, None, 0.5, state="diverged", length=1 / 9),
        trial(2, 0.9, 0.1, state="stopped", length=1 / 3),
        # Of the same network, with a training of full length after the short one.
        trial(3, None, 0.2, state="diverged", length=1 / 9, id="twice"),
        trial(4, 0.4, 4.0, length=1.0, repeat=1, id="twice"),
        trial(5, None, 0.3, state="diverged", length=1.0),
        # From before there were rungs.
        trial(6, 0.6, 5.0),
    )
    assert numbers(frame, "trial") == [6, 0, 4, 5, 1, 2, 3]
    assert numbers(frame, "rank") == [1, 2, 3, 4, None, None, None]
    assert numbers(frame, "front_rank") == [1, 1, 2, 3, None, None, None]
    assert numbers(front(frame, BOTH), "trial") == [0, 6]


def test_a_failed_trial_stands_last_without_a_rank() -> None:
    frame = ranked(
        trial(0, None, None, state="failed"),
        trial(1, 0.5, 1.0),
        trial(2, 0.6, 1.0, state="infeasible"),
        trial(3, 0.7, 1.0, state="stopped"),
    )
    assert numbers(frame, "trial") == [1, 0, 2, 3]
    assert numbers(frame, "rank") == [1, None, None, None]
    assert numbers(frame, "front_rank") == [1, None, None, None]
    assert numbers(frame, "on_front") == [True, False, False, False]


def test_a_diverged_trial_ranks_behind_the_worst_and_never_stands_on_the_front() -> None:
    frame = ranked(trial(0, 0.9, 0.01, state="diverged"), trial(1, 0.1, 5.0), trial(2, 0.2, 6.0))
    assert numbers(frame, "trial") == [2, 1, 0]
    assert numbers(frame, "rank") == [1, 2, 3]
    assert numbers(frame, "front_rank") == [1, 1, 2]
    assert numbers(frame, "on_front") == [True, True, False]


def test_a_run_with_only_diverged_trials_has_ranks_and_an_empty_front() -> None:
    frame = ranked(trial(0, None, 2.0, state="diverged"), trial(1, None, 1.0, state="diverged"))
    assert numbers(frame, "rank") == [1, 2]
    assert numbers(frame, "trial") == [1, 0]
    assert not frame["on_front"].any()


def test_a_confirm_trial_is_no_second_competitor() -> None:
    frame = ranked(trial(0, 0.5, 1.0, role="anchor"), trial(1, 0.9, 1.0, role="confirm"))
    assert numbers(frame, "rank") == [1, None]
    assert numbers(frame, "trial") == [0, 1]


def test_anchors_and_evidence_compete() -> None:
    frame = ranked(trial(0, 0.5, 1.0, role="anchor"), trial(1, 0.9, 1.0, role="evidence"))
    assert numbers(frame, "rank") == [1, 2]


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_a_complete_trial_without_a_latency_is_ranked_but_not_on_the_front(bad: Any) -> None:
    frame = ranked(trial(0, 0.9, bad), trial(1, 0.5, 1.0), trial(2, 0.4, 2.0))
    assert numbers(frame, "trial") == [0, 1, 2]
    assert numbers(frame, "front_rank") == [3, 1, 2]


def test_equal_trials_share_the_front() -> None:
    frame = ranked(trial(0, 0.9, 1.0), trial(1, 0.9, 1.0), trial(2, 0.9, 1.1))
    assert numbers(frame, "front_rank") == [1, 1, 2]


def test_one_trial_is_the_front() -> None:
    frame = ranked(trial(0, 0.9, 1.0))
    assert numbers(front(frame, BOTH), "trial") == [0]


def test_with_one_objective_the_front_is_its_best_value() -> None:
    frame = ranked(trial(0, 0.9, 1.0), trial(1, 0.5, 0.1), names=("accuracy",))
    assert numbers(frame, "front_rank") == [1, 2]


def test_the_front_is_sorted_along_it_cheapest_first() -> None:
    frame = ranked(trial(0, 0.5, 1.0), trial(1, 0.9, 3.0), trial(2, 0.7, 2.0), trial(3, 0.6, 2.5))
    assert numbers(front(frame, BOTH), "trial") == [0, 2, 1]


@pytest.mark.parametrize("names", [("accuracy", "latency"), ("accuracy", "latency", "macs")])
def test_the_front_is_what_no_other_trial_dominates(names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(3)
    # Few levels, so that equal values are common.
    levels = rng.integers(0, 12, size=(200, 3))
    rows = [trial(n, a / 12, float(b), macs=int(c)) for n, (a, b, c) in enumerate(levels)]
    frame = ranked(*rows, names=names)
    points = [(-row.accuracy, row.latency_ms, row.macs)[: len(names)] for row in frame.itertuples()]
    free = [
        not any(all(a <= b for a, b in zip(q, p, strict=True)) and q != p for q in points)
        for p in points
    ]
    assert list(frame["on_front"]) == free
    assert 1 < sum(free) < 200


def test_the_reference_point_lies_a_tenth_beyond_the_worst_complete_trial() -> None:
    frame = ranked(trial(0, 0.5, 1.0), trial(1, 0.9, 4.0), trial(2, None, 99.0, state="diverged"))
    assert reference_point(frame, BOTH) == pytest.approx({"accuracy": 0.45, "latency": 4.4})


def test_a_declared_worst_value_wins_over_the_trials() -> None:
    frame = ranked(trial(0, 0.5, 1.0))
    point = reference_point(frame, BOTH, declared={"latency": 10.0})
    assert point == pytest.approx({"accuracy": 0.45, "latency": 11.0})


def test_the_hypervolume_is_the_dominated_share_of_the_box() -> None:
    # A box of 4 ms by an error of 1. From 1 to 2 ms half of it is dominated, from 2 to 4 ms
    # three quarters: (1 * 0.5 + 2 * 0.75) / 4.
    frame = ranked(trial(0, 0.5, 1.0), trial(1, 0.75, 2.0))
    assert hypervolume(frame, BOTH, {"accuracy": 0.0, "latency": 4.0}) == pytest.approx(0.5)


def test_the_hypervolume_counts_no_trial_beyond_the_reference_and_none_that_diverged() -> None:
    frame = ranked(trial(0, 0.5, 5.0), trial(1, 0.9, 1.0, state="diverged"))
    assert hypervolume(frame, BOTH, {"accuracy": 0.0, "latency": 4.0}) == 0


def test_repeats_lower_rungs_and_confirmations_move_neither_hypervolume_nor_its_point() -> None:
    first = trial(0, 0.5, 1.0, repeat=0, length=1.0)
    others = [
        trial(1, 0.9, 0.5, id=first["id"], repeat=1, length=1.0),
        trial(2, 0.1, 9.0, id=first["id"], repeat=2, length=1.0),
        trial(3, 0.95, 0.4, length=1 / 3),
        trial(4, 0.97, 0.3, id=first["id"], role="confirm", length=1.0),
    ]
    alone, all_of_them = ranked(first), ranked(first, *others)
    point = reference_point(all_of_them, BOTH)
    assert point == reference_point(alone, BOTH)
    assert hypervolume(all_of_them, BOTH, point) == hypervolume(alone, BOTH, point) > 0


def test_the_hypervolume_needs_a_reference_for_every_objective() -> None:
    assert hypervolume(ranked(trial(0, 0.5, 1.0)), BOTH, {"accuracy": 0.0}) == 0


def test_a_dominated_trial_adds_no_hypervolume() -> None:
    reference = {"accuracy": 0.0, "latency": 4.0}
    one = hypervolume(ranked(trial(0, 0.5, 1.0)), BOTH, reference)
    two = hypervolume(ranked(trial(0, 0.5, 1.0), trial(1, 0.4, 2.0)), BOTH, reference)
    assert one == two == pytest.approx(0.375)


def test_ranking_leaves_the_given_frame_alone() -> None:
    frame = trials_frame([trial(1, 0.5, 1.0), trial(0, 0.9, 2.0)])
    before = frame.copy()
    rank(frame, BOTH)
    pd.testing.assert_frame_equal(frame, before)


def test_the_shape_is_read_from_the_architecture() -> None:
    stages = (
        Stage(depth=1, width=16, placement="S"),
        Stage(depth=3, width=32, kernel=13, placement="LSL", structure="se"),
    )
    architecture = Architecture(size=(28, 28), channels=1, stem=Stem(stride=1), stages=stages)
    row = trials_frame([trial(0, 0.5, 1.0, architecture=architecture.to_json())]).iloc[0]
    shape = (row["kernels"], row["depths"], row["widths"], row["structures"])
    assert shape == ("3|13/3/13", "1|3", "16|32", "none|se")


@pytest.mark.parametrize(
    ("placement", "text"),
    [("L", "13"), ("LLL", "13"), ("LS", "13/3"), ("LSLS", "(13/3)x2"), ("LSS" * 9, "(13/3/3)x9")],
)
def test_kernels_that_repeat_are_written_once(placement: str, text: str) -> None:
    stage = Stage(depth=len(placement), width=8, kernel=13, placement=placement)
    assert kernels_text([stage]) == text


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["accuracy", "latence"], "^--objectives: must be known, got 'latence'; did you mean 'lat"),
        (["accuracy"] * 2, "^--objectives: must differ, got 'accuracy' twice; keep one$"),
        ([], "^--objectives: must name at least one, got none; for example accuracy$"),
    ],
)
def test_objectives_that_cannot_be_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(RunError, match=said):
        objectives_named(names)


def test_the_objectives_are_these_six() -> None:
    directions = {name: (one.column, one.direction) for name, one in OBJECTIVES.items()}
    assert directions == {
        "accuracy": ("accuracy", "max"),
        "miou": ("miou", "max"),
        "val_loss": ("val_loss", "min"),
        "latency": ("latency_ms", "min"),
        "macs": ("macs", "min"),
        "params": ("params", "min"),
    }


def test_a_sparse_network_is_named_with_its_zeros() -> None:
    assert block_text("slak", 0.4) == "slak, 40 % zero"
    assert block_text("slak", 0) == "slak"
