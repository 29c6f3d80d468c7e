from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runs.blocks import block_results, chance_level
from runs.evidence_facts import guideline_facts, study_text
from runs.history import History, Trial
from runs.study import hash_of, study_of
from search_space.errors import RunError
from tests.played import Score, noisy, planned, played

LACKS_SE = """\
name: plain
block: unireplknet
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: {choice: [8, 16, 24]}, kernel: {choice: [3, 9, 13]}}
  - depth: 2
    width: {choice: [24, 32, 40, 48]}
    kernel: {choice: [7, 13]}
    placement: {choice: [L, LS]}
every_stage: {dilations: {choice: [none, paper]}, structure: none, ffn_ratio: 2}
"""
ONE_CONTEXT = (
    LACKS_SE.replace("{choice: [8, 16, 24]}", "8")
    .replace("{choice: [24, 32, 40, 48]}", "24")
    .replace("{choice: [7, 13]}", "7")
    .replace("structure: none", "structure: {choice: [none, se]}")
)


def verdicts(plan: Any, history: History) -> dict[str, dict[str, Any]]:
    facts = guideline_facts(plan, history)
    assert facts is not None
    return {verdict["guideline"]: verdict for verdict in facts["verdicts"]}


def test_everything_that_could_be_chosen_later_is_hashed_before() -> None:
    plan = planned(budget=60, noise=10, evidence=48, confirm=2)
    document = plan.facts["study"]
    assert document["sha256"] == hash_of(document)
    assert {"protocol", "hypotheses", "levels", "contexts", "pair", "seed"} <= set(document)
    assert planned(budget=60, noise=10, evidence=48, confirm=2).facts["study"] == document
    softer = {**document, "protocol": {**document["protocol"], "alpha": 0.1}}
    with pytest.raises(RunError, match="must be as it was fixed before the first training"):
        study_of(replace(plan, facts={**plan.facts, "study": softer}))


def test_blocks_are_half_fractions_of_matched_networks_in_random_order() -> None:
    plan = planned(budget=48, noise=0, evidence=48, confirm=0)
    history = played(plan, noisy({}))
    results = block_results(history, "accuracy", chance_level(plan))
    assert [result.block for result in results] == list(range(6))
    for result in results:
        assert result.levels.shape == (8, 4)
        assert set(result.levels.sum(axis=1) % 2) == {result.block % 2}
        assert result.macs.min() >= 0.99 * result.macs.max()
    order = [t.study["block"] for t in history.trials.values() if t.study is not None]
    assert order != sorted(order)


def test_effects_that_are_there_are_found_and_worded() -> None:
    plan = planned(budget=96, noise=0, evidence=96, confirm=0)
    found = verdicts(plan, played(plan, noisy({0: 2.0, 1: -2.0}, seed_sd=0.4)))
    assert (found["g1"]["word"], found["g2"]["word"]) == ("supported", "contradicted")
    assert found["g2"]["provisional"]
    assert found["g1"]["effect"] == pytest.approx(2.0, abs=0.5)
    assert found["g3"]["word"] == "not testable"
    assert "needs a dense task" in found["g3"]["reason"]
    assert found["g3"]["effect"] is None
    assert found["g4"]["word"] != "not testable"
    assert found["g4"]["latency_change"] is not None


def test_a_dense_task_tests_all_four() -> None:
    plan = planned(task="segmentation", budget=96, noise=0, evidence=96, confirm=0)
    found = verdicts(plan, played(plan, noisy({2: 3.0}, seed_sd=0.3, metric="miou")))
    assert found["g3"]["word"] == "supported"
    assert found["g3"]["effect"] == pytest.approx(1.5, abs=0.4)
    assert "not testable" not in {verdict["word"] for verdict in found.values()}


def test_a_diverged_training_counts_at_chance_level() -> None:
    usual = noisy({})

    def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
        if trial.study == {"block": 0, "member": 0, "levels": [0] * 4, "varied": [True] * 4}:
            return {"state": "diverged", "accuracy": None, "val_loss": None}
        return usual(trial, rng)

    plan = planned(budget=16, noise=0, evidence=16, confirm=0)
    results = block_results(played(plan, score), "accuracy", chance_level(plan))
    assert results[0].scores.min() == 10.0
    assert results[0].losses.max() == pytest.approx(np.log(10))


