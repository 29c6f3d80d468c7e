"""The numbers that constraints are about: counted, and predicted where there is a model."""

from __future__ import annotations

from evaluators.cost import cost
from evaluators.latency_model import LatencyModel
from runs.plan import Plan
from search_space.acceptance import LATENCY, Measure
from search_space.architecture import Architecture


def measure_with(num_classes: int, model: LatencyModel | None = None) -> Measure:
    """Give what measures a network before it is built, merged and for one image.

    Args:
        num_classes: outputs of the classifier.
        model: predicts `latency_ms`, of one batch; without it there is no such number.
    """

    def measure(architecture: Architecture) -> dict[str, float]:
        counted = cost(architecture, num_classes)
        found: dict[str, float] = {
            "params": counted.params_inference,
            "macs": counted.macs_inference,
            "activations": counted.activations,
            "depth": counted.depth,
        }
        if model is not None:
            found[LATENCY] = model.predict(architecture)
        return found

    return measure


def model_of(plan: Plan) -> LatencyModel | None:
    """Give the model that was frozen when the run began; None without."""
    frozen = plan.facts.get("latency_model")
    return None if frozen is None else LatencyModel.from_dict(frozen)
