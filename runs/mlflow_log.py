"""The log of a search in MLflow: `--mlflow URI`.

The run is an MLflow run in the experiment `replk-search` (or the one that MLFLOW_EXPERIMENT_NAME
names), with best score and hypervolume over its finished trials. Each trial is a run nested in it:
parameters, values, learning curve. `mlflow-skinny` is enough to log; MLflow itself shows it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runs.history import Trial
from runs.live import CURVE, Progress, curve, parameters, scalars
from runs.mirror import Target
from runs.optuna_export import owner
from runs.plan import Plan

EXPERIMENT = "replk-search"
DATABASE = "mlflow.db"
"""File in a folder that is given for a URI; MLflow writes no plain folders any more."""
SUFFIXES = (".db", ".sqlite", ".sqlite3")
"""Paths that are databases."""
OWNER_TAG, TRIAL_TAG, PARENT_TAG = "replk_search_run", "trial", "mlflow.parentRunId"
STATUSES = {"complete": "FINISHED", "diverged": "FINISHED", "stopped": "KILLED"}
"""MLflow's word for a state; every other one is FAILED."""
MOST = 100
"""Parameters, tags or metrics that one call may bring."""
PAGE = 1000
"""Runs that are read at a time."""
ENVIRONMENT = {
    # Usage reports to MLflow's makers are nothing that a search sends by itself.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that is away is tried again by us.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
"""Settings of MLflow where the user has set none."""


class Log:
    """The MLflow run of a search; knows which trials are nested in it."""

    def __init__(
        self, client: Any, folder: Path | None, name: str, plan: Plan, progress: Progress
    ) -> None:
        """Find the run of an earlier session, or begin it.

        Args:
            client: MLflow's.
            folder: where a new experiment keeps files, of which we write none; None: MLflow's.
            name: of the run.
            plan: of the run.
            progress: of the run up to the trials that were told before, if any.
        """
        self.client, self._progress = client, progress
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = client.get_experiment_by_name(experiment)
        if found is None:
            where = None if folder is None else (folder / "mlartifacts").resolve().as_uri()
            self.experiment = client.create_experiment(experiment, artifact_location=where)
        else:
            self.experiment = found.experiment_id
        tags = {OWNER_TAG: hashlib.sha256(owner(plan).encode()).hexdigest()[:16]}
        runs = list(self._tagged(OWNER_TAG, tags[OWNER_TAG]))
        if runs:
            self.run = runs[0].info.run_id
            client.update_run(self.run, status="RUNNING")
        else:
            tags["mlflow.note.content"] = f"replk-search: {plan.space.name}"
            self.run = client.create_run(self.experiment, run_name=name, tags=tags).info.run_id
            self._log(self.run, parameters=_settings(plan))
        self._steps = {m.step for m in client.get_metric_history(self.run, "finished")}
        self._held = set[int]()
        for run in self._tagged(PARENT_TAG, self.run):
            if run.info.status == "RUNNING":
                # A kill left it without its end.
                client.delete_run(run.info.run_id)
            else:
                self._held.add(int(run.data.tags[TRIAL_TAG]))

    def add(self, trial: Trial) -> None:
        """Add a finished trial, once; trials come in the order they finished."""
        now = time.time()
        step = self._progress.step(trial)
        if step not in self._steps:
            of_run = self._progress.values(trial) | {"finished": step}
            self._log(self.run, [(name, value, step) for name, value in of_run.items()])
            self._steps.add(step)
        if trial.number in self._held:
            return
        told = {TRIAL_TAG: str(trial.number), PARENT_TAG: self.run, "state": trial.state}
        told |= {"id": trial.id, "architecture": trial.architecture.to_json()}
        if trial.result.get("error"):
            told["error"] = str(trial.result["error"])
        begun = now - (trial.result.get("train_seconds") or 0.0)
        run = self.client.create_run(
            self.experiment,
            start_time=int(1000 * begun),
            run_name=f"trial-{trial.number:04d}",
            tags=told,
        ).info.run_id
        last = int(trial.result.get("steps") or 0)
        points = [(CURVE, loss, at) for at, loss in curve(trial)]
        points += [(name, value, last) for name, value in scalars(trial).items()]
        self._log(run, points, parameters=parameters(trial))
        status = STATUSES.get(trial.state, "FAILED")
        self.client.set_terminated(run, status=status, end_time=int(1000 * now))
        self._held.add(trial.number)

    def end(self) -> None:
        """Mark the run as ended; a session that goes on marks it as running again."""
        self.client.set_terminated(self.run, status="FINISHED")

    def _log(
        self,
        run: str,
        points: Sequence[tuple[str, float, int]] = (),
        *,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        """Log values as (name, value, step), and parameters, in as many calls as MLflow wants."""
        from mlflow.entities import Metric, Param

        now = int(1000 * time.time())
        metrics = [Metric(name, float(value), now, step) for name, value, step in points]
        params = [Param(name, str(value)) for name, value in (parameters or {}).items()]
        for start in range(0, max(len(metrics), len(params)), MOST):
            part = slice(start, start + MOST)
            self.client.log_batch(run, metrics=metrics[part], params=params[part])

    def _tagged(self, tag: str, value: str) -> Iterator[Any]:
        """Give the runs of the experiment with a tag."""
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment], f"tags.`{tag}` = '{value}'", max_results=PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


def mlflow_target(place: str, plan: Plan, directory: Path) -> Target:
    """Give the MLflow run of a search as something to mirror to.

    Args:
        place: a tracking URI; or a path, of an SQLite file by its suffix, or of a folder for one.
        plan: of the run.
        directory: of the run; the MLflow run has its name.
    """
    progress = Progress(plan)

    def opened() -> Log:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        # A second to import, and it reads its environment then.
        from mlflow.tracking import MlflowClient

        # They say at length on the terminal what we say once.
        for name in ("mlflow", "alembic", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.ERROR)
        uri, folder = tracking(place)
        return Log(MlflowClient(tracking_uri=uri), folder, directory.resolve().name, plan, progress)

    return Target(
        option="--mlflow",
        place=place,
        open=opened,
        advice=f"'replk-search resume {directory} --mlflow URI' logs what is missing",
    )


def tracking(place: str) -> tuple[str, Path | None]:
    """Give MLflow's URI of a place, and the folder where it is a path, which is made."""
    if "://" in place or place.startswith(("databricks", "file:")):
        return place, None
    file = Path(place)
    if file.suffix not in SUFFIXES:
        file /= DATABASE
    file.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{file.resolve()}", file.parent


def _settings(plan: Plan) -> dict[str, object]:
    """Give what the search was asked to do, by name."""
    settings = asdict(plan.settings) | {f"recipe.{k}": v for k, v in asdict(plan.recipe).items()}
    data = {f"data.{key}": plan.facts["data"].get(key) for key in ("name", "train", "val")}
    return {"space": plan.space.name, **settings, **data}
