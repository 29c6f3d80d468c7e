"""Verdicts on made studies, and the statistics beneath against scipy and statsmodels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from evaluators.contrasts import assess, contrast, estimate, holm
from evaluators.decisions import SUPPORTS, decide
from evaluators.evidence import (
    GUIDELINES,
    BlockResult,
    Protocol,
    Verdict,
    block_levels,
    decided,
    gather,
    judge,
    sanity,
)
from evaluators.power import detectable_effect

EVERY = (True,) * 4
PLAN = Protocol(task="segmentation", metric="miou", blocks=12)
LOOKS = replace(PLAN, blocks=24, rule="obrien_fleming")


def block(number: int, effects: tuple[float, ...] = (0, 0, 0, 0), **kinds: Any) -> BlockResult:
    """Make a block whose runs follow the effects (points) exactly but for small seed noise."""
    rng = np.random.default_rng(kinds.get("seed", 0) * 1000 + number)
    varied = kinds.get("varied", EVERY)
    levels = block_levels(varied, number, rng)
    runs = len(levels)
    noise = kinds.get("noise", 0.3)
    last = 60 + levels[:, (0, 1, 3)] @ np.array(effects)[[0, 1, 3]]
    scores = last + levels[:, 2] * effects[2] + noise * rng.normal(size=runs)
    last = last + noise * rng.normal(size=runs)
    slope = kinds.get("slope", -0.03)
    return BlockResult(
        block=number,
        levels=levels,
        varied=varied,
        scores=scores,
        losses=1 + slope * (scores - 60),
        scores_last=last,
        losses_last=1 + slope * (last - 60),
        latency_ms=5
        * (1 - kinds.get("faster", 0.1) * levels[:, 3])
        * rng.uniform(0.99, 1.01, runs),
        macs=1e6 * (1 + 0.004 * levels[:, 0]),
    )


def blocks(
    count: int, effects: tuple[float, ...] = (0, 0, 0, 0), **kinds: Any
) -> list[BlockResult]:
    return [block(number, effects, **kinds) for number in range(count)]


def words(verdicts: tuple[Verdict, ...]) -> list[str]:
    assert tuple(verdict.guideline for verdict in verdicts) == GUIDELINES
    return [verdict.word for verdict in verdicts]


# Design


@pytest.mark.parametrize("number", range(4))
def test_four_factors_stand_in_alternating_half_fractions(number: int) -> None:
    levels = block_levels(EVERY, number, np.random.default_rng(0))
    assert levels.shape == (8, 4)
    assert len({tuple(row) for row in levels.tolist()}) == 8
    assert set(levels.sum(axis=1) % 2) == {number % 2}


@pytest.mark.parametrize(("factors", "runs"), [(4, 8), (3, 4), (2, 4), (1, 2), (0, 1)])
def test_the_levels_of_varied_factors_are_balanced_and_unaliased(factors: int, runs: int) -> None:
    varied = tuple(g < factors for g in range(4))
    levels = block_levels(varied, 3, np.random.default_rng(0))
    assert levels.shape == (runs, 4)
    signs = 2 * levels[:, :factors] - 1
    np.testing.assert_array_equal(signs.T @ signs, runs * np.eye(factors))
    np.testing.assert_array_equal(signs.sum(axis=0), 0)


def test_the_level_of_a_factor_that_left_is_drawn_anew_for_each_block() -> None:
    rng = np.random.default_rng(0)
    drawn = [block_levels((True, False, True, True), number, rng)[:, 1] for number in range(200)]
    assert all(np.ptp(levels) == 0 for levels in drawn)
    assert 70 < sum(levels[0] for levels in drawn) < 130


def test_a_decision_does_not_shift_the_stream_of_levels() -> None:
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    block_levels(EVERY, 0, first)
    block_levels((True, False, False, True), 0, second)
    assert first.integers(1000) == second.integers(1000)


# Statistics


def test_a_contrast_is_the_difference_of_two_means() -> None:
    result = block(0, (1.0, -2.0, 0.5, 0.0))
    for g in range(3):
        up = result.levels[:, g] == 1
        by_hand = result.scores[up].mean() - result.scores[~up].mean()
        assert contrast(result.scores, result.levels)[g] == pytest.approx(by_hand)


def test_contrasts_over_leading_axes_are_those_of_each_block() -> None:
    results = blocks(6)
    stacked = contrast(
        np.stack([result.scores for result in results]).reshape(2, 3, 8),
        np.stack([result.levels for result in results]).reshape(2, 3, 8, 4),
    )
    alone = [contrast(result.scores, result.levels) for result in results]
    np.testing.assert_array_equal(stacked.reshape(6, 4), alone)


def test_intervals_and_p_are_those_of_the_one_sample_t_test() -> None:
    contrasts = gather(blocks(12, (0.3, -0.2, 0.1, 0.0), noise=1.0))
    found = assess(contrasts, margin=0.5, practical=0.5)
    for g in range(4):
        theirs = stats.ttest_1samp(contrasts.score[:, g], 0)
        interval = theirs.confidence_interval(0.95)
        assert found.score.p_two_sided()[g] == pytest.approx(theirs.pvalue)
        assert (found.score.low[g], found.score.high[g]) == pytest.approx(tuple(interval))
    for g in range(3):
        assert found.p[g] == pytest.approx(stats.ttest_1samp(contrasts.score[:, g], 0).pvalue)


def test_guideline_4_takes_the_larger_of_its_two_one_sided_p() -> None:
    for faster in (0.1, 0.003, 0.0, -0.1):
        contrasts = gather(blocks(12, noise=1.0, faster=faster))
        found = assess(contrasts, margin=0.5, practical=0.5)
        costs = stats.ttest_1samp(contrasts.score[:, 3], -0.5, alternative="greater").pvalue
        slower = stats.ttest_1samp(contrasts.latency[:, 3], 0, alternative="less").pvalue
        assert found.p[3] == pytest.approx(max(costs, slower))
        assert found.direction[3] == 1


def test_guideline_4_is_contradicted_by_a_two_sided_p_against_its_margin() -> None:
    contrasts = gather(blocks(12, (0, 0, 0, -2.0), noise=1.0))
    found = assess(contrasts, margin=0.5, practical=0.5)
    assert found.direction[3] == -1
    assert found.p[3] == pytest.approx(stats.ttest_1samp(contrasts.score[:, 3], -0.5).pvalue)


def test_a_block_without_a_factor_says_nothing_about_it() -> None:
    mixed = [*blocks(3), block(3, varied=(True, True, False, True))]
    found = estimate(gather(mixed).score)
    assert found.blocks.tolist() == [4, 4, 3, 4]
    whole = estimate(gather(mixed[:3]).score)
    assert found.mean[2] == whole.mean[2]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_holm_is_that_of_statsmodels(size: int) -> None:
    p = np.random.default_rng(size).uniform(size=(6, size)) ** 3
    theirs = [multipletests(row, method="holm")[1] for row in p]
    np.testing.assert_allclose(holm(p), theirs)


def test_holm_leaves_the_untestable_out_of_the_family() -> None:
    adjusted = holm(np.array([0.01, np.nan, 0.04, 0.02]))
    assert adjusted == pytest.approx([0.03, np.nan, 0.04, 0.04], nan_ok=True)


# Verdicts


def test_every_word_has_its_study() -> None:
    verdicts = judge(PLAN, blocks(12, (1.0, -1.0, 0.0, 0.0)))
    assert words(verdicts) == ["supported", "contradicted", "no practical effect", "supported"]
    assert [verdict.provisional for verdict in verdicts] == [False, True, False, False]
    assert [verdict.reason for verdict in verdicts] == ["", "", "", ""]
    noisy = judge(PLAN, blocks(12, noise=3.0))
    assert words(noisy) == ["undecided"] * 4
    assert "can show an effect of" in noisy[0].reason


def test_a_verdict_carries_its_numbers() -> None:
    results = blocks(12, (1.0, 0.0, 0.5, 0.0), noise=0.8)
    first = judge(PLAN, results)[0]
    contrasts = gather(results)
    values = contrasts.score[:, 0]
    assert (first.blocks, first.up) == (12, int((values > 0).sum()))
    assert first.effect == pytest.approx(values.mean())
    assert first.between_sd == pytest.approx(values.std(ddof=1))
    half = stats.t.ppf(0.975, 11) * values.std(ddof=1)
    assert first.high == pytest.approx(values.mean() + half / np.sqrt(12))
    assert first.new_low == pytest.approx(values.mean() - half * np.sqrt(1 + 1 / 12))
    assert first.loss == pytest.approx(-0.03 * values.mean())
    assert first.loss_low < first.loss < first.loss_high
    assert first.detectable == pytest.approx(first.between_sd * detectable_effect(12, 0.0125))
    assert first.macs_change == pytest.approx(0.004)
    assert first.latency_low < 0 < first.latency_high
    fourth = judge(PLAN, results)[3]
    assert fourth.latency_change == pytest.approx(-0.1, abs=0.01)
    one_sided = detectable_effect(12, 0.0125, sides=1)
    assert fourth.detectable == pytest.approx(fourth.between_sd * one_sided)
    json.dumps([verdict.p_holm for verdict in judge(PLAN, results)])


def test_guideline_3_is_the_difference_between_the_readings() -> None:
    results = blocks(12, (0.0, 0.0, 1.0, 0.0))
    verdict = judge(PLAN, results)[2]
    alike = [replace(result, scores_last=result.scores) for result in results]
    assert verdict.word == "supported"
    assert verdict.effect == pytest.approx(1.0, abs=0.3)
    assert judge(PLAN, alike)[2].effect == 0.0
    assert judge(PLAN, alike)[2].word == "no practical effect"


def test_a_cross_entropy_that_disagrees_leaves_it_undecided() -> None:
    verdicts = judge(PLAN, blocks(12, (1.0, -1.0, 1.0, -2.0), slope=0.03))
    assert words(verdicts) == ["undecided"] * 4
    assert {verdict.reason for verdict in verdicts} == {
        "the score is significant, but the cross-entropy does not agree"
    }


def test_guideline_4_needs_a_lower_latency() -> None:
    same = judge(PLAN, blocks(12, faster=0.0))[3]
    assert same.word == "no practical effect"
    slower = judge(PLAN, blocks(12, noise=1.5, faster=-0.1))[3]
    assert slower.word == "undecided"
    assert "its latency is not shown to be lower" in slower.reason


def test_a_contradiction_is_final_once_four_longer_blocks_agree() -> None:
    results = blocks(12, (-1.0, 0.0, 0.0, -2.0))

    def first(*longer: BlockResult) -> Verdict:
        return judge(PLAN, results, longer)[0]

    assert first().provisional
    assert first(*blocks(3, (-0.5, 0, 0, 0), seed=1)).provisional
    final = first(*blocks(4, (-0.5, 0, 0, 0), seed=1))
    assert (final.word, final.provisional, final.reason) == ("contradicted", False, "")
    back = first(*blocks(4, (0.5, 0, 0, 0), seed=1))
    assert (back.word, back.provisional) == ("undecided", False)
    assert back.reason == "reverses at four times the length"
    assert back.effect == final.effect


def test_the_fixed_rule_looks_once() -> None:
    results = blocks(12, (2.0, -2.0, 2.0, 0.0))
    early = judge(PLAN, results[:8])
    assert words(early) == ["undecided"] * 4
    assert early[0].reason == "8 of 12 planned blocks: the rule looks next after 12"
    assert early[0].p is None
    assert early[0].effect is not None
    assert decided(PLAN, results) == {}
    ended = judge(PLAN, results[:8], ended=True)
    assert ended[0].word == "supported"
    assert ended[0].reason == "the study ended after 8 of 12 planned blocks"
    assert ended[0].p is not None


def test_blocks_beyond_the_plan_do_not_count() -> None:
    results = blocks(16, (1.0, 0.0, 0.0, 0.0))
    assert judge(PLAN, results) == judge(PLAN, results[:12])
    assert judge(PLAN, results[11::-1]) == judge(PLAN, results[:12])


def test_a_sequential_rule_looks_when_it_said_it_would() -> None:
    assert LOOKS.looks() == (8, 12, 16, 20, 24)
    assert replace(LOOKS, blocks=10).looks() == (8, 10)
    assert replace(LOOKS, blocks=6).looks() == (6,)
    assert PLAN.looks() == (12,)
    results = blocks(16, (2.0, 0.0, 0.0, 0.0), noise=0.8)
    assert decided(LOOKS, results[:7]) == {}
    assert decided(LOOKS, results[:8])["g1"] == 8
    waiting = judge(LOOKS, results[:7])[0]
    assert waiting.reason == "7 of 24 planned blocks: the rule looks next after 8"
    assert waiting.p is None


def test_what_is_decided_stays_at_the_blocks_that_decided_it() -> None:
    start = blocks(8, (2.0, 0.0, 0.0, 0.0), noise=0.8)
    varied = (False, True, True, True)
    later = [block(number, noise=3.0, varied=varied) for number in range(8, 14)]
    verdict = judge(LOOKS, [*start, *later])[0]
    assert (verdict.word, verdict.decided_at, verdict.blocks) == ("supported", 8, 8)
    assert verdict == judge(LOOKS, start)[0]
    # Varied further all the same, by a driver that noticed late.
    assert verdict == judge(LOOKS, [*start, *blocks(14, noise=3.0)[8:]])[0]


def test_between_looks_nothing_is_looked_at() -> None:
    results = blocks(15, (0.4, 0.0, 0.0, 0.0), noise=2.0)
    at_12, at_15 = judge(LOOKS, results[:12])[0], judge(LOOKS, results)[0]
    assert at_12.word == at_15.word == "undecided"
    assert (at_15.blocks, at_15.p) == (12, at_12.p)
    assert "15 of 24 planned blocks: the rule looks next after 16" in at_15.reason


def test_the_same_p_is_worth_less_early() -> None:
    results = blocks(24, (0.6, 0.0, 0.0, 0.0), noise=1.2)
    early, last = judge(LOOKS, results[:8])[0], judge(replace(PLAN, blocks=8), results[:8])[0]
    assert early.p == last.p
    assert last.word == "supported"
    assert early.word == "undecided"
    assert early.p_holm > last.p_holm


def test_a_sequential_study_that_ended_is_looked_at_once_more() -> None:
    def first(results: list[BlockResult]) -> Verdict:
        return judge(LOOKS, results, ended=True)[0]

    said = "the study ended after 10 of 24 planned blocks"
    noisy = first(blocks(10, (1.0, 0, 0, 0), noise=2.0))
    assert (noisy.word, noisy.blocks) == ("undecided", 10)
    assert noisy.reason.startswith(said)
    assert noisy.p is not None
    quiet = first(blocks(10, noise=0.4))
    assert quiet.word == "no practical effect"
    late = first(blocks(22, (0.8, 0, 0, 0), noise=1.6, seed=4))
    assert (late.word, late.decided_at) == ("supported", 22)
    assert late.reason == said.replace("10", "22")
    # Too early for the first look.
    few = first(blocks(6, (9.0, 0, 0, 0)))
    assert (few.word, few.p) == ("undecided", None)


@pytest.mark.parametrize("rule", ["fixed", "obrien_fleming"])
def test_a_study_without_a_block_is_judged(rule: str) -> None:
    protocol = replace(PLAN, blocks=0, rule=rule)
    assert words(judge(protocol, [], ended=True)) == ["not testable"] * 4
    assert decided(protocol, []) == {}


# Not testable


def test_what_is_missing_is_not_testable() -> None:
    missing = {"g2": "the space has no dilations axis"}
    verdicts = judge(replace(PLAN, missing=missing), blocks(12, (1.0, 1.0, 1.0, 0.0)))
    assert words(verdicts) == ["supported", "not testable", "supported", "supported"]
    assert verdicts[1] == Verdict(
        guideline="g2", word="not testable", reason="the space has no dilations axis"
    )
    # The others share the level of three.
    p = [verdict.p for verdict in verdicts if verdict.p is not None]
    theirs = multipletests(p, method="holm")[1]
    assert [v.p_holm for v in verdicts if v.p is not None] == pytest.approx(theirs)


def test_one_context_makes_nothing_testable() -> None:
    verdicts = judge(replace(PLAN, contexts=1), blocks(12, (1.0, 1.0, 1.0, 0.0)))
    assert words(verdicts) == ["not testable"] * 4
    assert {verdict.effect for verdict in verdicts} == {None}
    assert "one context" in verdicts[0].reason


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_blocks_make_no_number(count: int) -> None:
    for verdict in judge(PLAN, blocks(count), ended=True):
        assert verdict.word == "not testable"
        assert f"{count} finished" in verdict.reason
        assert verdict.effect is verdict.p is verdict.detectable is None
    assert decided(LOOKS, blocks(count)) == {}


def test_a_constant_metric_makes_nothing_testable() -> None:
    flat = [
        replace(result, scores=np.full(8, 10.0), scores_last=np.full(8, 10.0))
        for result in blocks(12)
    ]
    for verdict in judge(PLAN, flat):
        assert verdict.word == "not testable"
        assert verdict.reason == "the metric is constant: every run has miou 10.00 %"
        assert verdict.effect is None


def test_guideline_3_needs_two_readings() -> None:
    single = [replace(result, scores_last=None, losses_last=None) for result in blocks(12)]
    verdicts = judge(replace(PLAN, task="classification"), single)
    assert verdicts[2].word == "not testable"
    assert "needs a dense task" in verdicts[2].reason
    assert verdicts[0].word == "no practical effect"


def test_guideline_4_needs_a_latency() -> None:
    untimed = [replace(result, latency_ms=np.full(8, np.nan)) for result in blocks(12)]
    verdicts = judge(PLAN, untimed)
    assert verdicts[3].word == "not testable"
    assert "no latency" in verdicts[3].reason
    assert verdicts[0].latency_change is None


def test_effects_without_any_spread_are_judged_without_a_warning() -> None:
    exact = judge(PLAN, blocks(12, (1.0, -1.0, 0.0, 0.0), noise=0.0))
    assert words(exact) == ["supported", "contradicted", "no practical effect", "supported"]
    assert exact[0].p == 0.0
    assert (exact[2].low, exact[2].high, exact[2].p) == (0.0, 0.0, 1.0)


# Documents and the sanity question


def test_a_protocol_comes_back_from_its_document() -> None:
    protocol = replace(LOOKS, missing={"g3": "needs a dense task"}, contexts=5)
    document = json.loads(json.dumps(protocol.document()))
    assert Protocol.from_document(document) == protocol


def test_decide_takes_thousands_of_studies_at_once() -> None:
    one = gather(blocks(12, (1.0, 0.0, 0.0, 0.0)))
    many = type(one)(
        **{
            name: np.broadcast_to(getattr(one, name), (7, 5, 12, 4))
            for name in ("score", "loss", "latency", "macs")
        }
    )
    code = decide(PLAN, many, np.ones((7, 5, 4), dtype=bool)).code
    assert code.shape == (7, 5, 4)
    assert (code[..., 0] == SUPPORTS).all()


def test_the_sanity_question_is_welch_s() -> None:
    rng = np.random.default_rng(0)
    large, small = rng.normal(2, 1, 5), rng.normal(0, 2, 5)
    found = sanity(large, small)
    theirs = stats.ttest_ind(large, small, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(theirs))
    assert found.effect == pytest.approx(large.mean() - small.mean())
    assert sanity([3, 3.1, 3.2], [1, 1.1, 1.2]).word == "rewarded"
    assert sanity([1, 1.1, 1.2], [3, 3.1, 3.2]).word == "punished"
    assert sanity([1, 2, 3], [1, 2, 3.5]).word == "not shown"
    assert sanity([1, 1], [2, 2]).word == "punished"
    assert sanity([1], [2, 2]).word == "not shown"
