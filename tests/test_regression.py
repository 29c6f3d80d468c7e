from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from evaluators.regression import slopes


@pytest.mark.parametrize("rows", [7, 20, 60])
def test_slopes_and_intervals_are_those_of_statsmodels(rows: int) -> None:
    rng = np.random.default_rng(rows)
    columns = np.column_stack(
        [rng.normal(15, 0.4, rows), rng.integers(0, 2, (rows, 2)), rng.random((rows, 2))]
    )
    values = 70 + columns @ [3, 1, -1, 0.5, 0] + rng.normal(0, 0.8, rows)
    found = slopes(columns, values)
    oracle = sm.OLS(values, sm.add_constant(columns)).fit()
    np.testing.assert_allclose(found.value, oracle.params[1:], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        np.column_stack([found.low, found.high]), oracle.conf_int()[1:], rtol=1e-8, atol=1e-8
    )
    assert found.freedom == oracle.df_resid


def test_a_column_that_does_not_vary_has_no_slope_and_costs_no_freedom() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(10), rng.random(10)
    with_it, without = slopes(np.column_stack([x, np.ones(10)]), y), slopes(x, y)
    assert np.isnan([with_it.value[1], with_it.low[1]]).all()
    assert with_it.value[0] == pytest.approx(without.value[0])
    assert (with_it.freedom, with_it.low[0]) == (8, pytest.approx(without.low[0]))


def test_columns_that_say_the_same_have_no_slope_each_and_the_others_keep_theirs() -> None:
    rng = np.random.default_rng(1)
    one, two, y = rng.random(12), rng.random(12), rng.random(12)
    found = slopes(np.column_stack([one, two, 3 - 2 * one]), y)
    assert np.isnan(found.value[[0, 2]]).all()
    kept = slopes(np.column_stack([one, two]), y)
    assert found.value[1] == pytest.approx(kept.value[1])
    assert found.high[1] == pytest.approx(kept.high[1])


def test_without_a_row_to_spare_there_is_no_interval() -> None:
    found = slopes([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [1.0, 2.0, 4.0])
    np.testing.assert_allclose(found.value, [3, 2])
    assert np.isnan([found.low, found.high]).all()
    assert found.freedom == 0


def test_exact_data_give_exact_slopes() -> None:
    found = slopes([[0.0], [1.0], [2.0], [5.0]], [1.0, 3.0, 5.0, 11.0])
    np.testing.assert_allclose([found.value, found.low, found.high], [[2], [2], [2]])