def test_a_block_that_lost_a_training_is_left_out_and_counted() -> None:
    def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
        failed = trial.study is not None and trial.study["block"] == 1
        return {"state": "failed", "error": "no"} if failed else noisy({})(trial, rng)

    plan = planned(budget=24, noise=0, evidence=24, confirm=0)
    facts = guideline_facts(plan, played(plan, score))
    assert facts is not None
    assert facts["incomplete"] == 1
    assert {verdict["blocks"] for verdict in facts["verdicts"] if verdict["blocks"]} == {2}


@pytest.mark.parametrize("rule", ["fixed", "obrien_fleming"])
def test_a_space_that_lacks_an_axis_says_which(rule: str) -> None:
    plan = planned(LACKS_SE, budget=40, noise=0, evidence=40, confirm=0, rule=rule)
    found = verdicts(plan, played(plan, noisy({})))
    assert found["g1"]["word"] == "not testable"
    assert "structure" in found["g1"]["reason"]
    assert found["g2"]["word"] != "not testable"


def test_a_space_of_one_context_is_not_tested_and_trains_no_block() -> None:
    plan = planned(ONE_CONTEXT, budget=40, noise=0, evidence=40, confirm=0, study_alone=True)
    history = played(plan, noisy({}))
    assert not history.trials
    found = verdicts(plan, history)
    assert all(verdict["word"] == "not testable" for verdict in found.values())
    assert "one context" in found["g1"]["reason"]
    assert "the space has 1 context" in study_text(plan.facts, plan.settings)


def test_a_constant_metric_tests_nothing() -> None:
    plan = planned(budget=16, noise=0, evidence=16, confirm=0)
    same: Score = lambda _trial, _rng: {"accuracy": 0.1, "val_loss": 2.3}  # noqa: E731
    found = verdicts(plan, played(plan, same))
    assert all(verdict["word"] == "not testable" for verdict in found.values())
    assert "constant" in found["g1"]["reason"]
    assert all(verdict["effect"] is None for verdict in found.values())


def test_a_decided_factor_leaves_the_design_and_its_level_is_drawn() -> None:
    plan = planned(budget=200, noise=0, evidence=128, confirm=0, rule="obrien_fleming")
    history = played(plan, noisy({0: 9.0}, seed_sd=1.5))
    later = [t for t in history.trials.values() if t.study is not None and t.study["block"] >= 8]
    assert all(t.study["varied"][0] is False for t in later if t.study is not None)
    drawn = {(t.study["block"], t.study["levels"][0]) for t in later if t.study is not None}
    assert len(drawn) == len({block for block, _ in drawn})
    assert {level for _, level in drawn} == {0, 1}
    # What the rule saves goes to the search.
    assert sum(t.role == "evidence" for t in history.trials.values()) < 128
    assert history.spent == 200
    assert verdicts(plan, history)["g1"]["decided_at"] == 8


def test_a_study_ends_where_every_guideline_that_it_can_test_is_decided() -> None:
    plan = planned(
        budget=128, noise=0, evidence=128, confirm=0, rule="obrien_fleming", study_alone=True
    )
    history = played(plan, noisy({0: 4.0, 1: 4.0, 3: -4.0}, seed_sd=0.3))
    assert len(history.trials) == 64
    found = verdicts(plan, history)
    assert [found[g]["decided_at"] for g in ("g1", "g2", "g4")] == [8, 8, 8]


def test_the_noise_floor_answers_whether_large_kernels_are_rewarded() -> None:
    def score(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
        points = 60 + 3 * (trial.asked.get("noise") == "large") + 0.3 * rng.standard_normal()
        return {"accuracy": points / 100, "val_loss": 1.0}

    plan = planned(budget=26, noise=10, evidence=16, confirm=0)
    facts = guideline_facts(plan, played(plan, score))
    assert facts is not None
    assert facts["sanity"]["word"] == "rewarded"
    assert facts["sanity"]["effect"] == pytest.approx(3, abs=0.5)
    assert [len(scores) for scores in facts["sanity"]["trainings"].values()] == [5, 5]
