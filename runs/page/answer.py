"""What a reader in a hurry needs: the network to take, how sure that is, and what it rests on."""

from __future__ import annotations

from typing import Any

import pandas as pd

from runs.console import duration
from runs.front_view import COSTS
from runs.guideline_text import NAMES, effect_text
from runs.method_text import batch_text, device_text
from runs.noise_text import standing_text
from runs.page.findings import Findings
from runs.ranking import OBJECTIVES, Objective
from runs.wording import (
    Facts,
    fixed,
    listed,
    main_score,
    milliseconds,
    missing,
    percent,
    plain,
    plural,
    quantity,
    reason_text,
    score_text,
    scores_of,
    spent_text,
)

UNPROVEN = ("undecided", "not testable")
"""Verdicts whose effects are no news."""
SHORT = "right after the short training of the search"
"""When the score of a trial was taken."""


def subtitle(findings: Findings) -> str:
    """Say what was searched for, on which data and device, when, and what it rests on."""
    facts = findings.facts
    data = facts.get("data") or {}
    device = device_text(facts.get("device") or {}, short=True)
    parts = [
        f"Search for {' and '.join(_name(objective) for objective in findings.objectives)}",
        f"on {data['name']}" if data.get("name") else "",
        f"with {device}" if device else "",
        f"begun {str(facts['started'])[:10]}" if facts.get("started") else "",
    ]
    return (
        f"{', '.join(part for part in parts if part)}. It rests on {spent_text(facts)} of "
        f"{plural(facts.get('distinct') or 0, 'distinct network')}{_whole(facts)}"
        f"{_time(facts, findings.frame)}."
    )


def _name(objective: Objective) -> str:
    return "mIoU" if objective.name == "miou" else objective.name


def sentences(findings: Findings) -> list[str]:
    """Give three sentences: the network to take and its cost, how sure that is, the guidelines."""
    complete = findings.complete
    found = complete[complete["id"].isin([findings.facts.get("recommended")])]
    if found.empty:
        first = "No training was complete, so there is no network to recommend."
        return [first, _lost(findings.frame), _guidelines(findings.facts)]
    row: Any = found.iloc[0]
    facts = findings.facts
    milli = "" if missing(row["latency_ms"]) else f"{milliseconds(row['latency_ms'])} ms for "
    first = (
        f"Take network {row['id']} (kernels by stage {plain(row['kernels'])}): "
        f"{milli and f'{milli}{batch_text(facts)} on this device, '}"
        f"{fixed(row['params'], 0)} parameters, {fixed(row['macs'] / 1e6, 2)} million "
        f"multiply-adds, {standing_text(facts, row, right_after=SHORT)}."
    )
    second = f"{_certainty(findings, row)}; {_final(facts)}{_cheaper(findings, row)}."
    return [first, second, _guidelines(facts)]


def _certainty(findings: Findings, row: Any) -> str:
    """Say how sure it is that no other network is better."""
    competing = findings.competing
    if len(competing) == 1:
        return "There is nothing to compare it with"
    own = competing[competing["id"] == row["id"]]
    if own.empty or missing(own.iloc[0]["p_best"]):
        return (
            f"Whether it is the best of the {len(competing):,} is not known, as the noise of a "
            "training was not measured"
        )
    tied = int((competing["tied"].fillna(value=False) & (competing["id"] != row["id"])).sum())
    others = (
        f"{tied:,} of the others cannot be told from the first of the ranking"
        if tied
        else "no other is level with the first of the ranking"
    )
    return (
        f"The probability that it is the best of the {len(competing):,} is "
        f"{percent(own.iloc[0]['p_best'])}, and {others}"
    )


