"""Numbers of a network that need no training: counted, and predicted where there is a model."""

from __future__ import annotations

from evaluators.compliance import compliance
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


def network_fields(architecture: Architecture, num_classes: int) -> dict[str, float | None]:
    """Give what the `done` event of a trial says of its network: sizes, and S1 to S4."""
    counted = cost(architecture, num_classes)
    scores = compliance(architecture)
    return {
        "macs": counted.macs_inference,
        "params": counted.params_inference,
        "macs_train": counted.macs_train,
        "params_train": counted.params_train,
        "activations": counted.activations,
        "s1": scores.s1,
        "s2": scores.s2,
        "s3": scores.s3,
        "s4": scores.s4,
    }


def model_of(plan: Plan) -> LatencyModel | None:
    """Give the model that was frozen when the run began; None without."""
    frozen = plan.facts.get("latency_model")
    return None if frozen is None else LatencyModel.from_dict(frozen)
