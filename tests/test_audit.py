from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike

from runs.audit import Audit, Trend, compare, design, recorded
from runs.audit_figure import audit_figure
from runs.audit_page import write
from runs.audit_text import audit_facts, headline, remarks, sheets, text
from runs.auditing import chosen, too_few
from runs.history import History
from runs.longer import Reopened
from runs.plan import Plan
from runs.ranking import objectives_named, rank, trials_frame
from runs.records import Records
from search_space.errors import WorkFailed
from tests.made_runs import networks, rows
from tests.micro import Inputs

pytest_plugins = ["tests.micro_fixtures"]

Row = Mapping[str, Any]
Change = Callable[[int], dict[str, Any]]


def nothing(_: int) -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def plan(inputs: Inputs) -> Plan:
    return inputs.planned()[0]


class Made:
    """A run of made-up trials, some of them trained longer."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        count: int,
        *,
        done: Change = nothing,
        asked: Change = nothing,
        longer: Change | None = None,
        factor: float = 4.0,
    ) -> None:
        events: list[dict[str, Any]] = []
        for number, row in enumerate(rows(count)):
            events.append(
                {
                    "event": "asked",
                    "trial": number,
                    "role": "search",
                    "id": row["id"],
                    "seed": 1,
                    "architecture": row["architecture"],
                    **asked(number),
                }
            )
            result = {"event": "done", "seq": number, **row, **done(number)}
            own = ("architecture", "role")
            events.append({key: value for key, value in result.items() if key not in own})
            if longer is not None:
                told = {"state": "complete", "val_loss": 0.5, "seconds": 9.0, **longer(number)}
                told |= {"trial": number, "factor": factor, "purpose": "audit"}
                events.append({"event": "longer", **told})
        self.history = History(events)
        self.frame = rank(trials_frame(self.history.rows()), objectives_named(["accuracy"]))
        records = Records.create(folder / "run", {})
        records.close()
        self.run = Reopened(plan=plan, records=records, history=self.history)

    def audit(self, numbers: Sequence[int], factor: float = 4.0) -> Audit:
        found = compare(self.run.plan, self.history, self.frame, numbers, factor)
        if found is None:
            raise too_few(self.run, numbers, factor)
        return found


def scores(values: ArrayLike) -> Change:
    found = np.asarray(values, dtype=float)
    return lambda number: {"accuracy": float(found[number])}


def test_one_network_comes_from_each_slice_of_the_ranking(plan: Plan, tmp_path: Path) -> None:
    made = Made(plan, tmp_path, 40)
    ranks = made.frame.set_index("trial")["rank"]
    numbers = chosen(made.frame, 20, seed=3)
    assert sorted((ranks[number] - 1) // 2 for number in numbers) == list(range(20))
    assert numbers == chosen(made.frame, 20, seed=3) != chosen(made.frame, 20, seed=4)
    assert sorted(chosen(made.frame, 99, seed=3)) == list(range(40))


def test_only_complete_trainings_that_compete_are_drawn(plan: Plan, tmp_path: Path) -> None:
    made = Made(
        plan,
        tmp_path,
        9,
        done=lambda n: {1: {"state": "diverged"}, 2: {"state": "failed"}}.get(n, {}),
        asked=lambda n: {"role": "confirm"} if n == 3 else {},
    )
    assert sorted(chosen(made.frame, 20, seed=0)) == [0, 4, 5, 6, 7, 8]


def test_a_ranking_that_lasts_has_tau_1_and_loses_nothing(plan: Plan, tmp_path: Path) -> None:
    short = np.linspace(0.5, 0.6, 20)
    order = np.random.default_rng(0).permutation(20)
    short = short[order]
    made = Made(plan, tmp_path, 20, done=scores(short), longer=scores(short + 0.2))
    audit = made.audit(range(20))
    first = audit.proxies[0]
    assert first.tau.value == 1
    assert first.tau.low > 0.9
    assert [found.value for found in first.regrets] == [0, 0, 0]
    assert headline(audit).startswith(
        "The short trainings rank 20 networks trained 4 times as long with tau 1.00 ["
    )
    assert ", better than a ranking by " in headline(audit)
    assert audit.frame["rank_long"].tolist() == list(range(1, 21))
    assert audit.frame["rank_short"].tolist() == list(range(1, 21))


def test_a_ranking_that_costs_tell_as_well_is_called_no_better_in_the_first_line(
    plan: Plan, tmp_path: Path
) -> None:
    macs = np.array([row["macs"] for row in rows(20)], dtype=float)
    short = 0.5 + 0.1 * np.random.default_rng(1).random(20)
    made = Made(plan, tmp_path, 20, done=scores(short), longer=scores(0.6 + 1e-9 * macs))
    audit = made.audit(range(20))
    by = {proxy.name: proxy for proxy in audit.proxies}
    assert by["MACs"].tau.value == 1.0
    assert by["MACs"].regrets[0].value == 0
    line = text(audit, "x").splitlines()[0]
    assert line == headline(audit)
    assert ", no better than a ranking by MACs, 1.00 [" in line
    assert "], which costs no training: lengthen the trainings" in line
    # Top-1 regret: points between the best and the network that looked best.
    lost = 100 * 1e-9 * (macs.max() - macs[int(np.argmax(short))])
    assert by["short training"].regrets[0].value == pytest.approx(lost)


def test_scores_that_are_all_alike_rank_nothing(plan: Plan, tmp_path: Path) -> None:
    same = scores([0.25] * 8)
    audit = Made(plan, tmp_path, 8, done=same, longer=same).audit(range(8))
    assert headline(audit).startswith("Nothing can be ranked: all scores of 8 networks")
    assert "cannot be told" in text(audit, "x")


def test_failed_trainings_are_left_out_and_said_and_diverged_ones_stand_at_chance(
    plan: Plan, tmp_path: Path
) -> None:
    changes: dict[int, dict[str, Any]] = {
        2: {"state": "failed", "error": "crash: killed\nmore"},
        4: {"state": "diverged", "accuracy": None, "val_loss": None},
    }
    made = Made(
        plan, tmp_path, 9, longer=lambda n: {"accuracy": 0.8 + n / 1000} | changes.get(n, {})
    )
    audit = made.audit(range(9))
    assert audit.failed == ((2, "crash: killed"),)
    assert 2 not in set(audit.frame["trial"])
    assert audit.frame.iloc[-1][["trial", "long", "state"]].tolist() == [4, 0.25, "diverged"]
    assert remarks(audit) == [
        "The trial 2 is left out, its longer training failed: crash: killed.",
        "1 longer training diverged and stands at chance level.",
    ]


def test_too_few_that_came_to_an_end_are_an_error_with_the_reason(
    plan: Plan, tmp_path: Path
) -> None:
    made = Made(
        plan, tmp_path, 9, longer=lambda _: {"state": "failed", "error": "memory: too much\nx"}
    )
    with pytest.raises(WorkFailed, match="9 of 9 failed, the first with: memory: too much; mend"):
        made.audit(range(9))


def test_a_report_finds_the_audit_in_the_record(plan: Plan, tmp_path: Path) -> None:
    points = np.linspace(0.6, 0.8, 12)
    made = Made(plan, tmp_path / "a", 12, done=scores(points), longer=scores(points[::-1]))
    found = recorded(plan, made.history, made.frame)
    assert found is not None
    assert found.proxies[0].tau.value == pytest.approx(-1)
    told = audit_facts(found)
    assert told["headline"] == headline(found)
    assert [sheet["title"] for sheet in told["sheets"]] == [sheet.title for sheet in sheets(found)]
    none = Made(plan, tmp_path / "b", 12, done=scores(points))
    assert recorded(plan, none.history, none.frame) is None
    assert audit_facts(None) == {}
    lost = Made(plan, tmp_path / "c", 6, longer=lambda _: {"state": "failed", "error": "gone"})
    assert recorded(plan, lost.history, lost.frame) is None


def test_a_regression_finds_planted_effects_and_says_what_it_cannot_tell(
    plan: Plan, tmp_path: Path
) -> None:
    made = Made(plan, tmp_path, 24)
    table = design([made.history.trials[n] for n in range(24)])
    assert table.shape == (24, 5)
    short, long = ([2.0, 1.0, -3.0, 0.5, 0.0], [4.0, 2.0, 1.0, -0.5, 0.0])
    made = Made(
        plan,
        tmp_path / "again",
        24,
        done=scores((20 + table @ short) / 100),
        longer=scores((10 + table @ long) / 100),
    )
    audit = made.audit(range(24))
    found = {trend.guideline: trend for trend in audit.trends}
    for place, name in ((1, "g1"), (2, "g2"), (4, "g4")):
        trend = found[name]
        if trend.short is None:
            assert "not separable here" in trend.reason
            continue
        assert trend.way == "a regression over 24 networks"
        assert trend.short == pytest.approx([short[place]] * 3, abs=1e-6)
        assert trend.long == pytest.approx([long[place]] * 3, abs=1e-6)
        assert trend.change == pytest.approx([long[place] - short[place]] * 3, abs=1e-6)
    assert found["g1"].short is not None
    assert "needs a dense task" in found["g3"].reason


HALVES = [[row for row in product((0, 1), repeat=4) if sum(row) % 2 == half] for half in (0, 1)]


def block_of(number: int) -> dict[str, Any]:
    block, member = divmod(number, 8)
    study = {"block": block, "member": member, "levels": list(HALVES[block % 2][member])}
    return {"role": "evidence", "study": study | {"varied": [True] * 4}}


def test_whole_blocks_give_contrasts_and_a_dense_run_all_four(plan: Plan, tmp_path: Path) -> None:
    settings = replace(plan.settings, task="segmentation")
    dense = replace(plan, settings=settings)
    effects = {"miou": ([1.0, 2.0, 3.0, -1.0], [2.0, 2.0, 4.0, 0.0])}
    effects["miou_last"] = ([1.0, 2.0, 1.0, -1.0], [2.0, 2.0, 1.0, 0.0])

    def told(length: int) -> Change:
        def change(number: int) -> dict[str, Any]:
            levels = np.array(block_of(number)["study"]["levels"])
            found = {
                name: (30 + 5 * (number // 8) + levels @ both[length]) / 100
                for name, both in effects.items()
            }
            return {**found, "accuracy": 0.8, "val_loss": 0.5, "val_loss_last": 0.5}

        return change

    made = Made(dense, tmp_path, 24, asked=block_of, done=told(0), longer=told(1))
    audit = made.audit(range(0, 24, 2))
    assert audit.metric == "miou"
    assert [trend.way for trend in audit.trends] == ["3 blocks"] * 4
    # Of guideline 3 the effect by all stages minus the effect by the last alone.
    for trend, short, long in zip(audit.trends, (1, 2, 2, -1), (2, 2, 3, 0), strict=True):
        assert trend.short == pytest.approx([short] * 3)
        assert trend.long == pytest.approx([long] * 3)
        assert trend.change == pytest.approx([long - short] * 3)
    assert "points of mIoU, from 3 blocks." in text(audit, "x")
    # Levels that are known go before compliance scores.
    assert design([made.history.trials[0]])[0, 1:].tolist() == [0, 0, 0, 0]


def test_one_block_is_none(plan: Plan, tmp_path: Path) -> None:
    made = Made(
        plan,
        tmp_path,
        16,
        asked=block_of,
        longer=lambda n: {"accuracy": 0.9, **({} if n != 3 else {"state": "failed", "error": "x"})},
    )
    ways = {trend.way for trend in made.audit([0, 1, 4, 5, 8, 9, 12]).trends}
    assert not any("blocks" in way for way in ways)


def test_the_files_hold_every_table(plan: Plan, tmp_path: Path) -> None:
    made = Made(plan, tmp_path, 12, longer=lambda n: {"accuracy": 0.9 - n / 100})
    audit = made.audit(range(12))
    paths = write(made.run.directory, audit, "replk-search audit x")
    assert [path.relative_to(made.run.directory).as_posix() for path in paths] == [
        *("audit.md", "audit.csv", "figures/audit.png"),
    ]
    written = paths[0].read_text("utf-8")
    for sheet in sheets(audit):
        for row in sheet.rows:
            assert f"| {' | '.join(row)} |" in written
    assert "![scores and ranks at both lengths](figures/audit.png)" in written
    table = pd.read_csv(paths[1])
    assert table["id"].tolist() == audit.frame["id"].tolist()
    assert table["long"].is_monotonic_decreasing
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_the_picture_names_both_lengths_and_every_rank() -> None:
    frame = pd.DataFrame(
        {
            "short": [0.5, 0.6, 0.55],
            "long": [0.7, 0.71, 0.8],
            "rank": [31, 7, 12],
            "rank_short": [3, 1, 2],
            "rank_long": [3, 2, 1],
        }
    )
    figure = audit_figure(frame, metric="miou", factor=2.5, title="a on b")
    left, right = figure.axes
    assert sorted(text.get_text() for text in left.texts) == ["12", "31", "7"]
    assert left.get_xlabel() == "validation mIoU, short training"
    assert [label.get_text() for label in right.get_xticklabels()] == ["short", "2.5 times"]
    assert len(right.lines) == 3


def test_a_trend_without_numbers_has_empty_cells(plan: Plan, tmp_path: Path) -> None:
    made = Made(plan, tmp_path, 8, longer=lambda n: {"accuracy": 0.9 - n / 100})
    audit = replace(
        made.audit(range(8)), trends=(Trend(guideline="g1", way="", reason="of the moon"),)
    )
    sheet = sheets(audit)[1]
    assert sheet.rows == (("G1 structure", "", "", "", ""),)
    assert sheet.notes == ("G1 structure is left out: of the moon.",)


def test_networks_are_those_of_the_made_runs() -> None:
    assert len({network.id for network in networks(24)}) == 24