def _cheaper(findings: Findings, row: Any) -> str:
    """Name the cheapest network of the front that is tied with the first, where it is cheaper."""
    front = findings.front
    searched = [objective for objective in findings.objectives if objective.name in COSTS]
    cost = (searched or [OBJECTIVES["latency"]])[0]
    if front["tied"].isna().all() or missing(row[cost.column]):
        return ""
    tied = front[front["tied"].fillna(value=False).astype(bool) | (front["rank"] == 1)]
    losses = cost.loss(tied[cost.column]).dropna().sort_values()
    if losses.empty or losses.iloc[0] >= row[cost.column]:
        return ""
    found: Any = front[front.index == losses.index[0]].iloc[0]
    if found["rank"] == 1:
        standing = "the first of the ranking"
    elif missing(row["rank"]) or row["rank"] != 1:
        standing = "level with the first of the ranking"
    else:
        standing = "level with the recommended one"
    return f"; network {found['id']} is {standing} and takes {quantity(found[cost.column], cost)}"


def _lost(frame: pd.DataFrame) -> str:
    """Say why there is no network."""
    if frame.empty:
        return "Not one training came to an end."
    errors = frame["error"].dropna().map(reason_text).value_counts()
    states = frame["state"].value_counts()
    counted = ", ".join(f"{count:,} {state}" for state, count in states.items())
    reason = f"; the commonest reason: {errors.index[0]}" if len(errors) else ""
    return f"Of {plural(len(frame), 'training')} {counted}{reason}."


def _guidelines(facts: Facts) -> str:
    """Say which guidelines hold on this task."""
    verdicts = (facts.get("guidelines") or {}).get("verdicts") or ()
    if not verdicts:
        return "The guidelines were not tested here; 'replk-search guidelines' does."
    groups: dict[str, list[str]] = {}
    for verdict in verdicts:
        effect = effect_text(verdict) if verdict["word"] not in UNPROVEN else ""
        name = NAMES[verdict["guideline"]] + (f" ({effect})" if effect else "")
        groups.setdefault(verdict["word"], []).append(name)
    said = [f"{listed(names)}: {word}" for word, names in groups.items()]
    at = (facts["guidelines"].get("fidelity") or "").strip()
    return f"Of the guidelines{f', at {at}' if at else ''}, {'; '.join(said)}."


def _whole(facts: Facts) -> str:
    """Say how many networks came to the end of the rungs; empty where there are none."""
    if not facts.get("rungs"):
        return ""
    return f", {facts['rungs']['rows'][-1]['trained']:,} of which went through all rungs"


def _final(facts: Facts) -> str:
    final = facts.get("final")
    if not final:
        return "it was not trained on after the search, so what it can reach is not known"
    reached, linear = scores_of(final, "test_"), scores_of(final, "baseline_test_")
    baseline = f"multinomial logistic regression on the same data gets {score_text(linear)}"
    if missing(reached["accuracy"]):
        return f"its longer training diverged and left nothing to test, {baseline}"
    epochs = final.get("epochs")
    length = "longer" if missing(epochs) else f"for {plural(float(epochs), 'epoch')}"
    end = ", the last round of which diverged" if final.get("state") == "diverged" else ""
    verdict, bar = "", main_score(linear)[1]
    if not missing(bar) and main_score(reached)[1] <= bar:
        verdict = ", so on this data the network is not worth its cost"
    return (
        f"trained on {length}{end} it gets {score_text(reached, 'the test images')} right, "
        f"{baseline}{verdict}"
    )


def _time(facts: Facts, frame: pd.DataFrame) -> str:
    wall = (facts.get("timing") or {}).get("wall_s")
    if wall is not None and len(facts.get("sessions") or ()) <= 1:
        workers = (facts.get("settings") or {}).get("workers")
        side = f", {plural(workers, 'training')} at a time" if workers else ""
        return f"; the search took {duration(float(wall))}{side}"
    # The timing of a resumed run is that of its last session alone.
    seconds = float(pd.to_numeric(frame["seconds"], errors="coerce").sum())
    return f"; one after the other they would take {duration(seconds)}" if seconds > 0 else ""
