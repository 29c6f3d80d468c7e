"""What a run's study comes to, as plain facts for tables, page and console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evaluators.evidence import RECHECK_BLOCKS, Protocol, judge, sanity
from evaluators.recipe import Recipe
from runs.blocks import block_results, blocks_of, chance_level, longer_results, whole
from runs.confirmation import score_of
from runs.history import History, Trial
from runs.plan import Plan, Settings
from runs.study import ARMS, Study, study_of
from runs.wording import plural

RECHECK_FACTOR = 4.0
"""Length of a recheck over that of a trial."""


def guideline_facts(plan: Plan, history: History) -> dict[str, Any] | None:
    """Give the evidence on the guidelines; None where the run has no study.

    Returns:
        `protocol`, `levels` of the factors in words, `verdicts`, `fidelity`, `sanity`, `rechecks`
        (None, or the `factor` and the verdicts over the longer trainings alone), `diverged` (None,
        or how many and the verdicts without their blocks), `incomplete`: blocks that lost a
        training for good, and the hash of what was fixed beforehand.
    """
    study = study_of(plan)
    if study is None:
        return None
    protocol, chance = study.protocol, chance_level(plan)
    results = block_results(history, protocol.metric, chance)
    longer = longer_results(history, protocol.metric, chance, RECHECK_FACTOR)
    blocks = blocks_of(history)
    pending = any(trial.state == "asked" for trials in blocks.values() for trial in trials)
    ended = not pending and study.next_run(history, chance) is None
    verdicts = judge(protocol, results, longer, ended=ended)
    lost = [any(not t.counts and t.state != "asked" for t in trials) for trials in blocks.values()]
    return {
        "protocol": protocol.document(),
        "levels": plan.facts["study"]["levels"],
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "fidelity": fidelity(plan.recipe, plan.facts["data"]),
        "sanity": sanity_facts(study, history, chance),
        "rechecks": recheck_facts(protocol, longer),
        "diverged": diverged_facts(protocol, history, chance, ended=ended),
        "incomplete": sum(lost),
        "sha256": plan.facts["study"]["sha256"],
    }


def diverged_facts(
    protocol: Protocol, history: History, chance: Mapping[str, float], *, ended: bool
) -> dict[str, Any] | None:
    """Count what diverged in the blocks, and judge without these; None where nothing did."""
    blocks = [
        sum(trial.state == "diverged" for trial in trials) for trials in blocks_of(history).values()
    ]
    if not any(blocks):
        return None
    kept = block_results(history, protocol.metric, chance, diverged=False)
    return {
        "trainings": sum(blocks),
        "blocks": sum(count > 0 for count in blocks),
        "verdicts": [asdict(verdict) for verdict in judge(protocol, kept, ended=ended)],
    }


def fidelity(recipe: Recipe, data: Mapping[str, Any]) -> str:
    """Say how long the trainings were that the evidence rests on."""
    steps = recipe.steps(data["train"])
    side = "x".join(str(pixels) for pixels in data["size"])
    epochs = plural(float(recipe.epochs), "epoch")
    return f"{epochs}, {steps} steps of {recipe.batch_size} images of {side}"


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
    chosen = [trials for trials in blocks_of(history).values() if whole(trials)][:RECHECK_BLOCKS]
    return [trial for trials in chosen for trial in trials]


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


def study_text(facts: Mapping[str, Any], settings: Settings) -> str:
    """Say what of the budget tests and confirms, and what cannot be tested; empty without."""
    study = facts.get("study")
    said = []
    spent = settings.confirm
    if study is not None:
        blocks, runs = study["block"]["blocks"], study["block"]["runs"]
        wanted, protocol = study["block"]["wanted"], study["protocol"]
        spent += study["noise"] + blocks * runs
        if study["noise"]:
            said.append(f"{study['noise']} trainings for the noise floor")
        if blocks:
            told = f"{plural(blocks, 'block')} of {runs}"
            said.append(f"{blocks * runs} in {told} that test the guidelines")
        if blocks < wanted:
            contexts = protocol["contexts"]
            held = plural(contexts, "context")
            said.append(f"{plural(wanted, 'block')} wanted: the space has {held}")
        elif runs and not wanted:
            said.append(f"--evidence {settings.evidence} is less than a block of {runs}")
        said += [f"{name.upper()} not testable: {why}" for name, why in protocol["missing"].items()]
    if settings.confirm:
        said.append(f"{settings.confirm} at the end on fresh seeds")
    if settings.study_alone and spent < settings.budget:
        said.append(f"{plural(settings.budget - spent, 'training')} of the budget stay unspent")
    return "; ".join(said)
