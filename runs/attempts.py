"""How often a training is tried, with how many images at a time, and when a run gives up.

A training whose process, worker or node died is tried once more. One that ran out of
memory is tried once more alone, in smaller parts of its batches; what then runs out again does not
fit this machine, and is infeasible. Everything else is final at once: it would only happen again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.memory import fitting_images, smaller, training_bytes
from runs.history import History, Trial
from runs.jobs import first_line
from runs.plan import Plan
from runs.workers import Finished
from search_space.errors import WorkFailed

FAILURES_IN_A_ROW = 20
STARTS = 20
"""A training is begun so often; one that took its driver down each time is recorded as failed.

One network may take a machine down for ever; somebody who kills a run many times must lose none.
"""
SCORES = ("accuracy", "val_loss", "miou")
"""How the results begin that a diverged training does not have."""
LOST = ("failed", "infeasible")
"""States of trials that brought nothing and eat no budget."""


def images_at_once(plan: Plan, trial: Trial, limit_bytes: int) -> int | None:
    """Give how many images of a batch are predicted to fit at a time; None where not even two do.

    Args:
        plan: of the run.
        trial: to be trained.
        limit_bytes: what a training may take.
    """
    return fitting_images(
        trial.architecture,
        plan.num_classes,
        plan.recipe.batch_size,
        limit_bytes,
        backends=plan.backends,
        device=plan.settings.device,
    )


def too_large(plan: Plan, trial: Trial, limit_bytes: int) -> str:
    """Say why a network is not trained at all."""
    least = training_bytes(
        trial.architecture,
        plan.num_classes,
        2,
        backends=plan.backends,
        device=plan.settings.device,
    )
    return (
        f"memory: must train within {limit_bytes / 1e9:.3g} GB, is predicted to take "
        f"{least / 1e9:.3g} GB with 2 images at a time; use fewer --workers, or a smaller space"
    )


def is_alone(history: History, trial: Trial) -> bool:
    """Whether a trial ran out of memory before, and is tried again with nothing beside it."""
    known = history.retried.get(trial.number)
    return known is not None and known["outcome"] == "memory"


def told_diverged(trained: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a training came to, as diverged where a number of it is not finite.

    It should have said so itself; a record takes no such number, and no ranking either.
    """
    lost = {k for k, v in trained.items() if isinstance(v, float) and not math.isfinite(v)}
    if not lost:
        return dict(trained)
    lost |= {key for key in trained if key.startswith(SCORES)}
    return {**trained, **dict.fromkeys(lost), "state": "diverged"}


def another_try(
    trial: Trial, event: Finished, before: Mapping[str, Any] | None, *, images: int
) -> dict[str, Any] | None:
    """Give the fields of a trial's `retried` event; None where its failure is final.

    Args:
        trial: whose training did not end well.
        event: how it ended.
        before: its `retried` event, where this was the second try.
        images: that went through the network at a time.
    """
    fewer = smaller(images) if event.outcome == "memory" else None
    if event.outcome == "crash":
        again = before is None
    else:
        # One whose worker was lost before has not been tried alone.
        again = fewer is not None and (before is None or before["outcome"] == "crash")
    if not again:
        return None
    return {
        "trial": trial.number,
        "outcome": event.outcome,
        "why": first_line(event),
        "micro_batch": fewer,
    }


def require_hope(done: Sequence[Trial], *, budget: int, directory: Path) -> None:
    """End a session that brings little but failures.

    Args:
        done: trials that finished in this session, in their order.
        budget: of the run.
        directory: of the run, for the sentence.

    Raises:
        WorkFailed: too many trials in a row, or too many of the budget, brought nothing.
    """
    lost = [trial for trial in done if trial.state in LOST]
    last = done[-FAILURES_IN_A_ROW:]
    in_a_row = len(last) == FAILURES_IN_A_ROW and all(trial.state in LOST for trial in last)
    if in_a_row or len(lost) > budget / 2:
        reasons = Counter(str(trial.result["error"]).splitlines()[0] for trial in lost)
        reason, times = reasons.most_common(1)[0]
        raise WorkFailed(
            f"{directory}: {len(lost)} of {len(done)} trials failed, {times} of them "
            f"with: {reason}; mend the cause, then continue with "
            f"'replk-search resume {directory}'"
        )
