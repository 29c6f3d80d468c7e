"""What a run's study comes to, as plain facts for tables, page and console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evaluators.evidence import RECHECK_BLOCKS, Protocol, judge, sanity
from evaluators.recipe import Recipe
from runs.confirmation import score_of
from runs.history import History, Trial
from runs.plan import Plan
from runs.study import ARMS, Study, block_results, chance_level, result_of, study_of, whole

RECHECK_FACTOR = 4.0
"""Length of a recheck over that of a trial."""


def guideline_facts(plan: Plan, history: History) -> dict[str, Any] | None:
    """Give the evidence on the guidelines; None where the run has no study.

    Returns:
        `protocol`, `verdicts`, `fidelity`, `sanity`, `rechecks` (None, or the `factor` and the
        verdicts over the longer trainings alone), `incomplete` blocks, `contexts`, and the hash of
        what was fixed beforehand.
    """
    study = study_of(plan)
    if study is None:
        return None
    protocol, chance = study.protocol, chance_level(plan)
    results = block_results(history, protocol.metric, chance)
    longer = rechecked(history, protocol, chance)
    asked = {t.study["block"] for t in history.trials.values() if t.study is not None}
    pending = any(t.study is not None and t.state == "asked" for t in history.trials.values())
    ended = not pending and study.next_run(history, chance) is None
    verdicts = judge(protocol, results, longer, ended=ended)
    return {
        "protocol": protocol.document(),
        "levels": plan.facts["study"]["levels"],
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "fidelity": fidelity(plan.recipe, plan.facts["data"]),
        "sanity": sanity_facts(study, history, chance),
        "rechecks": recheck_facts(protocol, longer),
        "incomplete": len(asked) - len(results),
        "sha256": plan.facts["study"]["sha256"],
    }


def fidelity(recipe: Recipe, data: Mapping[str, Any]) -> str:
    """Say how long the trainings were that the evidence rests on."""
    steps = recipe.steps(data["train"])
    side = "x".join(str(pixels) for pixels in data["size"])
    return f"{recipe.epochs:g} epochs, {steps} steps of {recipe.batch_size} images of {side}"


def sanity_facts(
    study: Study, history: History, chance: Mapping[str, float]
) -> dict[str, Any] | None:
    """Answer whether the task rewards large kernels, by the two networks of the noise floor."""
    if not study.pair:
        return None
    arms: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for trial in history.trials.values():
        if "noise" in trial.asked and trial.counts:
            score = 100 * score_of(trial, study.protocol.metric, chance)
            arms[trial.asked["noise"]].append(score)
    answer = asdict(sanity(arms["large"], arms["small"]))
    return None if answer["effect"] is None else {**answer, "trainings": arms}


def recheck_trials(history: History) -> list[Trial]:
    """Give the trials that a recheck trains longer: those of the first whole blocks."""
    blocks: dict[int, list[Trial]] = {}
    for trial in history.trials.values():
        if trial.study is not None:
            blocks.setdefault(trial.study["block"], []).append(trial)
    chosen = [block for block in sorted(blocks) if whole(blocks[block])][:RECHECK_BLOCKS]
    return [trial for block in chosen for trial in blocks[block]]


def rechecked(history: History, protocol: Protocol, chance: Mapping[str, float]) -> list[Any]:
    """Give the blocks all of whose trainings were done at the length of a recheck too."""
    blocks: dict[int, list[Trial]] = {}
    for trial in history.trials.values():
        if trial.study is not None:
            blocks.setdefault(trial.study["block"], []).append(trial)
    found = []
    for block, trials in sorted(blocks.items()):
        longer = [history.longer.get((trial.number, RECHECK_FACTOR)) for trial in trials]
        done = [event for event in longer if event is not None and event["state"] != "failed"]
        if len(done) == len(trials) and whole(trials):
            found.append(result_of(block, trials, protocol.metric, chance, done))
    return found


def recheck_facts(protocol: Protocol, longer: list[Any]) -> dict[str, Any] | None:
    """Give the verdicts over the longer trainings alone; None without any."""
    if not longer:
        return None
    alone = judge(protocol, longer, ended=True)
    return {
        "factor": RECHECK_FACTOR,
        "blocks": len(longer),
        "verdicts": [asdict(verdict) for verdict in alone],
    }


def study_text(facts: Mapping[str, Any], confirm: int) -> str:
    """Say what of the budget tests and confirms, and what cannot be tested; empty without."""
    study = facts.get("study")
    said = []
    if study is not None:
        blocks, runs = study["block"]["blocks"], study["block"]["runs"]
        protocol = study["protocol"]
        if study["noise"]:
            said.append(f"{study['noise']} trainings for the noise floor")
        if blocks:
            said.append(f"{blocks * runs} in {blocks} blocks of {runs} that test the guidelines")
        elif protocol["contexts"] == 1:
            said.append("no blocks: the space has one context, and an effect needs several")
        said += [f"{name.upper()} not testable: {why}" for name, why in protocol["missing"].items()]
    if confirm:
        said.append(f"{confirm} at the end on fresh seeds")
    return "; ".join(said)
