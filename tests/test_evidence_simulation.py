"""The error rates, powers and coverages of whole studies, by simulation.

2,000 studies a case, run by tests/simulated_studies.py through the code that judges real ones.
The powers beside them come from an independent simulation of plain two-sided tests with one
factor of each study of interest; here guideline 4 is a non-inferiority claim, so "all" gives it
the same distance from its margin as the others have from 0.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import stats

from evaluators.contrasts import CONFIDENCE, Floats, estimate
from evaluators.decisions import CONTRADICTS, OPEN, SUPPORTS, adjusted
from evaluators.evidence import GUIDELINES, Protocol, decided, judge
from tests.simulated_studies import NULL, Simulated, World, simulate

NEITHER = (0.0, 0.0, 0.0, 0.0)
"""With no latency saved: guideline 4 is false because it gains nothing."""
INTERACTIONS = 0.3
RULES = ("fixed", "obrien_fleming")
NEAR = 0.05
"""How far a power may lie from the independent simulation; 2,000 studies have an error of .011."""


@cache
def study(
    world: World, *, blocks: int = 24, rule: str = "fixed", freeze: bool = False
) -> Simulated:
    """Simulate each case once."""
    protocol = Protocol(task="segmentation", metric="miou", blocks=blocks, rule=rule)
    return simulate(world, protocol, freeze=freeze)


def keeps_its_error(rate: float) -> bool:
    """The criterion that right rules pass and wrong ones fail; 2,000 studies have s.e. .005."""
    return 0.03 <= rate <= 0.07


def all_of(effect: float) -> tuple[float, ...]:
    return (effect, effect, effect, effect - 0.5)


def lone(effect: float, guideline: int = 0) -> tuple[float, ...]:
    return tuple(effect if g == guideline else at for g, at in enumerate(NULL))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("blocks", [12, 20, 24])
def test_the_family_wise_error_is_that_of_the_protocol(rule: str, blocks: int) -> None:
    assert keeps_its_error(study(World(), blocks=blocks, rule=rule).false_claims())


@pytest.mark.parametrize("rule", RULES)
def test_interactions_leave_the_error_where_it_is(rule: str) -> None:
    world = World(interactions=INTERACTIONS)
    assert keeps_its_error(study(world, rule=rule).false_claims())


@pytest.mark.parametrize("rule", RULES)
def test_true_effects_beside_do_not_raise_the_error_of_the_rest(rule: str) -> None:
    world = World(effects=lone(1.4), interactions=INTERACTIONS)
    assert study(world, rule=rule).false_claims() <= 0.07


@pytest.mark.parametrize("rule", RULES)
def test_a_guideline_that_saves_no_time_is_not_supported(rule: str) -> None:
    found = study(World(effects=NEITHER, faster=0.0, interactions=INTERACTIONS), rule=rule)
    assert found.power(3) <= 0.0125 + 0.01
    assert found.false_claims() <= 0.07


@pytest.mark.parametrize("rule", RULES)
def test_an_early_end_does_not_raise_the_error(rule: str) -> None:
    protocol = Protocol(task="segmentation", metric="miou", blocks=24, rule=rule)
    assert simulate(World(), protocol, ends=14).false_claims() <= 0.07


@pytest.mark.parametrize(("seed_sd", "tau", "least"), [(0.8, 0.5, 0.1), (0.5, 0.4, 0.2)])
def test_freezing_a_decided_factor_breaks_the_error(
    seed_sd: float, tau: float, least: float
) -> None:
    # At its winner's level it lends the others its interactions, which no longer average out.
    world = World(interactions=INTERACTIONS, seed_sd=seed_sd, tau=tau)
    frozen = study(world, rule="obrien_fleming", freeze=True).false_claims()
    assert frozen > least
    assert not keeps_its_error(frozen)
    assert keeps_its_error(study(world, rule="obrien_fleming").false_claims())


def chance_of_a_gain(contrasts: Floats) -> Floats:
    """Give P(effect > 0): prior N(0, 1), the variance shrunk to .8 squared by 4 observations."""
    found = estimate(contrasts)
    freedom = found.blocks - 1 + 4
    variance = ((found.blocks - 1) * found.sd**2 + 4 * 0.8**2) / freedom / found.blocks
    return np.asarray(stats.t.cdf(found.mean / np.sqrt(variance * (1 + variance)), freedom))


def false_claims_at(threshold: float) -> float:
    """Stop at P(effect > 0) beyond the threshold on either side, looked at after every batch."""
    contrasts = study(World()).scores - np.array(NULL)
    chances = [chance_of_a_gain(contrasts[:, :look]) for look in range(4, 25, 4)]
    claimed = np.any([np.abs(chance - 0.5) > threshold - 0.5 for chance in chances], axis=0)
    return float(claimed.any(axis=1).mean())


def test_stopping_at_a_posterior_of_975_breaks_the_error() -> None:
    assert false_claims_at(0.975) > 0.2
    assert not keeps_its_error(false_claims_at(0.975))
    assert keeps_its_error(false_claims_at(0.9975))


@pytest.mark.parametrize(
    ("blocks", "effect", "power_all", "power_lone"),
    [
        (12, 0.5, 0.36, 0.31),
        (12, 1.0, 0.98, 0.92),
        (20, 0.5, 0.71, 0.59),
        (20, 1.0, 1.00, 1.00),
        (24, 0.5, 0.82, 0.70),
        (24, 1.0, 1.00, 1.00),
    ],
)
def test_the_power_of_the_fixed_rule(
    blocks: int, effect: float, power_all: float, power_lone: float
) -> None:
    for guideline in range(3):
        found = study(World(effects=all_of(effect)), blocks=blocks).power(guideline)
        assert found == pytest.approx(power_all, abs=NEAR)
    alone = study(World(effects=lone(effect)), blocks=blocks).power()
    assert alone == pytest.approx(power_lone, abs=NEAR)


@pytest.mark.parametrize(("effect", "power"), [(0.5, 0.57), (1.0, 0.98)])
def test_the_power_of_obrien_fleming(effect: float, power: float) -> None:
    world = World(effects=all_of(effect), interactions=INTERACTIONS)
    found = study(world, rule="obrien_fleming")
    for guideline in range(3):
        assert found.power(guideline) == pytest.approx(power, abs=NEAR)


def test_obrien_fleming_saves_trainings_where_effects_are_large_or_nil() -> None:
    def trainings(world: World) -> float:
        return study(world, rule="obrien_fleming").trainings

    assert trainings(World(effects=all_of(1.0), interactions=INTERACTIONS)) < 0.65 * 192
    assert trainings(World(effects=NEITHER, faster=0.0, interactions=INTERACTIONS)) < 0.8 * 192


@pytest.mark.parametrize(("effect", "over_all", "early"), [(0.5, 0.004, 0.17), (1.0, 0.025, 0.04)])
def test_effects_lean_away_from_nothing_where_a_study_stopped_early(
    effect: float, over_all: float, early: float
) -> None:
    # What the docstring of Verdict warns of.
    world = World(effects=all_of(effect), interactions=INTERACTIONS)
    found = study(world, rule="obrien_fleming")
    bias = found.decision.found.score.mean[:, :3] - effect
    stopped = (found.said(SUPPORTS) & (found.decision.at < 24))[:, :3]
    assert bias.mean() == pytest.approx(over_all, abs=0.01)
    assert bias[stopped].mean() == pytest.approx(early, abs=0.01)


@pytest.mark.parametrize("effects", [NULL, all_of(1.0)], ids=["null", "effects"])
def test_95_percent_intervals_cover(effects: tuple[float, ...]) -> None:
    found = study(World(effects=effects)).decision.found.score
    covered = (found.low <= effects) & (effects <= found.high)
    assert 0.93 <= covered.mean(axis=0).min() <= covered.mean(axis=0).max() <= 0.97


def test_prediction_intervals_cover_a_new_context() -> None:
    contrasts = study(World(), blocks=25).scores
    found, new = estimate(contrasts[:, :24]), contrasts[:, 24]
    half = stats.t.ppf((1 + CONFIDENCE) / 2, 23) * found.sd * np.sqrt(1 + 1 / 24)
    covered = np.abs(new - found.mean) <= half
    assert 0.93 <= covered.mean(axis=0).min() <= covered.mean(axis=0).max() <= 0.97


def test_guideline_4_is_shown_where_it_costs_nothing() -> None:
    # The one-sided .0125 of one guideline, as it stands before any other has been shown.
    found = study(World(effects=NEITHER)).decision.found
    assert (found.p[:, 3] <= 0.0125).mean() == pytest.approx(0.79, abs=NEAR)
    assert (found.p[:, 3] <= 0.05).mean() == pytest.approx(0.93, abs=NEAR)
    assert study(World(effects=NEITHER)).power(3) == pytest.approx(0.79, abs=NEAR)


def test_guideline_4_is_contradicted_where_it_costs_more_than_its_margin() -> None:
    found = study(World(effects=(0.0, 0.0, 0.0, -1.5)))
    assert found.said(CONTRADICTS)[:, 3].mean() > 0.95
    assert found.said(SUPPORTS)[:, 3].sum() == 0


@pytest.mark.parametrize(
    ("rho", "powers"), [(0.0, (0.47, 0.99)), (0.5, (0.70, 1.0)), (0.8, (0.89, 1.0))]
)
def test_guideline_3_gains_by_the_correlation_of_its_readings(
    rho: float, powers: tuple[float, ...]
) -> None:
    for effect, power in zip((0.5, 1.0), powers, strict=True):
        found = study(World(effects=lone(effect, 2), rho=rho))
        assert found.power(2) == pytest.approx(power, abs=NEAR)


@pytest.mark.parametrize("rule", RULES)
def test_one_study_is_judged_as_the_thousands_are(rule: str) -> None:
    world = World(effects=(1.0, -0.7, 0.5, 0.0), interactions=INTERACTIONS)
    protocol = Protocol(task="segmentation", metric="miou", blocks=24, rule=rule)
    found = simulate(world, protocol, studies=25, keep=True)
    p_holm = adjusted(protocol, found.decision)
    words = {SUPPORTS: "supported", CONTRADICTS: "contradicted", 2: "no practical effect"}
    for each in range(25):
        handed = [block.result(each, number) for number, block in enumerate(found.blocks)]
        results = [result for result in handed if result is not None]
        at = found.decision.at[each]
        assert decided(protocol, results) == {
            name: at[g] for g, name in enumerate(GUIDELINES) if at[g]
        }
        for g, verdict in enumerate(judge(protocol, results[::-1], ended=True)):
            code = int(found.decision.code[each, g])
            assert verdict.word == words.get(code, "undecided")
            assert verdict.effect == pytest.approx(found.decision.found.score.mean[each, g])
            assert verdict.p_holm == pytest.approx(p_holm[each, g])
            if code in (OPEN, SUPPORTS, CONTRADICTS):
                assert (verdict.p_holm <= 0.05) == (code != OPEN)
