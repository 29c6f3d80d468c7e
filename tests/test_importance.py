"""Importance of axes: what is put in comes out, and what cannot be read says so."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators.importance import MOST_NETWORKS, Importance, importance
from search_space.features import Feature


def axes_of(networks: int, *, seed: int = 0) -> list[Feature]:
    """Give six axes that were drawn at random, the last two of texts."""
    rng = np.random.default_rng(seed)
    ordered = [
        Feature(
            name=f"stages[{i}].kernel",
            values=tuple(int(2 * v + 3) for v in rng.integers(0, 6, networks)),
            ordered=True,
        )
        for i in range(4)
    ]
    texts = [
        Feature(name=name, values=tuple(str(v) for v in rng.choice(words, networks)), ordered=False)
        for name, words in (("shared.structure", ["none", "se", "x"]), ("block", ["a", "b"]))
    ]
    return [*ordered, *texts]


def fine(found: Importance | str) -> Importance:
    """Take the importances that must be there."""
    assert isinstance(found, Importance)
    return found


@pytest.fixture(scope="module")
def known() -> tuple[list[Feature], np.ndarray, Importance]:
    """Give axes, scores of which the second axis and the structure decide, and the importances."""
    axes = axes_of(160)
    kernel = np.array(axes[1].codes)
    structure = np.array(axes[4].codes) == 1
    score = 2.0 * kernel + 3.0 * structure + 0.5 * np.random.default_rng(1).standard_normal(160)
    return axes, score, fine(importance(axes, score))


def test_the_axes_that_decide_come_first_by_both(
    known: tuple[list[Feature], np.ndarray, Importance],
) -> None:
    found = known[2]
    assert found.names[:2] == ("stages[1].kernel", "shared.structure")
    for shares in (found.permutation, found.ped_anova):
        assert shares[0].value > shares[1].value > 3 * max(s.value for s in shares[2:])
        assert sum(share.value for share in shares) == pytest.approx(1)
        assert all(0 <= s.low <= s.value <= s.high <= 1 for s in shares)
    assert found.permutation[0].low > found.permutation[1].high
    assert found.r2 > 0.9
    assert found.r2_low <= found.r2 <= found.r2_high
    assert found.readable
    assert found.networks == found.used == 160


def test_noise_is_not_readable() -> None:
    axes = axes_of(60, seed=3)
    found = fine(importance(axes, np.random.default_rng(4).standard_normal(60)))
    assert found.r2 < 0.1
    assert not found.readable


def test_an_axis_of_many_values_matters_no_more_and_the_seed_decides_all() -> None:
    rng = np.random.default_rng(9)
    few, many = (
        Feature(name=name, values=tuple(rng.integers(0, levels, 40).tolist()), ordered=True)
        for name, levels in (("few", 3), ("many", 40))
    )
    score = 5.0 * np.array(few.codes) + rng.standard_normal(40)
    found = fine(importance([few, many], score))
    assert importance([few, many], score) == found
    assert found.names == ("few", "many")
    assert found.ped_anova[1].value < 0.25


@pytest.mark.slow
def test_of_many_networks_a_choice_is_used() -> None:
    axes = axes_of(MOST_NETWORKS + 200)[:2]
    found = fine(importance(axes, np.array(axes[1].codes)))
    assert (found.networks, found.used) == (MOST_NETWORKS + 200, MOST_NETWORKS)
    assert found.names[0] == axes[1].name


@pytest.mark.parametrize(
    ("networks", "axes", "score", "why"),
    [
        (19, 6, None, "19 networks are too few to tell axes apart; 20 are needed"),
        (0, 0, None, "0 networks are too few to tell axes apart; 20 are needed"),
        (30, 6, 0.5, "all networks have the same score"),
        (30, 1, None, "the networks differ in one axis only"),
        (30, 0, None, "the networks differ in no axis"),
    ],
)
def test_why_there_are_none_is_said(
    networks: int, axes: int, score: float | None, why: str
) -> None:
    scores = np.arange(networks) if score is None else np.full(networks, score)
    assert importance(axes_of(networks)[:axes], scores) == why


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        importance(axes_of(30), np.full(30, np.nan))
    with pytest.raises(ValueError, match="one for each network"):
        importance(axes_of(30), np.arange(31))
