"""Numbers about a network: its cost, speed, data and training, and its use of the guidelines.

The names below are the public door; each is imported from its module when it is first asked for,
so that importing `evaluators` alone never imports torch. Functions called like their module are not
repeated here: `from evaluators.cost import cost`, `from evaluators.compliance import compliance`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluators.baseline import linear_baseline
    from evaluators.data import load_data
    from evaluators.images import ImageData, describe, matched
    from evaluators.latency import Latency, device_facts, measure_latency, separable
    from evaluators.recipe import Recipe, default_recipe
    from evaluators.scores import Scores, evaluate
    from evaluators.training import Training, train_briefly

__all__ = [
    "ImageData",
    "Latency",
    "Recipe",
    "Scores",
    "Training",
    "default_recipe",
    "describe",
    "device_facts",
    "evaluate",
    "linear_baseline",
    "load_data",
    "matched",
    "measure_latency",
    "separable",
    "train_briefly",
]

_HOMES = {
    "ImageData": "images",
    "Latency": "latency",
    "Recipe": "recipe",
    "Scores": "scores",
    "Training": "training",
    "default_recipe": "recipe",
    "describe": "images",
    "device_facts": "latency",
    "evaluate": "scores",
    "linear_baseline": "baseline",
    "load_data": "data",
    "matched": "images",
    "measure_latency": "latency",
    "separable": "latency",
    "train_briefly": "training",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluators' has no attribute {name!r}")
    return getattr(import_module(f"evaluators.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
