"""Runs on disk that nobody trained: real networks and records, results from a formula."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.compliance import compliance
from evaluators.cost import cost
from runs.plan import Plan
from runs.records import RECORD_NAME, SCHEMA, Event, encode
from search_space.architecture import Architecture
from search_space.census import Census
from tests.micro import SPACE
from tests.played import planned

DATA = {"name": "shapes", "train": 3000, "val": 600, "test": 600, "size": [28, 28], "channels": 1}
DATA |= {"classes": [str(i) for i in range(10)], "majority_share": 0.1, "sha256": "ab" * 32}
DEVICE = {"device": "cpu", "name": "EPYC", "cores": 2, "threads": 1}
STARTED = "2026-01-02T03:04:05+00:00"
NETWORKS = 24


@cache
def basis() -> Plan:
    """Plan a run of the small space of `micro`."""
    return planned(SPACE, noise=0, evidence=0, confirm=0, budget=8)


@cache
def networks() -> list[tuple[Architecture, dict[str, Any]]]:
    """Draw different networks, each with what is known of it before it is trained."""
    census, rng = Census(basis().space), np.random.default_rng(0)
    found: dict[str, Architecture] = {}
    while len(found) < NETWORKS:
        architecture = census.sample(rng)
        found[architecture.id] = architecture
    return [(architecture, _known(architecture)) for architecture in found.values()]


def _known(architecture: Architecture) -> dict[str, Any]:
    counted, scores = cost(architecture, 10), compliance(architecture)
    latency = counted.macs_inference / 1e7
    known: dict[str, Any] = {"macs": counted.macs_inference, "params": counted.params_inference}
    known |= {"latency_ms": latency, "latency_low_ms": latency, "latency_high_ms": latency}
    return known | {name: getattr(scores, name) for name in ("s1", "s2", "s3", "s4")}


def plan_of(*, epochs: float = 1.0, facts: dict[str, Any] | None = None, **settings: Any) -> Plan:
    """Plan a run; `facts` changes what was found when it began."""
    plan = basis()
    found = {"data": DATA, "device": DEVICE, "started": STARTED, "versions": {"torch": "2.13.0"}}
    return replace(
        plan,
        facts={**found, **(facts or {})},
        recipe=replace(plan.recipe, epochs=epochs),
        settings=replace(plan.settings, **settings),
    )


def made_run(
    directory: Path,
    *,
    seed: int = 0,
    gain: float = 0.0,
    trials: int = 8,
    state: str = "complete",
    changed: dict[int, dict[str, Any]] | None = None,
    reference_ms: float = 0.25,
    **plan: Any,
) -> Path:
    """Write a run whose networks the seed picks.

    Args:
        directory: of the run.
        seed: of the run.
        gain: what is added to all accuracies, in shares.
        trials: how many are asked for and finished.
        state: of all trials.
        changed: fields of the results, by the trial.
        reference_ms: latency of its reference network.
        **plan: of `plan_of`.
    """
    made = plan_of(seed=seed, **plan)
    rng = np.random.default_rng(seed)
    # The time of a training is no other's, not even with the same seed.
    took = zlib.crc32(directory.name.encode()) / 2**32

    def events() -> Iterator[Event]:
        yield {"event": "header", "schema": SCHEMA, "plan": made.document()}
        yield {"event": "session", "budget": made.settings.budget, "workers": 1}
        yield {"event": "reference", "id": "0" * 12, "latency_ms": reference_ms}
        for number, place in enumerate(rng.permutation(NETWORKS)[:trials]):
            network, known = networks()[place]
            asked = {"trial": number, "role": "search", "id": network.id, "seed": 9 * seed + number}
            yield {"event": "asked", **asked, "architecture": network.to_json()}
            yield {"event": "started", "trial": number}
            accuracy = 0.5 + 0.05 * np.log(known["params"] / 1e3) + 0.02 * rng.standard_normal()
            accuracy = round(float(accuracy) + gain, 4)
            result = {"state": state, "accuracy": accuracy, "val_loss": 2 - accuracy, **known}
            result |= {"seconds": number + took, **(changed or {}).get(number, {})}
            yield {"event": "done", "trial": number, **result}

    directory.mkdir()
    made.write(directory)
    lines = [encode({"seq": seq, **event}) for seq, event in enumerate(events())]
    (directory / RECORD_NAME).write_bytes(b"".join(lines))
    return directory
