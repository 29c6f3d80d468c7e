"""The recipe of each task."""

from __future__ import annotations

import pytest

from evaluators.recipe import Recipe, default_recipe


def test_classification_keeps_the_plain_recipe_and_segmentation_has_its_own() -> None:
    assert default_recipe("classification") == Recipe()
    dense = default_recipe("segmentation")
    # A dense image holds thousands of examples: smaller batches, and more steps, at like cost.
    assert dense.batch_size < Recipe().batch_size
    assert dense.steps(3000) == 375
    # A small set is seen more often: 521 images, as the brains have.
    assert default_recipe("segmentation", 521).steps(521) == pytest.approx(375, rel=0.02)
    assert dense.label_smoothing == 0
