"""What a logger is told of a trial, and of the run up to it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from runs.history import Trial
from runs.plan import Plan
from runs.ranking import (
    Objective,
    counted,
    hypervolume,
    kernels_text,
    objectives_named,
    reference_point,
)

SCALARS = (
    *("accuracy", "miou", "val_loss", "accuracy_last", "miou_last", "val_loss_last"),
    *("latency_ms", "latency_low_ms", "latency_high_ms", "macs", "params", "train_seconds"),
)
"""Measured values of a trial, by their columns of trials.csv."""
CURVE = "train_loss"
"""Name of the learning curve: smoothed training loss over optimiser steps."""
COMPLIANCE = ("s1", "s2", "s3", "s4")
"""How far a network keeps the four guidelines, 0 to 1; known before it is trained."""

Parameters = dict[str, str | int | float]


def scalars(trial: Trial) -> dict[str, float]:
    """Give the finite measured values of a finished trial, by name."""
    return dict(_finite(trial.result, SCALARS))


def curve(trial: Trial) -> list[tuple[int, float]]:
    """Give the finite points of a learning curve as (optimiser step, smoothed training loss)."""
    points = trial.result.get("curve") or []
    return [(step, loss) for step, loss in points if loss is not None and math.isfinite(loss)]


def parameters(trial: Trial) -> Parameters:
    """Give what a trial was: role, network, compliance; plain names, such as `stages.0.kernel`."""
    found: Parameters = {"role": trial.role, "state": trial.state}
    found |= {"id": trial.id, "repeat": trial.repeat, "length": float(trial.length)}
    stages = trial.architecture.stages
    found["kernels"] = kernels_text(stages)
    found["depths"] = "|".join(str(stage.depth) for stage in stages)
    found["widths"] = "|".join(map(str, trial.architecture.widths))
    network = json.loads(trial.architecture.to_json())
    # The images are those of the run.
    found |= dict(_leaves({name: part for name, part in network.items() if name != "input"}))
    return found | dict(_finite(trial.result, COMPLIANCE))


class Progress:
    """Best score and hypervolume of a run, trial by trial, as its report says them.

    A logger that failed is opened anew; what is counted here goes on.
    """

    def __init__(self, plan: Plan) -> None:
        """Begin before the first trial."""
        self.objectives = objectives_named(plan.settings.objectives)
        self._best: float | None = None
        self._rows: list[dict[str, Any]] = []
        self._known: set[str] = set()
        self._moments: dict[int, tuple[int, float | None, list[dict[str, Any]]]] = {}

    def step(self, trial: Trial) -> int:
        """Give the finished trials up to one, counted.

        Trials come in the order they finished; one that comes again has its place already.
        """
        if trial.number not in self._moments:
            self._take_in(trial)
            step = len(self._moments) + 1
            self._moments[trial.number] = (step, self._best, self._rows)
        return self._moments[trial.number][0]

    def values(self, trial: Trial) -> dict[str, float]:
        """Give the run's values once a trial has finished; `step` took it in.

        `best/<column>` of the first objective, `hypervolume`, and `reference_point/<column>`, from
        which that is counted. The point is that of the trials so far, as in a report of this
        moment; one that is worse than all before moves it.
        """
        _, best, rows = self._moments[trial.number]
        if not rows:
            return {}
        frame = pd.DataFrame(rows)
        reference = reference_point(frame, self.objectives)
        found = {"hypervolume": hypervolume(frame, self.objectives, reference)}
        if best is not None:
            found[f"best/{self.objectives[0].column}"] = best
        for objective in self.objectives:
            if objective.name in reference:
                found[f"reference_point/{objective.column}"] = reference[objective.name]
        return found

    def _take_in(self, trial: Trial) -> None:
        if trial.state == "complete":
            names = [objective.column for objective in self.objectives]
            row = {name: trial.result.get(name) for name in names}
            told = {name: getattr(trial, name) for name in ("role", "state", "id", "repeat")}
            told |= {"trial": trial.number, "length": float(trial.length)}
            if trial.id not in self._known and len(counted(pd.DataFrame([told]))):
                self._known.add(trial.id)
                self._rows = _needed([*self._rows, told | row], self.objectives)
            self._best = _better(self.objectives[0], self._best, row[names[0]])


def _better(objective: Objective, best: float | None, value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return best
    if best is None:
        return value
    return max(best, value) if objective.direction == "max" else min(best, value)


def _needed(rows: list[dict[str, Any]], objectives: tuple[Objective, ...]) -> list[dict[str, Any]]:
    """Leave out the rows that neither the hypervolume nor its reference point comes from."""
    columns = [[row[objective.column] for row in rows] for objective in objectives]
    signs = np.array([-1 if objective.direction == "max" else 1 for objective in objectives])
    losses = signs * np.array(columns, dtype=float).T
    if (losses[:-1] == losses[-1]).all(axis=1).any():
        return rows[:-1]
    whole = np.isfinite(losses).all(axis=1)
    no_worse = (losses[:, None] <= losses[None]).all(axis=2)
    needed = whole & ~(no_worse & ~no_worse.T).any(axis=0)
    # The worst value of an objective, which the point lies behind.
    needed[np.where(np.isfinite(losses), losses, -np.inf).argmax(axis=0)] = True
    return [row for row, kept in zip(rows, needed, strict=True) if kept]


def _finite(values: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for name in names:
        value = values.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            yield name, value


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str | int | float]]:
    """Give every single value of a JSON value with its dotted name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{index}")
    elif isinstance(value, int | float | str) and not isinstance(value, bool):
        yield name, value
    else:
        yield name, json.dumps(value)
