"""What the rungs of a run with halving came to: who was trained there, went on, and how well."""

from __future__ import annotations

import zlib
from dataclasses import asdict
from typing import Any

import numpy as np

from evaluators.agreement import agreement
from runs.blocks import METRICS
from runs.history import SPENDING, History
from runs.plan import Plan
from runs.rungs import ladder


def rung_facts(plan: Plan, history: History) -> dict[str, Any]:
    """Say what each rung came to, and how far it orders the networks as the next one does.

    Returns:
        `rows`, the lowest rung first: `length` (share of the full length), `epochs`, `trained` and
        of these `diverged`, `went_on`, `best` score, and `spent` (full-length trainings);
        `beside`: `trained` and `spent` of what no rung stops; `agreement`, one of each rung and the
        next: `lengths` of both, `networks` that reached both, and Kendall's tau between their
        scores as `value`, `low` and `high` (95 % over networks). {} in a run without halving.
    """
    lengths, metric = ladder(plan.settings), METRICS[plan.settings.task]
    if len(lengths) == 1:
        return {}
    ended = [trial for trial in history.done if trial.state in SPENDING]
    continued = [t for t in history.trials.values() if t.continues is not None]
    rows = []
    for rung, length in enumerate(lengths):
        here = [trial for trial in ended if trial.rung == rung]
        scores = [float(t.result[metric]) for t in here if t.state != "diverged"]
        rows.append(
            {
                "length": float(length),
                "epochs": float(length) * plan.recipe.epochs,
                "trained": len(here),
                "diverged": sum(trial.state == "diverged" for trial in here),
                "went_on": sum(trial.rung == rung + 1 for trial in continued),
                "best": max(scores, default=None),
                "spent": float(sum(trial.share for trial in here)),
            }
        )
    beside = [trial for trial in ended if trial.rung is None]
    return {
        "rows": rows,
        "beside": {"trained": len(beside), "spent": float(sum(t.share for t in beside))},
        "agreement": [
            _agreement(history, rung, metric, plan.settings.seed)
            | {"lengths": [float(lengths[rung - 1]), float(lengths[rung])]}
            for rung in range(1, len(lengths))
        ],
    }


def _agreement(history: History, rung: int, metric: str, seed: int) -> dict[str, Any]:
    """Compare the scores of the networks that reached a rung with theirs one rung below."""
    pairs = [
        (float(history.trials[trial.continues].result[metric]), float(trial.result[metric]))
        for trial in history.done
        if trial.rung == rung
        and trial.continues is not None
        and trial.state in ("stopped", "complete")
        # Damage to the record may have taken it.
        and metric in history.trials[trial.continues].result
    ]
    below, above = np.array(pairs, dtype=float).reshape(-1, 2).T
    rng = np.random.default_rng(zlib.crc32(f"rungs:{seed}:{rung}".encode()))
    return {"networks": len(pairs), **asdict(agreement(below, above, rng))}
