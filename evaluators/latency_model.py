"""Latency predicted before a network is built: a sum over its operators, fitted on one device.

The four terms of the literature (multiply-adds of matrix products, of depthwise taps that meet the
map, bytes, number of operators) leave 8 to 22 % held-out error on networks as small as ours. What
closes the gap, each term found on 96 measured networks of two spaces and two backends: channels
count in whole vectors, since a width of 8 takes as long as 16 where a vector has 16 numbers;
kernels above 7 have a rate of their own (half of it in ONNX Runtime), and those above 13 another;
the elements of GELU and of the norms cost arithmetic, not bytes; and operators cost by their kind,
which is all that eager torch has at batch 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from scipy.stats import spearmanr

from evaluators.operators import Operator, operators, operators_by_part
from search_space.architecture import Architecture

SMALL_KERNEL, LARGE_KERNEL = 7, 13
"""Longest sides of kernels that are as fast as a 3 x 3, and as a 9 x 9, multiply-add for
multiply-add."""

FOLDS = 6
"""Parts of the measured networks, each of which is predicted by a model of the others."""

COUNTS = {
    "dense": "dense operators",
    "depthwise": "depthwise operators",
    "norm": "norm operators",
    "response": "response operators",
    "gelu": "GELU operators",
    "relu": "other pointwise operators",
    "sum": "other pointwise operators",
    "pool": "pool operators",
    "resize": "resize operators",
}
"""Terms that count operators, by their kind."""
ELEMENTS = {
    "norm": "norm elements",
    "response": "response elements",
    "gelu": "GELU elements",
    "resize": "resize elements",
}
"""Terms that count the elements that operators of a kind write."""
DENSE = "dense MACs"
SMALL, LARGE, HUGE = (f"depthwise MACs, kernels {size}" for size in ("to 7", "to 13", "above 13"))
TERMS = (DENSE, SMALL, LARGE, HUGE, "bytes", *ELEMENTS.values(), *dict.fromkeys(COUNTS.values()))
"""What latency is a sum of; MACs with channels in whole vectors, depthwise ones without the taps
that fall beside the map."""
LATER_TERMS = (ELEMENTS["resize"], COUNTS["resize"])
"""Those of dense networks."""

HUBER, REWEIGHTED = 1.5, 8
"""Deviations beyond which an error counts less; how often the fit is repeated with new weights."""

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a latency depends on beside the network."""

    num_classes: int
    batch_size: int = 1
    device: str = "cpu"
    """Its name, for the reader."""
    backend: str = "torch"
    threads: int = 1
    vector: int = 1
    """float32 numbers of a vector register; widths count in multiples of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyModel:
    """Milliseconds of a merged network, from its architecture alone."""

    conditions: Conditions
    weights: tuple[float, ...]
    """Milliseconds of one unit of each of `TERMS`, none negative."""
    networks: int
    """Networks it was fitted on."""
    error: float
    """Mean of |predicted / measured - 1| over networks that the model had not seen."""
    spearman: float
    """Rank correlation of predicted and measured latency, of the same predictions."""
    low_ms: float
    """Fastest of the measured networks; the slowest is `high_ms`."""
    high_ms: float

    @classmethod
    def fit(
        cls, architectures: Sequence[Architecture], ms: Sequence[float], conditions: Conditions
    ) -> Self:
        """Fit non-negative weights to the latencies of measured networks.

        `error` and `spearman` are of `FOLDS`-fold cross-validation; the weights are fitted on all.

        Args:
            architectures: at least `FOLDS` networks, better a few dozen, of the space.
            ms: measured milliseconds of each.
            conditions: under which they were measured.

        Raises:
            ValueError: there are fewer networks.
        """
        if len(architectures) < FOLDS:
            raise ValueError(f"at least {FOLDS} networks are needed, got {len(architectures)}")
        features = np.array([features_of(a, conditions) for a in architectures])
        measured = np.array(ms, dtype=float)
        held_out = cross_validated(features, measured)
        return cls(
            conditions=conditions,
            weights=tuple(fit_weights(features, measured).tolist()),
            networks=len(architectures),
            error=relative_error(held_out, measured),
            spearman=rank_correlation(held_out, measured),
            low_ms=float(measured.min()),
            high_ms=float(measured.max()),
        )

    def predict(self, architecture: Architecture) -> float:
        """Give the milliseconds of one batch; 20,000 networks a second."""
        return self._weighted(features_of(architecture, self.conditions))

    def predict_by_part(self, architecture: Architecture) -> dict[str, float]:
        """Give the milliseconds of each part, by the names of `operators_by_part`."""
        parts = operators_by_part(architecture, self.conditions.num_classes)
        return {name: self._weighted(_features(part, self.conditions)) for name, part in parts}

    def _weighted(self, features: Sequence[float]) -> float:
        return sum(weight * value for weight, value in zip(self.weights, features, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, for a file."""
        plain = asdict(self)
        plain["weights"] = dict(zip(TERMS, self.weights, strict=True))
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Read back what `to_dict` gave: predictions are the same to the last bit.

        Models from before there were dense networks have no weight for their terms.

        Raises:
            KeyError, TypeError: it is not of that form, or of other terms.
        """
        rest = dict(plain)
        weights = rest.pop("weights")
        conditions = Conditions(**rest.pop("conditions"))
        known = dict.fromkeys(LATER_TERMS, 0.0) | weights
        return cls(conditions=conditions, weights=tuple(known[term] for term in TERMS), **rest)


def features_of(architecture: Architecture, conditions: Conditions) -> list[float]:
    """Give the values of `TERMS` for one batch of a network."""
    return _features(operators(architecture, conditions.num_classes), conditions)


def _features(listed: Iterable[Operator], conditions: Conditions) -> list[float]:
    batch, vector = conditions.batch_size, conditions.vector
    found = dict.fromkeys(TERMS, 0.0)
    for operator in listed:
        kind = operator.kind
        found[COUNTS[kind]] += 1
        found["bytes"] += operator.bytes(batch)
        if kind in ELEMENTS:
            found[ELEMENTS[kind]] += batch * operator.outputs
        elif operator.macs:
            whole = -(-operator.width // vector) * vector / operator.width
            found[DENSE if kind == "dense" else _of_kernel(operator.side)] += (
                batch * operator.effective_macs * whole
            )
    return list(found.values())


def _of_kernel(side: int) -> str:
    return SMALL if side <= SMALL_KERNEL else LARGE if side <= LARGE_KERNEL else HUGE


def vector_width(device: str) -> int:
    """Give the float32 numbers of a vector register of this machine's CPU; 1 for a GPU."""
    if device != "cpu":
        return 1
    return {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 4)


