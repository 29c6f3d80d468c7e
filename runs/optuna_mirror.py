"""The live copy of a search in an Optuna storage, for optuna-dashboard: `--optuna-storage`."""

from __future__ import annotations

from pathlib import Path

from runs.mirror import Target
from runs.optuna_export import Place, Writer
from runs.plan import Plan


def optuna_target(place: str, plan: Plan, directory: Path) -> Target:
    """Give the study of a run as something to mirror to; it has the name of its directory.

    Args:
        place: a database's URL, or a path, as `export_study` takes it.
        plan: of the run.
        directory: of the run.
    """

    def opened() -> Writer:
        return Writer(Place.of(place, directory).open(), plan, directory, go_on=True)

    return Target(
        option="--optuna-storage",
        place=place,
        open=opened,
        advice=f"'replk-search export {directory} --optuna' writes the whole study to a file",
    )
