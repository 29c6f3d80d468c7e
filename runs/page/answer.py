"""What a reader in a hurry needs: the network to take, how sure that is, and what it rests on."""

from __future__ import annotations

from typing import Any

import pandas as pd

from runs.console import duration
from runs.method_text import batch_text, device_text
from runs.noise_text import standing_text
from runs.page.findings import Findings
from runs.ranking import Objective
from runs.wording import (
    Facts,
    fixed,
    main_score,
    milliseconds,
    missing,
    plain,
    plural,
    score_text,
    scores_of,
    spent_text,
)

SHORT = "right after the short training of the search"
"""When the score of a trial was taken."""


def subtitle(findings: Findings) -> str:
    """Say what was searched for, on which data and device, and when."""
    facts = findings.facts
    data = facts.get("data") or {}
    device = device_text(facts.get("device") or {}, short=True)
    parts = [
        f"Search for {' and '.join(_name(objective) for objective in findings.objectives)}",
        f"on {data['name']}" if data.get("name") else "",
        f"with {device}" if device else "",
        f"begun {str(facts['started'])[:10]}" if facts.get("started") else "",
    ]
    return ", ".join(part for part in parts if part)


def _name(objective: Objective) -> str:
    return "mIoU" if objective.name == "miou" else objective.name


def sentences(findings: Findings) -> list[str]:
    """Give the sentences that a reader in a hurry needs."""
    facts, frame = findings.facts, findings.frame
    done = (
        f"This rests on {spent_text(facts)} of "
        f"{plural(facts.get('distinct') or 0, 'distinct network')}{_whole(facts)}"
        f"{_time(facts, frame)}."
    )
    complete = frame[frame["state"] == "complete"]
    found = complete[complete["id"].isin([facts.get("recommended")])]
    if not len(found):
        return ["No training was complete, so there is no network to recommend.", done]
    row: Any = found.iloc[0]
    first = (
        f"Take network {row['id']} (kernels by stage {plain(row['kernels'])}): "
        f"{milliseconds(row['latency_ms'])} ms for {batch_text(facts)} on this device, "
        f"{fixed(row['params'], 0)} parameters, "
        f"{standing_text(facts, row, right_after=SHORT)}."
    )
    return [first, _final_sentence(facts), done]


def _whole(facts: Facts) -> str:
    """Say how many networks came to the end of the rungs; empty where there are none."""
    if not facts.get("rungs"):
        return ""
    return f", {facts['rungs']['rows'][-1]['trained']:,} of which went through all rungs"


def _final_sentence(facts: Facts) -> str:
    final = facts.get("final")
    if not final:
        return "It was not trained on after the search, so what it can reach is not known."
    reached, linear = scores_of(final, "test_"), scores_of(final, "baseline_test_")
    baseline = f"multinomial logistic regression on the same data gets {score_text(linear)}"
    if missing(reached["accuracy"]):
        return f"Its longer training diverged and left nothing to test; {baseline}."
    epochs = final.get("epochs")
    length = "longer" if missing(epochs) else f"for {plural(float(epochs), 'epoch')}"
    end = ", the last round of which diverged" if final.get("state") == "diverged" else ""
    verdict, bar = "", main_score(linear)[1]
    if not missing(bar) and main_score(reached)[1] <= bar:
        verdict = ", so on this data the network is not worth its cost"
    return (
        f"Trained on {length}{end}, it gets {score_text(reached, 'the test images')} right; "
        f"{baseline}{verdict}."
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
