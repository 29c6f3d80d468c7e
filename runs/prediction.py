"""How well latency was predicted, in the trials that were measured and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from evaluators.latency_model import LatencyModel, rank_correlation, relative_error
from runs.ranking import measured
from search_space.acceptance import LATENCY

PREDICTED = "latency_predicted_ms"
"""Column of a trial's predicted latency."""
FAR_OFF = 4.0
"""A latency that is so many held-out errors from its prediction deserves a second look."""
FAR_OFF_SHOWN = 5


def prediction_check(model: LatencyModel | None, frame: pd.DataFrame) -> dict[str, Any] | None:
    """Say how well the model predicted the trials that were measured.

    Args:
        model: of the run; None without.
        frame: its trials, as `ranking.trials_frame` gives them.

    Returns:
        `trials`, the mean of their relative `error`, `spearman`, and the ids that are `far_off`;
        None where there is no model or fewer than two trials.
    """
    if model is None or PREDICTED not in frame:
        return None
    both = measured(frame)[["id", PREDICTED, LATENCY]].dropna()
    if len(both) < 2:
        return None
    predicted, clocked = (both[name].to_numpy(dtype=float) for name in (PREDICTED, LATENCY))
    far = np.abs(predicted / clocked - 1) > FAR_OFF * model.error
    return {
        "trials": len(both),
        "error": relative_error(predicted, clocked),
        "spearman": rank_correlation(predicted, clocked),
        "far_off": list(dict.fromkeys(both["id"][far])),
    }


def prediction_text(facts: Mapping[str, Any]) -> str:
    """Say how well latency is predicted before a network is built; empty without a model.

    Args:
        facts: of a plan, with its `latency_model`, or of a run, with its `prediction_check` too.
    """
    model = facts.get("latency_model")
    if not model:
        return ""
    conditions = model["conditions"]
    text = (
        f"predicted from the architecture by a model fitted on {model['networks']} networks of the "
        f"space, {model['low_ms']:.3g} to {model['high_ms']:.3g} ms with {conditions['backend']} "
        f"at batch {conditions['batch_size']}: held-out error {model['error']:.1%}, "
        f"Spearman {model['spearman']:.3f}"
    )
    checked = facts.get("prediction_check")
    if not checked:
        return text
    ids = checked["far_off"]
    others = " and others" if ids[FAR_OFF_SHOWN:] else ""
    far = f"far off are {', '.join(ids[:FAR_OFF_SHOWN])}{others}" if ids else "none is far off"
    return (
        f"{text}. Of the {checked['trials']:,} trials that were measured it was off by "
        f"{checked['error']:.1%} on average, Spearman {checked['spearman']:.3f}; {far} (more than "
        f"{FAR_OFF:g} held-out errors)"
    )
