"""How well the latency model predicts networks that it has not seen, by space and backend.

Half of the networks fit the model, the other half is predicted, and the other way round. Beside it
stand the four terms of the literature on the same halves, and what the model's own cross-validation
on the first half had promised. Takes a minute.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from builders import build_network, merge_network
from evaluators.device import tune_allocator
from evaluators.latency import measure_latency
from evaluators.latency_model import (
    DENSE,
    HUGE,
    LARGE,
    SMALL,
    TERMS,
    Conditions,
    LatencyModel,
    Vector,
    features_of,
    fit_weights,
    rank_correlation,
    relative_error,
    vector_width,
)
from evaluators.passes import Backend
from runs.planning import middle
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.yaml_io import load_space

CLASSES = 10
AT_ONCE = 12
BUDGET_S = 0.1


def measured(
    networks: list[Architecture], reference: Architecture, backend: Backend
) -> tuple[Vector, int]:
    """Give milliseconds of the networks, beside the reference, and how many were disturbed."""
    tune_allocator()
    torch.manual_seed(0)
    relative, base, disturbed = [], [], 0
    for first in range(0, len(networks), AT_ONCE):
        *some, last = (
            merge_network(build_network(a, CLASSES))
            for a in (*networks[first : first + AT_ONCE], reference)
        )
        found = measure_latency(
            some,
            last,
            size=reference.size,
            channels=reference.channels,
            backend=backend,
            budget_s=BUDGET_S,
        )
        relative += [latency.relative for latency in found]
        base += [latency.reference_ms for latency in found]
        disturbed += sum(latency.disturbed for latency in found)
    return np.array(relative) * np.median(base), disturbed


def four_terms(networks: list[Architecture], conditions: Conditions) -> Vector:
    """Give MACs of matrix products, effective depthwise MACs, bytes, number of operators."""
    rows = []
    for network in networks:
        terms = dict(zip(TERMS, features_of(network, conditions), strict=True))
        operators = sum(value for term, value in terms.items() if term.endswith("operators"))
        rows.append(
            [terms[DENSE], terms[SMALL] + terms[LARGE] + terms[HUGE], terms["bytes"], operators]
        )
    return np.array(rows)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
@pytest.mark.parametrize(("name", "number"), [("default", 36), ("families", 24)])
def test_held_out_error_of_the_latency_model(name: str, number: int, backend: Backend) -> None:
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime")
    # As many networks fit it as in a run, and as many more are predicted.
    number = 2 * number
    space = load_space(name).bound(size=(28, 28), channels=1)
    census, rng = Census(space), np.random.default_rng(7)
    networks = [census.sample(rng) for _ in range(number)]
    ms, disturbed = measured(networks, middle(space), backend)
    conditions = Conditions(num_classes=CLASSES, vector=vector_width("cpu"), backend=backend)
    plain = four_terms(networks, Conditions(num_classes=CLASSES))
    half = number // 2
    halves = (np.arange(half), np.arange(half, number))
    ours, theirs, promised = np.empty(number), np.empty(number), []
    for own, other in (halves, halves[::-1]):
        model = LatencyModel.fit([networks[i] for i in own], list(ms[own]), conditions)
        promised.append(model.error)
        ours[other] = [model.predict(networks[i]) for i in other]
        theirs[other] = plain[other] @ fit_weights(plain[own], ms[own])
    print(
        f"\n{name:8} {backend:11} {ms.min():.2f} to {ms.max():.2f} ms ({disturbed} of {number} "
        f"disturbed), fitted on {half}, {half} held out: "
        f"error {relative_error(ours, ms):.1%}, Spearman {rank_correlation(ours, ms):.3f} "
        f"(promised {np.mean(promised):.1%}); four terms "
        f"{relative_error(theirs, ms):.1%}, {rank_correlation(theirs, ms):.3f}"
    )
