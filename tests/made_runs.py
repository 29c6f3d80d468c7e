"""Runs that nobody trained: real networks of the shipped space with made-up accuracies."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from evaluators.compliance import compliance
from evaluators.cost import cost
from evaluators.recipe import Recipe
from runs.plan import Settings
from runs.ranking import (
    hypervolume,
    hypervolume_of_estimates,
    objectives_named,
    rank,
    reference_point,
    trials_frame,
)
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.yaml_io import load_space

NAMES = ("accuracy", "latency")


@cache
def networks(count: int) -> tuple[Architecture, ...]:
    """Draw different networks of the shipped space."""
    census = Census(load_space("default").bound(size=(28, 28), channels=1))
    rng = np.random.default_rng(0)
    found: dict[str, Architecture] = {}
    while len(found) < count:
        architecture = census.sample(rng)
        found[architecture.id] = architecture
    return tuple(found.values())


def rows(count: int, **changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Give trials in which larger networks are slower and better; `t3={...}` changes trial 3."""
    rng = np.random.default_rng(1)
    made = []
    for number, architecture in enumerate(networks(count)):
        counted, scores = cost(architecture, 10), compliance(architecture)
        accuracy = 0.8 + 0.015 * np.log(counted.params_train / 1e4) + 0.01 * rng.standard_normal()
        latency = 0.25 + counted.macs_merged / 2e7 + 0.05 * rng.random()
        row = {
            "trial": number,
            "role": "search",
            "state": "complete",
            "id": architecture.id,
            "seed": number,
            "seconds": 9.0,
            "accuracy": round(accuracy * 2000) / 2000,
            "val_loss": 1.6 - 1.3 * accuracy,
            "latency_ms": latency,
            "latency_low_ms": 0.98 * latency,
            "latency_high_ms": 1.03 * latency,
            "macs": counted.macs_merged,
            "params": counted.params_merged,
            "macs_train": counted.macs_train,
            "params_train": counted.params_train,
            "activations": counted.activations,
            **asdict(scores),
            "architecture": architecture.to_json(),
        }
        made.append(row | changes.get(f"t{number}", {}))
    return made


def failed(number: int, error: str | None) -> dict[str, Any]:
    """Give the row of a trial that failed."""
    architecture = networks(number + 1)[number]
    row = {"trial": number, "role": "search", "state": "failed", "id": architecture.id}
    return row | {"error": error, "architecture": architecture.to_json()}


def frame_of(trials: list[dict[str, Any]], names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """Rank trials."""
    return rank(trials_frame(trials), objectives_named(names))


def facts_of(frame: pd.DataFrame, names: tuple[str, ...] = NAMES, **changes: Any) -> dict[str, Any]:
    """Give the facts of a run with these trials, every key that a run writes."""
    objectives = objectives_named(names)
    point = reference_point(frame, objectives)
    complete = frame[frame["state"] == "complete"]
    best = None if complete.empty else str(complete.iloc[0]["id"])
    started = "2026-01-02T03:04:05+00:00"
    command = "replk-search --budget 20"
    session = {"event": "session", "budget": 20, "workers": 2}
    final = {
        "id": best,
        "epochs": 12.0,
        "state": "complete",
        "accuracy": 0.91,
        "test_accuracy": 0.902,
        "baseline_val_accuracy": 0.84,
        "baseline_test_accuracy": 0.836,
    }
    facts: dict[str, Any] = {
        "name": "default",
        "directory": "results/x",
        "recommended": best,
        "final": final if best else None,
        "budget": 20,
        "spent": len(complete),
        "distinct": len(complete),
        "counts": {"complete": len(complete), "duplicate": 14},
        "rejected": {"params <= 500000": 22},
        "exhausted": False,
        "hypervolume": hypervolume(frame, objectives, point),
        "hypervolume_estimated": hypervolume_of_estimates(frame, objectives, point),
        "reference_point": point,
        "reference_network": None,
        "anchors": [],
        "settings": asdict(Settings(budget=20, workers=2, objectives=names)),
        "recipe": asdict(Recipe(epochs=2.0)),
        "timing": {"wall_s": 1320.0},
        "sessions": [{**session, "started": started, "command": command}],
        "command": command,
        "started": started,
        "python": "3.12.1",
        "platform": "Linux",
        "versions": {"torch": "2.13.0", "ray": None},
        "git_commit": "0123456789abcdef",
        "data": {
            "name": "fashion_mnist_12k",
            "source": "shipped",
            "train": 8000,
            "val": 2000,
            "test": 2000,
            "size": [28, 28],
            "channels": 1,
            "classes": ["Coat", "Bag"],
            "majority_share": 0.1,
            "sha256": "bac7e2bf",
        },
        "device": {"device": "cpu", "name": "AMD EPYC", "cores": 2, "threads": 1},
        "networks": "828360",
        "networks_accepted": "every network meets the constraints",
    }
    return facts | changes
