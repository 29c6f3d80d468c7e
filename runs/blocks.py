"""The blocks of a run's study as the statistics take them, trained as in the run or longer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluators.evidence import BlockResult, block_levels
from runs.history import History, Trial
from runs.plan import Plan

METRICS = {"classification": "accuracy", "segmentation": "miou"}
"""What a network is judged by, and the hypotheses are about, in each task."""


def chance_level(plan: Plan) -> dict[str, float]:
    """Give what a network that has learnt nothing gets, by the column; see `chance_of`."""
    dense = plan.settings.task == "segmentation"
    return chance_of(plan.num_classes, plan.facts["data"]["majority_share"], dense=dense)


def chance_of(classes: int, share: float, *, dense: bool) -> dict[str, float]:
    """Give what a network that has learnt nothing gets, by the column.

    In classification it guesses evenly. Of masks it names the commonest class of the validation
    split everywhere: one class is found with its share, the others are missed.

    Args:
        classes: how many there are.
        share: of the commonest one in the validation split, 0 to 1.
        dense: whether classes are named pixel by pixel.
    """
    return {
        "accuracy": share if dense else 1 / classes,
        "miou": share / classes,
        "val_loss": math.log(classes),
        "accuracy_last": share,
        "miou_last": share / classes,
        "val_loss_last": math.log(classes),
    }


def blocks_of(history: History) -> dict[int, list[Trial]]:
    """Give the trainings of each block that were asked for, in the order of the blocks."""
    return {block: list(trials.values()) for block, trials in sorted(history.blocks.items())}


def whole(trials: Sequence[Trial]) -> bool:
    """Whether these are all trainings of a block, and each has a result."""
    assert trials[0].study is not None
    varied, block = trials[0].study["varied"], trials[0].study["block"]
    size = len(block_levels(varied, block, np.random.default_rng(0)))
    return len(trials) == size and all(trial.counts for trial in trials)


def block_results(
    history: History, metric: str, chance: Mapping[str, float], *, diverged: bool = True
) -> list[BlockResult]:
    """Give the blocks all of whose trainings have a result, in their order.

    Args:
        history: of the run.
        metric: column of the score.
        chance: scores of a network that has learnt nothing; a diverged training has them.
        diverged: whether to give blocks that hold a diverged training too.
    """
    return [
        _result(block, trials, [trial.result for trial in trials], metric, chance)
        for block, trials in blocks_of(history).items()
        if whole(trials) and (diverged or all(t.state == "complete" for t in trials))
    ]


def longer_results(
    history: History, metric: str, chance: Mapping[str, float], factor: float
) -> list[BlockResult]:
    """Give the blocks all of whose trainings were done `factor` times as long too."""
    found = []
    for block, trials in blocks_of(history).items():
        events = [history.longer.get((trial.number, factor)) for trial in trials]
        done = [event for event in events if event is not None and event["state"] != "failed"]
        if whole(trials) and len(done) == len(trials):
            found.append(_result(block, trials, done, metric, chance))
    return found


def _result(
    block: int,
    trials: Sequence[Trial],
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    chance: Mapping[str, float],
) -> BlockResult:
    def values(column: str) -> Any:
        found = [chance[column] if row["state"] == "diverged" else row.get(column) for row in rows]
        return None if any(v is None for v in found) else np.array(found, dtype=float)

    dense = metric != "accuracy"
    last = values(f"{metric}_last") if dense else None
    first = trials[0].study
    assert first is not None
    return BlockResult(
        block=block,
        levels=np.array([trial.study["levels"] for trial in trials if trial.study is not None]),
        varied=tuple(first["varied"]),
        scores=100 * values(metric),
        losses=values("val_loss"),
        scores_last=None if last is None else 100 * last,
        losses_last=values("val_loss_last") if dense else None,
        # As the trial was measured: that of the front is measured again, of the others not.
        latency_ms=np.array([trial.measured_ms for trial in trials], dtype=float),
        macs=np.array([trial.result["macs"] for trial in trials], dtype=float),
    )
