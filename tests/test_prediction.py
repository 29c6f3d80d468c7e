"""What the report says of predicted latency."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from evaluators.latency_model import TERMS, Conditions, LatencyModel
from runs.method_text import method
from runs.prediction import prediction_check, prediction_text

MODEL = LatencyModel(
    conditions=Conditions(num_classes=10, backend="onnxruntime"),
    weights=(1.0,) * len(TERMS),
    networks=36,
    error=0.05,
    spearman=0.9741,
    low_ms=0.10234,
    high_ms=0.4412,
)


def trials(*pairs: tuple[float | None, float | None]) -> pd.DataFrame:
    """Give trials of predicted and measured milliseconds."""
    rows = [
        {"id": f"n{number}", "latency_predicted_ms": predicted, "latency_ms": measured}
        for number, (predicted, measured) in enumerate(pairs)
    ]
    return pd.DataFrame(rows, dtype=object)


def test_the_check_is_of_the_trials_that_were_measured() -> None:
    frame = trials((1.0, 1.0), (1.1, 1.0), (2.0, 2.0), (3.0, 2.0), (None, 1.0), (1.0, None))
    found = prediction_check(MODEL, frame)
    assert found is not None
    assert (found["trials"], found["far_off"]) == (4, ["n3"])
    assert found["error"] == pytest.approx((0.1 + 0.5) / 4)
    assert found["spearman"] == pytest.approx(0.894, abs=0.001)


def test_without_a_model_or_trials_there_is_no_check() -> None:
    frame = trials((1.0, 1.0), (1.1, 1.0))
    assert prediction_check(None, frame) is None
    assert prediction_check(MODEL, frame.head(1)) is None
    assert prediction_check(MODEL, frame.drop(columns="latency_predicted_ms")) is None


def test_words_of_a_plan_and_of_a_run() -> None:
    facts: dict[str, Any] = {"latency_model": MODEL.to_dict()}
    text = prediction_text(facts)
    assert text == (
        "predicted from the architecture by a model fitted on 36 networks of the space, 0.102 to "
        "0.441 ms with onnxruntime at batch 1: held-out error 5.0%, Spearman 0.974"
    )
    checked = {"trials": 200, "error": 0.042, "spearman": 0.981, "far_off": []}
    assert prediction_text(facts | {"prediction_check": checked}) == (
        f"{text}. Of the 200 trials that were measured it was off by 4.2% on average, Spearman "
        "0.981; none is far off (more than 4 held-out errors)"
    )
    checked["far_off"] = [f"n{number}" for number in range(6)]
    said = prediction_text(facts | {"prediction_check": checked})
    assert "far off are n0, n1, n2, n3, n4 and others (more than" in said
    assert dict(method(facts))["prediction"] == text
    assert prediction_text({}) == ""
    assert "prediction" not in dict(method({}))
