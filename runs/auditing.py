"""The command `audit`'s trainings: which networks of a run are trained longer, and that they are.

One is drawn at random from each of equal slices of the ranking.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from runs.audit import LEAST, Audit, compare
from runs.history import reason_of
from runs.longer import Reopened, reopened, train_longer
from runs.standings import ranked
from search_space.errors import RunError, WorkFailed


def audited(
    directory: Path,
    *,
    networks: int,
    factor: float,
    workers: int | None = None,
    quiet: bool = False,
    cache: Path | None = None,
) -> Audit:
    """Train the chosen networks of a finished run longer, where they are not yet, and compare.

    Raises:
        RunError: there is no finished run, it is in use, or it has too few networks.
        WorkFailed: too few of the longer trainings came to an end.
    """
    with reopened(directory, command=f"replk-search audit {directory}") as run:
        frame = ranked(run.plan, run.history)
        numbers = chosen(frame, networks, run.plan.settings.seed)
        if len(numbers) < LEAST:
            raise RunError(
                f"{directory}: must hold at least {LEAST} networks whose training is complete, "
                f"got {len(numbers)}; go on with 'replk-search resume {directory} --budget N'"
            )
        train_longer(
            run,
            numbers,
            factor=factor,
            purpose="audit",
            workers=workers,
            quiet=quiet,
            cache=cache,
        )
        found = compare(run.plan, run.history, frame, numbers, factor)
        if found is None:
            raise too_few(run, numbers, factor)
        return found


def too_few(run: Reopened, numbers: Sequence[int], factor: float) -> WorkFailed:
    """Say why longer trainings cannot be compared: most of them failed."""
    events = run.history.longer
    failed = [n for n in numbers if events[n, factor]["state"] == "failed"]
    first = reason_of(events[failed[0], factor])
    return WorkFailed(
        f"{run.directory}: at least {LEAST} longer trainings must come to an end, "
        f"{len(failed)} of {len(numbers)} failed, the first with: {first}; mend the cause and "
        "give the same command again"
    )


def chosen(frame: pd.DataFrame, networks: int, seed: int) -> list[int]:
    """Draw trials from equal slices of a ranking, one from each.

    Args:
        frame: ranked trials, as `standings.ranked` gives them.
        networks: how many slices; all networks where there are fewer.
        seed: of the run.
    """
    complete = frame[(frame["state"] == "complete") & frame["rank"].notna()]
    complete = complete.sort_values("rank").drop_duplicates("id")
    rng = np.random.default_rng(zlib.crc32(f"audit:{seed}".encode()))
    slices = np.array_split(complete["trial"].to_numpy(dtype=int), min(networks, len(complete)))
    return [int(rng.choice(part)) for part in slices]
