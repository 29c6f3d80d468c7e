"""Estimates of networks: the noise arithmetic, shrinkage, standing and the front, calibrated."""

from __future__ import annotations

import pytest

from evaluators.estimates import noise


@pytest.mark.parametrize(
    ("between", "one", "three"),
    [
        (0.5, (0.28, 0.18, 0.36), (0.54, 0.36, 0.53)),
        (0.8, (0.50, 0.33, 0.50), (0.75, 0.54, 0.67)),
        (1.5, (0.78, 0.57, 0.69), (0.91, 0.73, 0.81)),
        (2.5, (0.91, 0.72, 0.80), (0.97, 0.84, 0.88)),
    ],
)
def test_the_ceilings_of_tau_at_a_seed_deviation_of_0_8(
    between: float, one: tuple[float, ...], three: tuple[float, ...]
) -> None:
    for seed_sd, expected in ((0.8, one), (0.8 / 3**0.5, three)):
        told = noise(seed_sd, 60, between)
        given = (told.reliability, told.tau_repeat, told.tau_ceiling)
        assert given == pytest.approx(expected, abs=0.005)
