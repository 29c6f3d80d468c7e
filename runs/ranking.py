"""Tables of a run: its trials in order, its front, and how much of the objectives the front covers.

Pure functions from frames to frames; nothing here reads the clock, the disk or a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluators import fronts
from runs.columns import BY_NAME, COLUMNS
from search_space.architecture import Architecture, Stage
from search_space.errors import RunError, nearest

Floats = npt.NDArray[np.float64]

RANKED_ROLES = ("anchor", "evidence", "search")
"""Roles whose trials compete; a confirm trial is a re-run of one that has its place already."""
RANKED_STATES = ("complete", "diverged")
"""States of trials that have a place, where they were of full length."""
CHEAPER = ("latency_ms", "macs", "params")
"""What decides between networks of equal score, first to last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """One thing that a search drives up or down."""

    name: str
    """The word of `--objectives`."""
    column: str
    """Its column in the frame of trials."""
    direction: str
    """`max` or `min`."""
    unit: str
    """What one step of the column means; empty for a share or a loss."""
    label: str
    """What an axis of a figure says, without the unit."""
    ideal: float = 0.0
    """Best value there can be; shares of the hypervolume are counted from it."""

    def loss(self, values: pd.Series[Any]) -> pd.Series[float]:
        """Give the distance from the ideal, less is better; NaN where a value is missing."""
        numbers = pd.to_numeric(values, errors="coerce").astype(float)
        numbers = numbers.where(np.isfinite(numbers))
        return self.ideal - numbers if self.direction == "max" else numbers - self.ideal

    def value(self, loss: float) -> float:
        """Give the value of the column that lies `loss` away from the ideal."""
        return self.ideal - loss if self.direction == "max" else self.ideal + loss


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective(
            name="accuracy",
            column="accuracy",
            direction="max",
            unit="",
            label="validation accuracy",
            ideal=1.0,
        ),
        Objective(
            name="miou",
            column="miou",
            direction="max",
            unit="",
            label="validation mIoU",
            ideal=1.0,
        ),
        Objective(
            name="val_loss",
            column="val_loss",
            direction="min",
            unit="",
            label="validation cross-entropy",
        ),
        Objective(
            name="latency",
            column="latency_ms",
            direction="min",
            unit="ms",
            label="latency of the merged network",
        ),
        Objective(
            name="macs",
            column="macs",
            direction="min",
            unit="multiply-adds",
            label="multiply-adds of one image",
        ),
        Objective(
            name="params",
            column="params",
            direction="min",
            unit="parameters",
            label="parameters of the merged network",
        ),
    )
}


def objectives_named(names: Iterable[str]) -> tuple[Objective, ...]:
    """Look up the objectives of a run, the one that ranks first.

    Raises:
        RunError: where a name is unknown, stands twice, or none is given.
    """
    chosen: list[Objective] = []
    for name in names:
        if name not in OBJECTIVES:
            known = nearest(name, OBJECTIVES)
            raise RunError(f"--objectives: must be known, got {name!r}; {known}")
        if OBJECTIVES[name] in chosen:
            raise RunError(f"--objectives: must differ, got {name!r} twice; keep one")
        chosen.append(OBJECTIVES[name])
    if not chosen:
        raise RunError("--objectives: must name at least one, got none; for example accuracy")
    return tuple(chosen)


def trials_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Give the rows as a frame with every column of the contract, one row a trial.

    Missing values become NA. What describes the network, from `block` to `structures`, is read
    from the JSON in `architecture` where a row does not bring it.
    """
    full = [_with_shape(row) for row in rows]
    names = dict.fromkeys([*BY_NAME, *(key for row in full for key in row)])
    frame = pd.DataFrame({name: [row.get(name) for row in full] for name in names}, dtype=object)
    return frame.astype({column.name: column.dtype for column in COLUMNS})


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the trials whose latency is known, without those that another one continues.

    That one took its latency over, which would count it twice.
    """
    found = frame[frame["latency_ms"].notna()]
    if "continues" not in found:
        return found
    return found[~found["trial"].isin(found["continues"].dropna())]


