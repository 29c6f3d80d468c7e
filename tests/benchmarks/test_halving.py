"""Halving against full training at equal total epochs; asserts no winner.

The hypervolume of the final front (accuracy and multiply-adds of networks that were trained in full
length) is a share of the box up to one reference point for all runs: 1.1 times the worst loss. The
differences are paired by the seed, their intervals are of the mean over the seeds (Student's t).

`replayed` plays the real schedule over the recorded table of real trainings (`assets`, see
`record_table.py`): many seeds, minutes. `live` runs the program on the shipped images, 5 seeds each
way; each run is ended before its closing steps. 20 trainings each take about half an hour:

    python -m pytest -s tests/benchmarks/test_halving.py -k replayed
    BUDGET=20 python -m pytest -s tests/benchmarks/test_halving.py -k live
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from evaluators.agreement import agreement
from runs.history import History, Trial
from runs.plan import Settings
from runs.records import read_events
from search_space.errors import RunError
from tests.played import planned, played

ROOT, ASSETS = Path(__file__).parents[2], Path(__file__).parent / "assets"
FIDELITIES = ("full", "halving")
BUDGETS, SEEDS = (10, 20, 40, 60), 30
"""Full-length trainings of the replayed runs, and runs each way."""
LIVE_BUDGET, LIVE_SEEDS = int(os.environ.get("BUDGET", "20")), 5
LENGTHS = ("1/9", "1/3", "1")

Floats = npt.NDArray[np.float64]


# Replayed.


@cache
def table() -> dict[tuple[str, int], dict[str, str]]:
    """Give what every training of the table came to, by network and rung."""
    with (ASSETS / "trainings.csv").open(newline="") as lines:
        return {(row["id"], int(row["rung"])): row for row in csv.DictReader(lines)}


def looked_up(trial: Trial, _: np.random.Generator) -> dict[str, Any]:
    """Give a trial what the table has for its network and rung."""
    row = table().get((trial.id, 2 if trial.rung is None else trial.rung))
    if row is None or not row["accuracy"]:
        return {"state": "diverged", "accuracy": None, "val_loss": None}
    return {"accuracy": float(row["accuracy"]), "val_loss": float(row["val_loss"])}


def replay(budget: int, fidelity: str, seed: int) -> History:
    plan = planned(
        (ASSETS / "table.yaml").read_text(),
        budget=budget,
        fidelity=fidelity,
        objectives=("accuracy", "macs"),
        sampler=Settings().sampler,
        seed=seed,
    )
    return played(plan, looked_up, at_once=1)


def test_replayed_at_equal_epochs() -> None:
    census = planned((ASSETS / "table.yaml").read_text()).space.census
    assert {network for network, _ in table()} == {network.id for network in census.all()}
    every = np.array([losses_of(row) for (_, rung), row in table().items() if rung == 2])
    reference = reference_of(every)
    whole = hypervolume(every, reference)
    print(f"\nreplayed, {SEEDS} seeds, hypervolume in % of that of all {len(every)} networks")
    print(HEADER)
    for budget in BUDGETS:
        runs = [[replay(budget, way, seed) for seed in range(SEEDS)] for way in FIDELITIES]
        assert all(history.spent == budget for way in runs for history in way)
        print(line(budget, runs, reference, whole))
    print("\nKendall's tau of the table between accuracies at a rung and in full length:")
    for rung in (0, 1):
        below, above = np.array(
            [
                [float(table()[network, at]["accuracy"] or "nan") for at in (rung, 2)]
                for network, at in table()
                if at == 2
            ]
        ).T
        tau = agreement(below, above, np.random.default_rng(0))
        print(f"  {LENGTHS[rung]}: {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}]")


# Live.


def live(directory: Path, fidelity: str, seed: int) -> History:
    """Search with the program, ended before it measures its front again and trains on."""
    command = [sys.executable, "-m", "runs", "--quiet", "--out", str(directory)]
    command += ["--fidelity", fidelity, "--budget", str(LIVE_BUDGET), "--seed", str(seed)]
    command += ["--objectives", "accuracy,macs", "--evidence", "0", "--confirm", "0"]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while running.poll() is None and not searched(directory):
        time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    said = running.communicate()[1]
    assert searched(directory), said
    return History(read_events(directory))


def searched(directory: Path) -> bool:
    """Whether a run has come to the end of its search: it then says where its time went."""
    try:
        return any(event["event"] == "timing" for event in read_events(directory))
    except RunError:
        return False


def test_live_at_equal_epochs(tmp_path: Path) -> None:
    runs = [
        [live(tmp_path / f"{way}-{seed}", way, seed) for seed in range(LIVE_SEEDS)]
        for way in FIDELITIES
    ]
    assert all(history.spent == LIVE_BUDGET for way in runs for history in way)
    every = np.concatenate([front_losses(history) for way in runs for history in way])
    print(f"\nlive, {LIVE_SEEDS} seeds, hypervolume in % of the box up to the reference point")
    print(HEADER)
    print(line(LIVE_BUDGET, runs, reference_of(every), 1.0))


# Both.

HEADER = (
    "| budget | full | halving | halving - full | trained in full length: full | halving |\n"
    "|---|---|---|---|---|---|"
)


def line(budget: int, runs: Sequence[Sequence[History]], reference: Floats, whole: float) -> str:
    """Write a row of the table: what both ways come to, and their difference."""
    shares = np.array(
        [[hypervolume(front_losses(run), reference) / whole for run in way] for way in runs]
    )
    full, halving = 100 * shares
    cells = [mean_text(full, ".2f"), mean_text(halving, ".2f"), mean_text(halving - full, "+.2f")]
    counts = [np.mean([run.counts["complete"] for run in way]) for way in runs]
    return f"| {budget} | {' | '.join(cells)} | {counts[0]:.1f} | {counts[1]:.1f} |"


def front_losses(history: History) -> Floats:
    """Give error and multiply-adds of the networks that were trained in full length."""
    complete = [trial.result for trial in history.done if trial.state == "complete"]
    return np.array([losses_of(result) for result in complete]).reshape(-1, 2)


def losses_of(row: Any) -> tuple[float, float]:
    return 1 - float(row["accuracy"] or 0), float(row["macs"])


def reference_of(losses: Floats) -> Floats:
    """Give 1.1 times the worst loss of each objective; an error is 1 at most."""
    return np.minimum(1.1 * losses.max(axis=0), [1.0, np.inf])


def hypervolume(losses: Floats, reference: Floats) -> float:
    """Give the dominated part of the box up to the reference point."""
    # A run that is shorter than a few trainings may have trained no network in full length.
    return float(moocore.hypervolume(losses / reference, ref=np.ones(2))) if len(losses) else 0.0


def mean_text(values: Floats, form: str) -> str:
    """Write a mean over seeds with its 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():{form}} ± {half:{form.removeprefix('+')}}"
