"""The latency model: it finds the weights that made the numbers, and says how well it predicts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluators.latency_model import (
    DENSE,
    LARGE,
    SMALL,
    TERMS,
    Conditions,
    LatencyModel,
    cross_validated,
    features_of,
    fit_weights,
    rank_correlation,
    relative_error,
    vector_width,
)
from evaluators.operators import operators
from search_space.architecture import Architecture, Stage, Stem
from search_space.census import Census
from search_space.yaml_io import load_space

CONDITIONS = Conditions(num_classes=10, vector=16)
MADE = {DENSE: 4e-8, SMALL: 3e-8, LARGE: 6e-8, "dense operators": 4e-3, "norm operators": 2e-3}
"""Milliseconds a unit of a device that does not exist."""


def networks(name: str = "families", number: int = 60) -> list[Architecture]:
    census = Census(load_space(name).bound(size=(28, 28), channels=1))
    rng = np.random.default_rng(0)
    return [census.sample(rng) for _ in range(number)]


def made_ms(architectures: list[Architecture], *, noise: float = 0.0) -> list[float]:
    """Give the milliseconds of that device, with so much relative noise."""
    rng = np.random.default_rng(1)
    features = np.array([features_of(a, CONDITIONS) for a in architectures])
    weights = np.array([MADE.get(term, 0.0) for term in TERMS])
    return list(features @ weights * np.exp(noise * rng.standard_normal(len(architectures))))


def test_it_predicts_a_device_that_is_such_a_sum() -> None:
    architectures = networks()
    ms = made_ms(architectures)
    model = LatencyModel.fit(architectures[:36], ms[:36], CONDITIONS)

    predicted = [model.predict(a) for a in architectures[36:]]
    assert predicted == pytest.approx(ms[36:], rel=1e-3)
    assert model.error < 1e-3
    assert model.spearman > 0.999
    assert (model.networks, model.low_ms, model.high_ms) == (36, min(ms[:36]), max(ms[:36]))


def test_its_held_out_error_is_that_on_fresh_networks() -> None:
    architectures = networks(number=200)
    ms = made_ms(architectures, noise=0.05)
    model = LatencyModel.fit(architectures[:36], ms[:36], CONDITIONS)

    predicted = np.array([model.predict(a) for a in architectures[36:]])
    fresh = relative_error(predicted, np.array(ms[36:]))
    # 5 % of noise is a mean error of 4 %; fitting adds to it.
    assert 0.035 < fresh < 0.07
    assert model.error == pytest.approx(fresh, abs=0.025)


def test_a_few_disturbed_measurements_do_not_move_it() -> None:
    architectures = networks(number=120)
    ms = np.array(made_ms(architectures, noise=0.02))
    disturbed = ms.copy()
    disturbed[:36:7] *= 1.8
    model = LatencyModel.fit(architectures[:36], list(disturbed[:36]), CONDITIONS)

    predicted = np.array([model.predict(a) for a in architectures[36:]])
    assert relative_error(predicted, ms[36:]) < 0.03


def test_weights_are_never_negative() -> None:
    architectures = networks(number=24)
    ms = made_ms(architectures, noise=0.3)

    assert min(LatencyModel.fit(architectures, ms, CONDITIONS).weights) >= 0


def test_a_network_is_predicted_by_a_model_that_has_not_seen_it() -> None:
    features = np.ones((12, 1))
    measured = np.full(12, 2.0)
    measured[5] = 1.0

    predicted = cross_validated(features, measured)
    assert predicted[5] == pytest.approx(2.0)
    assert fit_weights(features, measured)[0] < 2.0


def test_it_survives_a_file_to_the_last_bit() -> None:
    architectures = networks(number=24)
    model = LatencyModel.fit(architectures, made_ms(architectures, noise=0.1), CONDITIONS)

    again = LatencyModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    assert [again.predict(a) for a in architectures] == [model.predict(a) for a in architectures]


def test_a_model_from_before_dense_networks_predicts_what_it_did() -> None:
    architectures = networks(number=12)
    model = LatencyModel.fit(architectures, made_ms(architectures), CONDITIONS)
    plain = model.to_dict()
    for term in ("resize operators", "resize elements"):
        del plain["weights"][term]
    again = LatencyModel.from_dict(plain)
    assert again.predict(architectures[0]) == model.predict(architectures[0])


def test_a_model_of_other_terms_is_refused() -> None:
    architectures = networks(number=12)
    plain = LatencyModel.fit(architectures, made_ms(architectures), CONDITIONS).to_dict()
    del plain["weights"]["bytes"]
    with pytest.raises(KeyError):
        LatencyModel.from_dict(plain)


def test_too_few_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 6 networks are needed, got 2"):
        LatencyModel.fit(networks(number=2), [1.0, 2.0], CONDITIONS)


def test_equal_networks_rank_nothing() -> None:
    assert rank_correlation(np.ones(4), np.arange(4.0)) == 0


def test_terms_of_a_plain_network() -> None:
    stage = Stage(depth=2, width=24, kernel=9, placement="LS")
    network = Architecture(
        size=(8, 8), channels=1, block="convnext", stem=Stem(kind="patchify", stride=2),
        transition="convnext", stages=(stage,),
    )  # fmt: skip
    found = dict(zip(TERMS, features_of(network, CONDITIONS), strict=True))

    # Map 4 x 4: a line of a 9 sees all 4 pixels from each of 4, a 3 sees 10.
    assert found[LARGE] == 32 * 16**2
    assert found[SMALL] == 32 * 10**2
    # 24 channels are two vectors of 16, 96 are six, 10 classes one.
    stem, expand, project = 4 * 32 * 16, 24 * 96 * 16, 96 * 32 * 16
    assert found[DENSE] == stem + 2 * (expand + project) + 24 * 16
    assert found["dense operators"] == 1 + 4 + 1
    assert found["depthwise operators"] == 2
    assert found["GELU elements"] == 2 * 96 * 16
    assert found["bytes"] == sum(o.bytes() for o in operators(network, 10))


def test_a_batch_multiplies_work_but_not_operators() -> None:
    network = networks(number=1)[0]
    one = dict(zip(TERMS, features_of(network, CONDITIONS), strict=True))
    many = dict(zip(TERMS, features_of(network, replace(CONDITIONS, batch_size=8)), strict=True))

    for term in TERMS:
        if term.endswith(("MACs", "elements")) or "MACs" in term:
            assert many[term] == 8 * one[term]
        elif term.endswith("operators"):
            assert many[term] == one[term]
    assert one["bytes"] < many["bytes"] < 8 * one["bytes"]


def test_a_gpu_has_no_vectors_to_fill() -> None:
    assert vector_width("cuda") == 1
    assert vector_width("cpu") in (4, 8, 16)