def rank(
    frame: pd.DataFrame, objectives: Sequence[Objective], *, metric: str = "accuracy"
) -> pd.DataFrame:
    """Give the trials in order, with `rank`, `front_rank` and `on_front` filled in.

    In place of the noisy score `metric` stands a network's `estimate`, where there is one. `rank`
    is 1 for the best value of the first objective; equal values go by validation loss, then by the
    cheaper network, then by the earlier trial. One trial of a network competes, its first that is
    complete. A diverged training of full length stands at chance level: behind every complete one,
    and never on the front.
    Trials that failed, were of a lower rung or re-run another come last, with NA.

    `front_rank` is 1 for the trials that no other dominates, 2 for those that only trials of
    rank 1 dominate, and so on; trials with a missing objective come one behind the last.
    Equal trials share it.
    """
    ranked = frame.copy()
    competing = _competing(frame)
    diverged = competing["state"] == "diverged"
    values = estimated(competing, metric)
    losses = pd.DataFrame(
        {objective.name: objective.loss(values[objective.column]) for objective in objectives}
    ).mask(diverged)

    keys = pd.DataFrame({"diverged": diverged.astype(bool), "first": losses.iloc[:, 0]})
    for column in ("val_loss", *CHEAPER, "trial"):
        keys[column] = pd.to_numeric(competing[column], errors="coerce").astype(float)
    order = keys.sort_values(list(keys.columns), na_position="last").index
    ranked["rank"] = pd.Series(range(1, len(order) + 1), index=order, dtype="Int64")

    whole = losses.dropna()
    layers = pd.Series(moocore.pareto_rank(whole.to_numpy()) + 1, index=whole.index, dtype="Int64")
    behind = int(layers.max()) + 1 if len(layers) else 1
    ranked["front_rank"] = layers.reindex(competing.index, fill_value=behind)
    ranked["front_rank"] = ranked["front_rank"].astype("Int64")
    ranked["on_front"] = ranked.index.isin(layers.index[layers == 1])
    ranked["on_front"] = ranked["on_front"].astype("boolean")
    return ranked.sort_values(["rank", "trial"], na_position="last", ignore_index=True)


