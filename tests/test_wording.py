"""Numbers and scores in words."""

from __future__ import annotations

import pytest

from runs.ranking import OBJECTIVES
from runs.wording import is_dense, quantity, score_text


def test_a_classifier_reaches_a_share_of_the_images() -> None:
    assert score_text({"accuracy": 0.8125}, "the test images") == "81.2% of the test images"
    assert score_text({"accuracy": 0.8125, "miou": None}) == "81.2%"


def test_a_dense_network_reaches_an_miou_and_a_share_of_the_pixels() -> None:
    scores = {"accuracy": 0.801, "miou": 0.312}
    told = "an mIoU of 31.2% on the test images, with 80.1% of the pixels"
    assert score_text(scores, "the test images") == told
    assert score_text(scores) == "an mIoU of 31.2%, with 80.1% of the pixels"


@pytest.mark.parametrize(
    ("facts", "task"),
    [
        ({}, "classification"),
        ({"data": {"task": "classification"}}, "classification"),
        ({"data": {"task": "segmentation"}}, "segmentation"),
    ],
)
def test_the_task_is_the_datas(facts: dict[str, dict[str, str]], task: str) -> None:
    assert is_dense(facts) is (task == "segmentation")


@pytest.mark.parametrize("name", ["accuracy", "miou"])
def test_scores_are_shares(name: str) -> None:
    assert quantity(0.5, OBJECTIVES[name]) == "50.0%"
