"""The smallest effect a t test can see, against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from evaluators.power import detectable_effect, t_power

SIDES = {2: "two-sided", 1: "larger"}


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize(("effect", "blocks", "alpha"), [(0.3, 24, 0.05), (0.7, 12, 0.0125)])
def test_the_power_is_that_of_statsmodels(
    effect: float, blocks: int, alpha: float, sides: int
) -> None:
    theirs = TTestPower().power(effect, blocks, alpha, alternative=SIDES[sides])
    assert t_power(effect, blocks, alpha, sides=sides) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("blocks", [5, 8, 12, 20, 24, 100])
def test_the_detectable_effect_is_that_of_statsmodels(blocks: int, sides: int) -> None:
    theirs = TTestPower().solve_power(
        nobs=blocks, alpha=0.0125, power=0.8, alternative=SIDES[sides]
    )
    assert detectable_effect(blocks, 0.0125, sides=sides) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("blocks", [2, 3])
def test_two_blocks_already_have_a_detectable_effect(blocks: int) -> None:
    effect = detectable_effect(blocks, 0.0125)
    rng = np.random.default_rng(0)
    samples = rng.normal(effect, 1, size=(20_000, blocks))
    seen = stats.ttest_1samp(samples, 0, axis=1).pvalue <= 0.0125
    assert seen.mean() == pytest.approx(0.8, abs=0.015)


def test_without_an_effect_the_power_is_the_level() -> None:
    assert t_power(0.0, 24, 0.0125) == pytest.approx(0.0125)
    assert t_power(0.0, 24, 0.0125, sides=1) == pytest.approx(0.0125)


def test_more_blocks_see_less() -> None:
    effects = [detectable_effect(blocks, 0.0125) for blocks in range(2, 40)]
    assert effects == sorted(effects, reverse=True)