def front(ranked: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    """Give the trials on the front, sorted along it: by the second objective, best first."""
    along = [*objectives[1:], objectives[0]]
    chosen = ranked[ranked["on_front"].fillna(value=False).astype(bool)]
    keys = pd.DataFrame(
        {objective.name: objective.loss(chosen[objective.column]) for objective in along}
    )
    keys["trial"] = chosen["trial"]
    return chosen.loc[keys.sort_values(list(keys.columns)).index].reset_index(drop=True)


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the trainings that reference point and hypervolume are of, one of each network.

    It is the one that competes in `rank`, its first complete one of full length: a network that
    was trained again is no better off for a lucky repeat.
    """
    competing = _competing(frame)
    return competing[competing["state"] == "complete"]


def _competing(frame: pd.DataFrame) -> pd.DataFrame:
    """Give one trial of each network: its first that is complete, else its first that diverged."""
    found = frame[frame["role"].isin(RANKED_ROLES) & frame["state"].isin(RANKED_STATES)]
    # Records from before there were rungs do not say a length.
    found = found[found["length"].fillna(1) == 1]
    first = found.assign(repeat=found["repeat"].fillna(0))
    first = first.sort_values(["state", "repeat", "trial"]).drop_duplicates("id")
    return found.loc[found.index.isin(first.index)]


def estimated(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Put a network's estimate, where there is one, in place of its noisy score `metric`."""
    return frame.assign(**{metric: frame["estimate"].fillna(frame[metric].astype(float))})


def losses_of(frame: pd.DataFrame, objectives: Sequence[Objective]) -> Floats:
    """Give the distances of trials from the ideal, (N, M); NaN where a value is missing."""
    columns = [objective.loss(frame[objective.column]).to_numpy(float) for objective in objectives]
    return np.column_stack(columns)


def corner(reference: Mapping[str, float], objectives: Sequence[Objective]) -> Floats:
    """Give a reference point as distances from the ideal, (M,); NaN where one is not known."""
    return np.array(
        [
            objective.loss(pd.Series([reference.get(objective.name, np.nan)])).iloc[0]
            for objective in objectives
        ],
        dtype=float,
    )


def reference_point(
    frame: pd.DataFrame,
    objectives: Sequence[Objective],
    *,
    declared: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Give the point from which the hypervolume of a run is counted, in the units of the columns.

    It lies behind the trainings that are `counted`; see `point_behind`.
    """
    return point_behind(counted(frame), objectives, declared=declared)


def point_behind(
    frame: pd.DataFrame,
    objectives: Sequence[Objective],
    *,
    declared: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Give the reference point behind trials, whoever they are, in the units of the columns.

    Each objective lies 1.1 times as far from its ideal as the worst value `declared` for it
    (by the objective's name), or the worst of the trials. Accuracy is counted from 1: a worst
    accuracy of 0.5 gives 0.45. An objective that nobody knows is left out.
    """
    point = {}
    for objective in objectives:
        values = frame[objective.column]
        if declared and objective.name in declared:
            values = pd.Series([declared[objective.name]])
        worst = objective.loss(values).max()
        if np.isfinite(worst):
            # A share has no less than 0, however far the worst one is from 1.
            most = objective.ideal if objective.direction == "max" else np.inf
            point[objective.name] = objective.value(min(1.1 * float(worst), most))
    return point


def hypervolume(
    frame: pd.DataFrame, objectives: Sequence[Objective], reference: Mapping[str, float]
) -> float:
    """Give the share of the box between ideal and reference that `counted` trainings dominate.

    The ideal is accuracy 1 and cost 0, so 1 is out of reach, and two runs compare only under
    the same reference point: print it beside the number. 0 where no trial lies in the box.
    """
    losses = losses_of(counted(frame), objectives)
    known = losses[np.isfinite(losses).all(axis=1)]
    return fronts.hypervolume(known, corner(reference, objectives))


def hypervolume_of_estimates(
    frame: pd.DataFrame,
    objectives: Sequence[Objective],
    reference: Mapping[str, float],
    *,
    metric: str = "accuracy",
) -> float | None:
    """Give the hypervolume with networks at their estimates, as the front has them.

    None where nothing is estimated, or the score `metric` is no objective.
    """
    searched = metric in [objective.column for objective in objectives]
    if not searched or frame["estimate"].isna().all():
        return None
    return hypervolume(estimated(frame, metric), objectives, reference)


def kernels_text(stages: Iterable[Stage]) -> str:
    """Write the depthwise kernels: stages apart by |, blocks by /, a stage of equals once.

    `3|13/3/13|7` is a stage of 3x3, one of 13, 3 and 13, one of 7. A pattern that repeats is
    written once with its count, `(13/3/3)x9`.
    """
    return "|".join(_pattern_text(stage.kernels) for stage in stages)


def block_text(block: str, sparsity: float) -> str:
    """Name a family, with the share of its weights that are held at zero: `slak, 40 % zero`."""
    return f"{block}, {sparsity:.0%} zero".replace("%", " %") if sparsity > 0 else block


def _pattern_text(kernels: Sequence[int]) -> str:
    for period in range(1, len(kernels) // 2 + 1):
        times, rest = divmod(len(kernels), period)
        if rest == 0 and tuple(kernels[:period]) * times == tuple(kernels):
            once = "/".join(map(str, kernels[:period]))
            return once if period == 1 else f"({once})x{times}"
    return "/".join(map(str, kernels))


def _with_shape(row: Mapping[str, Any]) -> dict[str, Any]:
    text = row.get("architecture")
    if not text:
        return dict(row)
    architecture = Architecture.from_json(text)
    stages = architecture.stages
    shape = {
        "block": architecture.block,
        "stem": architecture.stem.kind,
        "weights_sparsity": architecture.weights_sparsity,
        "kernels": kernels_text(stages),
        "depths": "|".join(str(stage.depth) for stage in stages),
        "widths": "|".join(map(str, architecture.widths)),
        "structures": "|".join(dict.fromkeys(stage.structure for stage in stages)),
    }
    return shape | {key: value for key, value in row.items() if value is not None}
