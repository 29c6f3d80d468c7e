"""Where a run is shown while it goes on, as the command line asks for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from runs.history import Trial
from runs.mirror import Target, mirrored
from runs.mlflow_log import mlflow_target
from runs.optuna_mirror import optuna_target
from runs.plan import Plan
from runs.tensorboard_log import tensorboard_target
from search_space.errors import RunError


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The targets of a session; nothing of them changes a run, or is written into it."""

    optuna_storage: str | None = None
    """A database's URL, or the path of a journal: see `runs.optuna_export`."""
    tensorboard: Path | None = None
    """A folder of logs: see `runs.tensorboard_log`."""
    mlflow: str | None = None
    """A tracking URI, or a path: see `runs.mlflow_log`."""

    def __post_init__(self) -> None:
        """Look for the packages.

        Raises:
            RunError: one is not installed; said before anything begins.
        """
        if self.mlflow is not None and find_spec("mlflow") is None:
            raise RunError(
                "--mlflow: the package mlflow must be installed, it is not; run "
                "\"pip install 'replk-search[mlflow]'\", in a clone \"pip install -e '.[mlflow]'\""
            )

    def targets(self, plan: Plan, directory: Path) -> list[Target]:
        """Give what is asked for, as something to mirror a run to."""
        found = []
        if self.optuna_storage is not None:
            found.append(optuna_target(self.optuna_storage, plan, directory))
        if self.tensorboard is not None:
            found.append(tensorboard_target(self.tensorboard, plan, directory))
        if self.mlflow is not None:
            found.append(mlflow_target(self.mlflow, plan, directory))
        return found


def logged(
    shown: Shown, plan: Plan, directory: Path, warn: Callable[[str], None], *, patient: bool = False
) -> AbstractContextManager[Callable[[Trial], None]]:
    """Show a run for a `with` block; gives what is told of finished trials.

    Args:
        shown: where.
        plan: of the run.
        directory: of the run.
        warn: is told, once a target, that it failed.
        patient: waits at the end for as long as trials arrive.
    """
    return mirrored(shown.targets(plan, directory), warn, patient=patient)
