"""Calibration before a search: which networks, what is frozen, what a constraint does with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluators.cost import cost
from evaluators.latency_model import LatencyModel
from runs import session
from runs.blocks import chance_level
from runs.calibration import (
    AT_ONCE,
    GOOD_ERROR,
    NETWORKS,
    applied,
    calibrate,
    draw_networks,
    needs_model,
    worth_model,
)
from runs.engines import PRELOAD
from runs.history import History
from runs.latencies import TRIAL_BUDGET_S
from runs.measures import measure_with, model_of
from runs.objective import LatencyJob
from runs.plan import Plan, load_plan
from runs.proposals import Proposer
from runs.ranking import objectives_named
from runs.records import read_events
from runs.timing import measurement_s
from runs.workers import Finished, Job, Pool, PoolEvent
from search_space.acceptance import known_beforehand
from search_space.architecture import Architecture
from search_space.errors import SpaceError, WorkFailed
from tests.micro import SPACE, Inputs

pytest_plugins = ["tests.micro_fixtures"]

Milliseconds = Callable[[Architecture, int], float]


def by_macs(network: Architecture, _call: int) -> float:
    """Give the latency of a device that knows multiply-adds alone."""
    return 0.1 + 1e-5 * cost(network, 4).macs_inference


class Device:
    """Stands in for a pool on a device whose speed is known: what latency jobs bring."""

    free = 1

    def __init__(self, milliseconds: Milliseconds = by_macs) -> None:
        self.milliseconds = milliseconds
        self.jobs: list[LatencyJob] = []
        self.waiting: list[Job] = []

    def submit(self, job: Job) -> None:
        self.waiting.append(job)

    def events(self, timeout: float | None = None) -> Sequence[PoolEvent]:  # noqa: ARG002
        found: list[PoolEvent] = []
        for job in self.waiting:
            self.jobs.append(job.payload)
            networks = [self._latency(job.payload, a) for a in job.payload.architectures]
            found.append(Finished(key=job.key, outcome="ok", value={"networks": networks}))
        self.waiting.clear()
        return found

    def _latency(self, job: LatencyJob, network: Architecture) -> dict[str, Any]:
        call = len(self.jobs)
        median = self.milliseconds(network, call)
        relative = median / self.milliseconds(job.reference, call)
        plain = dict.fromkeys(("median_ms", "low_ms", "high_ms"), median)
        ratios = dict.fromkeys(("relative", "relative_low", "relative_high"), relative)
        return {**plain, **ratios, "disturbed": False}


def planned(inputs: Inputs, constraints: str = "", **settings: Any) -> Plan:
    extra = f"constraints: {constraints}\n" if constraints else ""
    return inputs.planned(text=SPACE + extra, **settings)[0]


def test_a_constraint_on_latency_needs_a_model_and_a_long_run_is_worth_one(inputs: Inputs) -> None:
    assert needs_model(planned(inputs, "{latency_ms: {max: 3}}"))
    assert not needs_model(planned(inputs, "{params: {min: 1}}"))
    assert not worth_model(planned(inputs, budget=200))
    assert worth_model(planned(inputs, budget=200, objectives=("accuracy", "latency")))
    assert not worth_model(planned(inputs, budget=20, objectives=("accuracy", "latency")))


def test_a_few_dozen_networks_are_measured_a_few_at_a_time(inputs: Inputs) -> None:
    device, plan = Device(), planned(inputs, "{latency_ms: {max: 3}}", latency_batch=4)
    calibration = calibrate(plan, device)

    alone, *together = device.jobs
    assert alone.architectures == (plan.reference,)
    assert [len(job.architectures) for job in together] == [AT_ONCE] * (NETWORKS // AT_ONCE)
    assert {job.batch_size for job in device.jobs} == {4}
    assert {job.reference for job in device.jobs} == {plan.reference}
    assert len({network["id"] for network in calibration.networks}) == NETWORKS
    assert calibration.model.networks == NETWORKS
    assert calibration.model.conditions.batch_size == 4
    assert calibration.model.error < GOOD_ERROR
    for network in calibration.networks:
        assert network["latency_predicted_ms"] == pytest.approx(network["latency_ms"], rel=0.2)


def test_the_networks_meet_the_constraints_that_are_known(inputs: Inputs) -> None:
    plan = planned(inputs, "{latency_ms: {max: 0.001}, params: {max: 1200}}")
    drawn = draw_networks(plan, 20)
    assert len({network.id for network in drawn}) == 20
    assert max(cost(network, 4).params_inference for network in drawn) <= 1200
    assert drawn == draw_networks(plan, 20)


def test_a_space_of_few_networks_is_measured_whole(inputs: Inputs) -> None:
    text = """\
