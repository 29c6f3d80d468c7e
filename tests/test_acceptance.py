"""How many networks meet the constraints, and what is said when none does."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from search_space.acceptance import acceptance, known_beforehand, require_acceptance, wilson
from search_space.architecture import Architecture
from search_space.errors import SpaceError
from search_space.space import DesignSpace
from search_space.yaml_io import parse_space

STAGES = "{depth: {int: [1, 10]}, width: {int: [1, 100]}, kernel: 3}"


def space_of(constraints: str, *, stages: str = STAGES) -> DesignSpace:
    return parse_space(
        f"input: {{channels: 1, size: 8}}\nstages: [{stages}]\nconstraints:\n  {constraints}\n",
        name="my.yaml",
    )


def measure(network: Architecture) -> Mapping[str, float]:
    """Give simple numbers in place of the cost of a built network."""
    stage = network.stages[0]
    return {"depth": stage.depth, "params": stage.width, "macs": stage.depth * stage.width}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_small_space_is_counted_exactly() -> None:
    found = acceptance(space_of("depth: {max: 4}\n  params: {min: 91}"), measure, rng=rng())
    assert (found.accepted, found.low, found.high) == (40, 40, 40)
    assert found.exact
    assert found.checked == 1000
    assert found.killed == {"depth": 600, "params": 900}
    assert found.seen == {"depth": (1, 10), "params": (1, 100)}
    assert found.text() == "40 within the constraints, all checked"


def test_a_large_space_is_estimated_with_an_interval_that_holds_the_truth() -> None:
    space = space_of("depth: {max: 4}")
    found = acceptance(space, measure, rng=rng(), samples=500, exact_up_to=100)
    assert not found.exact
    assert found.checked == 500
    assert found.low < 400 < found.high
    assert 300 < found.low < found.accepted < found.high < 500
    assert found.text().startswith("about ")
    assert "(95 %: " in found.text()


def test_intervals_of_many_samples_hold_the_truth_as_often_as_they_say() -> None:
    # 95 per cent of 200; the seed is fixed, 180 is four standard deviations below.
    drawn = np.random.default_rng(1).binomial(200, 0.03, size=200)
    held = sum(low <= 0.03 <= high for low, high in (wilson(int(n), 200) for n in drawn))
    assert held >= 180


@pytest.mark.parametrize(
    ("met", "checked", "low", "high"),
    [(0, 2000, 0.0, 0.001917), (2000, 2000, 0.998083, 1.0), (50, 100, 0.403832, 0.596168)],
)
def test_the_interval_is_wilsons(met: int, checked: int, low: float, high: float) -> None:
    assert wilson(met, checked) == pytest.approx((low, high), abs=1e-6)


def test_without_constraints_nothing_is_measured() -> None:
    space = parse_space(f"input: {{channels: 1, size: 8}}\nstages: [{STAGES}]")

    def never(_network: Architecture) -> Mapping[str, float]:
        raise AssertionError

    found = acceptance(space, never, rng=rng())
    assert (found.accepted, found.exact, found.share) == (1000, True, 1.0)
    assert require_acceptance(space, never, rng=rng()).text() == "no constraints"


def test_an_infinite_space_has_a_share() -> None:
    stages = "{depth: {int: [1, 10]}, width: 8, kernel: 3, ffn_ratio: {float: [1, 4]}}"
    space = space_of("depth: {max: 5}", stages=stages)
    found = acceptance(space, measure, rng=rng(), samples=200)
    assert found.accepted == math.inf
    assert 0.4 < found.share < 0.6
    assert "of 200 drawn evenly" in found.text()


def test_constraints_that_nothing_meets_are_refused_at_the_worst() -> None:
    space = space_of("depth: {max: 4}\n  params: {max: 0.5}")
    with pytest.raises(SpaceError) as refused:
        require_acceptance(space, measure, rng=rng())
    assert str(refused.value) == (
        "my.yaml:5: constraints.params: must be met by at least 1 network in 1,000 together with "
        "the other constraints, got 0 of 1,000; max 0.5 refuses 1,000 of them, whose params is "
        "from 1 to 100; nearest: 1; widen it or change the axes"
    )


def test_a_bound_from_below_names_the_greatest_value_seen() -> None:
    with pytest.raises(SpaceError, match=r"^my\.yaml:4: constraints\.macs: .*nearest: 1,000; "):
        require_acceptance(space_of("macs: {min: 5000}"), measure, rng=rng())


def test_constraints_that_one_in_two_thousand_meets_are_refused() -> None:
    stages = "{depth: {int: [1, 40]}, width: {int: [1, 100]}, kernel: 3}"
    space = space_of("macs: {min: 4000}", stages=stages)
    with pytest.raises(SpaceError, match=r"got 1 of 4,000; min 4000 refuses 3,999 of them"):
        require_acceptance(space, measure, rng=rng())


def test_constraints_that_one_in_a_thousand_meets_are_accepted() -> None:
    found = require_acceptance(space_of("macs: {min: 1000}"), measure, rng=rng())
    assert found.accepted == 1


def test_latency_is_judged_where_a_model_tells_it() -> None:
    space = space_of("latency_ms: {min: 0.25, max: 0.5}\n  depth: {max: 4}")
    timed = acceptance(space, lambda a: {**measure(a), "latency_ms": 0.1 * measure(a)["depth"]},
                       rng=rng())  # fmt: skip
    assert timed.accepted == 200
    assert timed.seen["latency_ms"] == pytest.approx((0.1, 1.0))

    known = known_beforehand(space)
    assert acceptance(known, measure, rng=rng()).accepted == 400
    assert [constraint.name for constraint in known.constraints] == ["depth"]


def test_a_space_without_latency_is_known_beforehand_as_it_is() -> None:
    space = space_of("depth: {max: 4}")
    assert known_beforehand(space) is space


def test_the_nearest_latency_is_rounded_to_a_bound_that_some_network_meets() -> None:
    def timed(network: Architecture) -> Mapping[str, float]:
        return {"latency_ms": 0.012344 + 0.001 * network.stages[0].width}

    with pytest.raises(SpaceError) as refused:
        require_acceptance(space_of("latency_ms: {max: 0.001}"), timed, rng=rng())
    assert str(refused.value).startswith("my.yaml:4: constraints.latency_ms: must be met by at ")
    assert "whose predicted latency_ms is from 0.0133 to 0.113; nearest: 0.0134; " in str(
        refused.value
    )
    assert require_acceptance(space_of("latency_ms: {max: 0.0134}"), timed, rng=rng()).met == 10

    with pytest.raises(SpaceError, match=r"nearest: 0\.112; "):
        require_acceptance(space_of("latency_ms: {min: 3}"), timed, rng=rng())


def test_the_same_seed_gives_the_same_estimate() -> None:
    space = space_of("depth: {max: 4}")
    one, other = (
        acceptance(space, measure, rng=rng(), samples=50, exact_up_to=1) for _ in range(2)
    )
    assert one == other
