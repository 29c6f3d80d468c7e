"""What a run came to, as plain data: the findings that tables, console and report are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from evaluators.cost import cost
from runs.anchors import CORNERS, anchor_names
from runs.audit import recorded
from runs.audit_text import audit_facts
from runs.blocks import METRICS, chance_level
from runs.confirmation import champion
from runs.evidence_facts import guideline_facts
from runs.history import SPENDING, History, plain_number
from runs.measures import model_of
from runs.page.findings import Findings, carded
from runs.page.seen import fields_of_front
from runs.plan import Plan
from runs.prediction import prediction_check
from runs.ranking import (
    front,
    hypervolume,
    hypervolume_of_estimates,
    kernels_text,
    objectives_named,
    reference_point,
)
from runs.rung_facts import rung_facts
from runs.standings import noise_facts, ranked, recommended


def gather(
    directory: Path,
    plan: Plan,
    history: History,
    *,
    predicates: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> Findings:
    """Find out what a run came to; writes nothing.

    Args:
        directory: of the run.
        plan: of the run.
        history: of the run.
        predicates: sub-spaces that the report compares.
        missing: what damage took, for the report to say.
    """
    objectives = objectives_named(plan.settings.objectives)
    frame = ranked(plan, history, chances=True)
    best, facts = front(frame, objectives), run_facts(directory, plan, history, frame)
    networks = carded(frame, best, facts)
    seen, unseen = fields_of_front(directory, plan, history, networks)
    return Findings(
        facts=facts | {"missing": list(missing)},
        frame=frame,
        front=best,
        objectives=objectives,
        curves=learning_curves(history),
        seen=seen,
        unseen=unseen,
        predicates=predicates,
    )


def learning_curves(history: History) -> dict[int, list[tuple[int, float]]]:
    """Give the learning curve of every finished trial that has one."""
    curves = {trial.number: trial.result.get("curve") for trial in history.done}
    return {n: [(int(a), float(b)) for a, b in curve] for n, curve in curves.items() if curve}


def run_facts(directory: Path, plan: Plan, history: History, frame: pd.DataFrame) -> dict[str, Any]:
    """Give what a reader of the results must know beside the tables.

    Args:
        directory: of the run.
        plan: of the run.
        history: of the run.
        frame: its finished trials, as `standings.ranked` gives them.
    """
    objectives = objectives_named(plan.settings.objectives)
    reference, metric = reference_point(frame, objectives), METRICS[plan.settings.task]
    best = recommended(plan, history)
    final = history.final.get("finaltrained")
    return {
        "name": plan.space.name,
        "directory": str(directory),
        "recommended": None if best is None else best.id,
        # A search that went on may recommend another network than the one that was trained on.
        "final": final
        if final is not None and best is not None and final["id"] == best.id
        else None,
        "budget": history.sessions[-1]["budget"] if history.sessions else plan.settings.budget,
        "spent": plain_number(history.spent),
        "distinct": len({trial.id for trial in history.done if trial.state in SPENDING}),
        "counts": dict(history.counts),
        "rungs": rung_facts(plan, history),
        "rejected": dict(history.rejected),
        "exhausted": "exhausted" in history.final,
        "hypervolume": hypervolume(frame, objectives, reference),
        "hypervolume_estimated": hypervolume_of_estimates(
            frame, objectives, reference, metric=metric
        ),
        "reference_point": reference,
        "settings": asdict(plan.settings),
        "recipe": asdict(plan.recipe),
        "sparse": any(trial.architecture.weights_sparsity for trial in history.trials.values()),
        "timing": history.final.get("timing"),
        "prediction_check": prediction_check(model_of(plan), frame),
        "guidelines": guideline_facts(plan, history),
        "ranking_noise": noise_facts(plan, history),
        "audit": audit_facts(recorded(plan, history, frame)),
        "champion": champion(history, metric, chance_level(plan)),
        "reference_ms": history.final.get("reference", {}).get("latency_ms"),
        "reference_network": _reference(plan, history),
        "anchors": _anchors(plan, history),
        "sessions": history.sessions,
        **plan.facts,
    }


def _reference(plan: Plan, history: History) -> dict[str, Any] | None:
    """Give the network beside which latencies are measured; None in runs from before it."""
    if "reference" not in plan.facts:
        return None
    counted = cost(plan.reference, plan.num_classes)
    measured = history.final.get("reference", {})
    latency = {
        key: measured.get(key) for key in ("latency_ms", "latency_low_ms", "latency_high_ms")
    }
    return {
        "id": plan.reference.id,
        "kernels": kernels_text(plan.reference.stages),
        "macs": counted.macs_merged,
        "params": counted.params_merged,
        **latency,
    }


def _anchors(plan: Plan, history: History) -> list[dict[str, Any]]:
    """Say what each trained anchor stands for: corners of the space, or published networks."""
    asked = {trial.id for trial in history.of_role.get("anchor", ())}
    if plan.settings.warm_start == "anchors":
        names = anchor_names(plan.space)
    else:
        start: dict[str, Any] = plan.facts.get("warm_start") or {}
        names = {told["id"]: list(told["names"]) for told in start.get("networks", ())}
    return [
        {"id": network, "names": found, "published": not set(found) <= set(CORNERS)}
        for network, found in names.items()
        if network in asked
    ]