name: few
stem: {kind: unireplknet, stride: 2}
stages: [{depth: 1, width: {choice: [4, 6]}, kernel: 3}]
"""
    plan, _ = inputs.planned(text=text)
    drawn = draw_networks(plan, 36)
    assert (len(drawn), len({network.id for network in drawn})) == (6, 2)
    assert calibrate(plan, Device()).model.error < 1e-6


def test_the_model_is_frozen_in_the_plan_and_judges_the_space(inputs: Inputs) -> None:
    free = planned(inputs)
    times = [by_macs(a, 0) for a in draw_networks(free, 200)]
    limit = float(np.median(times))
    plan = planned(inputs, f"{{latency_ms: {{max: {limit}}}}}")
    assert model_of(plan) is None
    assert "all checked" not in plan.facts["networks_accepted"]

    judged = applied(plan, calibrate(plan, Device()))
    model = model_of(judged)
    assert isinstance(model, LatencyModel)
    measure = measure_with(plan.num_classes, model)
    network = plan.reference
    assert measure(network)["latency_ms"] == model.predict(network)
    assert measure(network)["depth"] == network.depth
    said = judged.facts["networks_accepted"]
    assert "within the constraints" in said
    assert said.endswith("(latency_ms as predicted)")
    share = np.mean([plan.space.constraints[0].met_by(model.predict(a))
                     for a in draw_networks(free, 200)])  # fmt: skip
    assert 0.4 < share < 0.6


def test_the_frozen_model_predicts_the_same_when_it_is_read_again(
    inputs: Inputs, tmp_path: Path
) -> None:
    plan = planned(inputs)
    judged = applied(plan, calibrate(plan, Device()))
    judged.write(tmp_path)

    assert load_plan(tmp_path).document() == judged.document()
    assert model_of(load_plan(tmp_path)) == model_of(judged)


def test_published_networks_obey_the_constraint(inputs: Inputs) -> None:
    free = planned(inputs, warm_start="published")
    ids = {told["id"] for told in free.facts["warm_start"]["networks"]}
    slowest = max(by_macs(a, 0) for a in draw_networks(free, 200))
    plan = planned(inputs, f"{{latency_ms: {{max: {slowest * 0.9}}}}}", warm_start="published")

    started = applied(plan, calibrate(plan, Device())).facts["warm_start"]
    assert {told["id"] for told in started["networks"]} <= ids
    assert sum(started["rejected"].values()) == started["rejected"].get("latency_ms", 0)
    model = model_of(applied(plan, calibrate(plan, Device())))
    assert model is not None
    for told in started["networks"]:
        assert model.predict(Architecture.from_json(told["architecture"])) <= slowest * 0.9


def test_an_interval_that_no_network_meets_is_refused_with_the_predicted_range(
    inputs: Inputs,
) -> None:
    plan = planned(inputs, "{latency_ms: {max: 0.01}}")
    with pytest.raises(SpaceError) as refused:
        applied(plan, calibrate(plan, Device()))
    said = str(refused.value)
    assert "constraints.latency_ms: must be met by at least 1 network in 1,000" in said
    assert "whose predicted latency_ms is from 0.1" in said
    assert "nearest: 0.1" in said


def test_disturbed_networks_are_measured_again_and_longer(inputs: Inputs) -> None:
    rng = np.random.default_rng(0)

    def noisy_at_first(network: Architecture, call: int) -> float:
        return by_macs(network, call) * (1 if call > 5 else rng.uniform(1, 3))

    device = Device(noisy_at_first)
    assert calibrate(planned(inputs), device).model.error < GOOD_ERROR
    budgets = [job.budget_s for job in device.jobs[1:]]
    assert budgets == [0.05] * 4 + [0.3] * 4


def test_latencies_that_follow_no_model_judge_nothing(inputs: Inputs) -> None:
    rng = np.random.default_rng(0)
    device = Device(lambda _network, _call: float(rng.uniform(0.1, 10)))
    with pytest.raises(WorkFailed, match=r"^latency model: must predict .* within 30%, got "):
        calibrate(planned(inputs), device)


def test_events_of_the_record(inputs: Inputs) -> None:
    plan = planned(inputs)
    events = calibrate(plan, Device()).events()
    assert list(events) == ["reference", "calibration"]
    assert events["reference"]["id"] == plan.reference.id
    assert events["reference"]["latency_ms"] == by_macs(plan.reference, 0)
    assert len(events["calibration"]["networks"]) == NETWORKS
    assert known_beforehand(plan.space) is plan.space


def test_proposals_obey_the_predicted_interval(inputs: Inputs) -> None:
    free = planned(inputs)
    limit = float(np.median([by_macs(a, 0) for a in draw_networks(free, 200)]))
    plan = planned(inputs, f"{{latency_ms: {{max: {limit}}}}}")
    model = model_of(applied(plan, calibrate(plan, Device())))
    assert model is not None
    proposer = Proposer(
        plan.space,
        objectives_named(plan.settings.objectives),
        sampler="random",
        seed=0,
        chance=chance_level(plan),
        measure=measure_with(4, model),
    )
    proposals = [proposer.propose(number, History()) for number in range(12)]
    found = [proposal for proposal in proposals if proposal is not None]
    assert len(found) == 12
    # The anchors obey it too: the largest network of the space is among them.
    assert all(model.predict(proposal.architecture) <= limit for proposal in found)
    assert {name for proposal in found for name in proposal.rejected} == {"latency_ms"}


def test_the_forecast_knows_slow_networks(inputs: Inputs) -> None:
    plan = planned(inputs)
    assert measurement_s(plan) == 2 * TRIAL_BUDGET_S
    fast = applied(plan, calibrate(plan, Device()))
    assert measurement_s(fast) == 2 * TRIAL_BUDGET_S

    slow = Device(lambda network, call: 1000 * by_macs(network, call))
    # About 250 ms a pass; 12 rounds of a network and the reference.
    assert 3 < measurement_s(applied(plan, calibrate(plan, slow))) < 12


@pytest.mark.slow
def test_a_search_under_a_constraint_on_latency(inputs: Inputs, tmp_path: Path) -> None:
    free = planned(inputs)
    with Pool(1, preload=PRELOAD) as pool:
        timed = calibrate(free, pool)
    limit = float(np.median([network["latency_predicted_ms"] for network in timed.networks]))
    plan, images = inputs.planned(
        text=f"{SPACE}constraints: {{latency_ms: {{max: {limit}}}}}\n", budget=6
    )
    session.begin(plan, images, tmp_path / "run", session.Manner(quiet=True))

    kinds = [event["event"] for event in read_events(tmp_path / "run")]
    assert kinds[:3] == ["header", "reference", "calibration"]
    assert kinds.count("reference") == 1
    model = model_of(load_plan(tmp_path / "run"))
    assert model is not None
    rows = pd.read_csv(tmp_path / "run" / "trials.csv")
    assert len(rows) == 6
    for row in rows.to_dict("records"):
        assert row["latency_predicted_ms"] <= limit
        predicted = model.predict(Architecture.from_json(row["architecture"]))
        assert row["latency_predicted_ms"] == pytest.approx(predicted)
    assert "held-out error" in (tmp_path / "run" / "report.html").read_text("utf-8")

    session.resume(tmp_path / "run", session.Manner(quiet=True), budget=7)
    rows = pd.read_csv(tmp_path / "run" / "trials.csv")
    assert len(rows) == 7
    assert rows["latency_predicted_ms"].max() <= limit