def fit_weights(features: Vector, measured: Vector) -> Vector:
    """Give the non-negative weights (T) of least relative error.

    Squared up to `HUBER` deviations and absolute beyond (Huber's loss, by reweighted least
    squares), so that a few disturbed measurements do not move it: with 15 % of the times up to
    doubled the error on fresh networks falls from 5.9 to 3.2 %, with none it stays.

    Args:
        features: (N, T).
        measured: (N), positive.
    """
    # Columns differ by nine orders of magnitude; the solver's tolerance is absolute.
    scale = features.mean(axis=0)
    scale[scale == 0] = 1
    ratios, trust = features / scale / measured[:, None], np.ones(len(measured))
    for _ in range(REWEIGHTED):
        weights, _ = nnls(ratios * trust[:, None], trust)
        off = np.abs(ratios @ weights - 1)
        # 1.48 medians of |error| are a deviation where errors are normal.
        limit = HUBER * 1.48 * np.median(off)
        trust = np.sqrt(limit / np.maximum(off, max(limit, 1e-12)))
        if not limit:
            break
    return np.asarray(weights / scale, dtype=float)


def cross_validated(features: Vector, measured: Vector, *, folds: int = FOLDS) -> Vector:
    """Predict each network by a model that was fitted on those of the other folds; (N)."""
    order = np.random.default_rng(0).permutation(len(measured))
    predicted = np.empty(len(measured))
    for fold in range(folds):
        held_out = order[fold::folds]
        others = np.setdiff1d(order, held_out)
        predicted[held_out] = features[held_out] @ fit_weights(features[others], measured[others])
    return predicted


def relative_error(predicted: Vector, measured: Vector) -> float:
    """Give the mean of |predicted / measured - 1|."""
    return float(np.abs(predicted / measured - 1).mean())


def rank_correlation(predicted: Vector, measured: Vector) -> float:
    """Give Spearman's rank correlation; 0 where all values are equal, which ranks nothing."""
    if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return 0.0
    return float(spearmanr(predicted, measured).statistic)
