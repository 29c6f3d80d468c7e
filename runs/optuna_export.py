"""A run as an Optuna study for optuna-dashboard: written at once, or kept up to date live.

The record stays the only truth: nothing is ever read back from these studies. Optuna's storages are
slow beside a record (sqlite 39 ms a trial) and break in ways that a record must not, so the live
copy is written by a thread of its own, which may fail or fall behind without the search noticing.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    json_to_distribution,
)
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from runs.blocks import chance_level
from runs.history import History, Trial
from runs.masking import masked, reason
from runs.measures import measure_with, model_of
from runs.plan import Plan
from runs.ranking import objectives_named
from search_space.errors import RunError
from search_space.space import Constraint

TARGETS = {"journal": "optuna.log", "sqlite": "optuna.db"}
"""What stands for a file in the run directory."""
SQLITE = "sqlite:///"
SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
"""Paths that are databases; any other one is a journal."""
SQLITE_WAIT_S = 30
"""A dashboard that reads a database locks it for moments."""
STATES = {"complete": TrialState.COMPLETE, "diverged": TrialState.COMPLETE}
STATES |= {"stopped": TrialState.PRUNED}
"""Optuna's word for a state; every other one is FAIL."""
DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
ATTRIBUTES = (
    *("trial", "role", "id", "seed", "repeat", "rung", "continues", "state", "error"),
    *("accuracy", "miou", "val_loss", "test_accuracy", "latency_ms", "macs", "params"),
    *("train_seconds", "s1", "s2", "s3", "s4"),
)
"""What of a trial's row is a user attribute, where the trial has it; the architecture is too."""
OWNER = "replk_search_run"
"""Study attribute that tells a run from another one whose directory has the same name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a study is kept."""

    file: Path | None
    """None where a server keeps it."""
    url: str | None
    """None for a journal."""

    @classmethod
    def of(cls, target: str, directory: Path) -> Place:
        """Read `journal`, `sqlite`, a URL, or a path: a database by its suffix, or a journal."""
        if target in TARGETS:
            target = str(directory / TARGETS[target])
        if target.startswith(SQLITE) and "?" not in target and target != SQLITE:
            target = target.removeprefix(SQLITE)
        elif "://" in target:
            return cls(file=None, url=target)
        else:
            return cls.at(Path(target), database=Path(target).suffix in SQLITE_SUFFIXES)
        return cls.at(Path(target), database=True)

    @classmethod
    def at(cls, file: Path, *, database: bool) -> Place:
        """Give the place that a file is."""
        return cls(file=file, url=f"{SQLITE}{file}" if database else None)

    def open(self) -> BaseStorage:
        """Open the storage; a file is made where there is none."""
        if self.url is None:
            return JournalStorage(JournalFileBackend(str(self.file)))
        more: dict[str, Any] = {"pool_pre_ping": True}
        if self.file is not None:
            more = {"connect_args": {"timeout": SQLITE_WAIT_S}}
        return optuna.storages.get_storage(RDBStorage(self.url, engine_kwargs=more))

    def __str__(self) -> str:
        """Name it without a password, as optuna-dashboard takes it."""
        return str(self.file) if self.url is None else masked(self.url)


class Writer:
    """Adds the trials of a run to a study; knows which ones it holds."""

    def __init__(self, storage: BaseStorage, plan: Plan, directory: Path, *, go_on: bool) -> None:
        """Make the study, or find it where `go_on` lets it be there.

        Raises:
            RunError: it is there and must not be, or is of another run.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan, self.storage = plan, storage
        self.objectives = objectives_named(plan.settings.objectives)
        self.chance = chance_level(plan)
        self.measure = measure_with(plan.num_classes, model_of(plan))
        self.name = directory.resolve().name
        mine, names = owner(plan), [study.study_name for study in storage.get_all_studies()]
        if self.name in names and not go_on:
            raise RunError(
                f"--optuna: must name a place without a study {self.name!r}, got one that has it; "
                "give another target, or delete that study with 'optuna delete-study'"
            )
        self.study = optuna.create_study(
            storage=storage,
            study_name=self.name,
            directions=[DIRECTIONS[objective.direction] for objective in self.objectives],
            load_if_exists=go_on,
        )
        if self.name not in names:
            # As Study.set_metric_names does, whose warning no thread can hold back safely.
            storage.set_study_system_attr(
                storage.get_study_id_from_name(self.name),
                "study:metric_names",
                [objective.column for objective in self.objectives],
            )
            self.study.set_user_attr(OWNER, mine)
        elif self.study.user_attrs.get(OWNER) != mine:
            raise RunError(f"the study {self.name!r} there is of another run")
        self.held: set[int] = set()
        """Numbers of our trials that the study has."""
        self._known: dict[str, BaseDistribution] = {}
        for trial in self.study.get_trials(deepcopy=False):
            self.held.add(trial.user_attrs["trial"])
            self._known.update(trial.distributions)

    def add(self, trial: Trial, ended: datetime | None = None) -> None:
        """Add a finished trial, once; it ended now where nothing else is said."""
        if trial.number not in self.held:
            self.study.add_trial(self.frozen(trial, ended or datetime.now()))
            self.held.add(trial.number)

    def end(self) -> None:
        """Give a database's connections back."""
        _end(self.storage)

    def frozen(self, trial: Trial, ended: datetime) -> FrozenTrial:
        """Give Optuna's form of a finished trial.

        Latency is that of its result as it is now. A diverged training stands at chance level, as
        in the ranking.
        """
        state, values = STATES.get(trial.state, TrialState.FAIL), None
        if state == TrialState.COMPLETE:
            values = [self._value(trial, objective.column) for objective in self.objectives]
            if not all(map(math.isfinite, values)):
                state, values = TrialState.FAIL, None
        params, distributions = self._named(trial)
        measured = self.measure(trial.architecture) if self.plan.space.constraints else {}
        found = optuna.create_trial(
            state=state,
            values=values,
            params=params,
            distributions=distributions,
            user_attrs=dict(_attributes(trial)),
            constraints={
                constraint.name: _excess(constraint, measured[constraint.name])
                for constraint in self.plan.space.constraints
                if constraint.name in measured
            },
        )
        seconds = trial.result.get("train_seconds") or 0.0
        found.datetime_start, found.datetime_complete = ended - timedelta(seconds=seconds), ended
        return found

    def _value(self, trial: Trial, column: str) -> float:
        value = trial.result.get(column)
        if trial.state == "diverged":
            value = self.chance.get(column, value)
        return math.nan if value is None else float(value)

    def _named(self, trial: Trial) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Give parameters and distributions as recorded.

        Optuna holds one set of choices a name: another one gets a name of its own.
        """
        params, distributions = {}, {}
        recorded: Mapping[str, str] = trial.asked.get("distributions") or {}
        for name, text in recorded.items():
            distribution, free, count = json_to_distribution(text), name, 1
            while not _fits(self._known.setdefault(free, distribution), distribution):
                count += 1
                free = f"{name} #{count}"
            params[free], distributions[free] = trial.asked["params"][name], distribution
        return params, distributions


def export_study(plan: Plan, history: History, target: str, directory: Path) -> str:
    """Write the study of a run, named as its directory, to a place that has none of that name.

    Every finished trial is there, in the order of the numbers; one that has no result yet is not.
    Times are made from the durations: one trial after another, from the begin of the run.

    Args:
        plan: of the run.
        history: of the run.
        target: `journal` or `sqlite` (a file in the run directory), a path, or a database's URL.
        directory: of the run.

    Returns:
        The command that shows it.

    Raises:
        RunError: the file or the study is there already, or it could not be written; what was
            written of it is removed.
    """
    place = Place.of(target, directory)
    try:
        if place.url is not None and (place.file is None or place.file.exists()):
            _into_database(place, plan, history, directory)
        else:
            assert place.file is not None
            _into_file(place, place.file, plan, history, directory)
    except RunError:
        raise
    except Exception as error:  # every storage and driver raises its own
        raise RunError(
            f"--optuna: {place}: could not be written, {reason(error)}; give another target, "
            "a path or a URL such as sqlite:///study.db"
        ) from error
    return f"optuna-dashboard {shlex.quote(str(place))}"


def _into_file(place: Place, file: Path, plan: Plan, history: History, directory: Path) -> None:
    """Write beside it first: the file appears whole, and only where there is none."""
    if os.path.lexists(file):
        raise RunError(
            f"--optuna: {file}: must not be there yet, it is; delete it, or give another target"
        )
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        storage = Place.at(draft, database=place.url is not None).open()
        try:
            _write(Writer(storage, plan, directory, go_on=False), history)
        finally:
            _end(storage)
        # Unlike a rename this fails where somebody made the file meanwhile.
        os.link(draft, file)
    finally:
        for left in file.parent.glob(f"{draft.name}*"):
            with contextlib.suppress(OSError):
                left.unlink()


def _into_database(place: Place, plan: Plan, history: History, directory: Path) -> None:
    storage = place.open()
    try:
        writer = Writer(storage, plan, directory, go_on=False)
        try:
            _write(writer, history)
        except BaseException:
            with contextlib.suppress(Exception):
                optuna.delete_study(study_name=writer.name, storage=storage)
            raise
    finally:
        _end(storage)


def _write(writer: Writer, history: History) -> None:
    clock = datetime.now()
    if started := writer.plan.facts.get("started"):
        clock = datetime.fromisoformat(started).astimezone().replace(tzinfo=None)
    for trial in sorted(history.done, key=lambda trial: trial.number):
        clock += timedelta(seconds=trial.result.get("train_seconds") or 0.0)
        writer.add(trial, clock)


def _end(storage: BaseStorage) -> None:
    """Give a database's connections back."""
    storage.remove_session()
    backend = getattr(storage, "_backend", storage)
    if isinstance(backend, RDBStorage):
        backend.engine.dispose()


def _fits(known: BaseDistribution, distribution: BaseDistribution) -> bool:
    try:
        check_distribution_compatibility(known, distribution)
    except ValueError:
        return False
    return True


def _excess(constraint: Constraint, value: float) -> float:
    """Give how far a value lies outside of an interval; 0 or less is inside."""
    low, high = constraint.low, constraint.high
    return max(
        -math.inf if low is None else low - value, -math.inf if high is None else value - high
    )


def _attributes(trial: Trial) -> Iterator[tuple[str, Any]]:
    told = {"trial": trial.number, "role": trial.role, "id": trial.id, "seed": trial.seed}
    told |= {"repeat": trial.repeat, "rung": trial.rung, "continues": trial.continues}
    told |= {key: trial.result.get(key) for key in ATTRIBUTES if key not in told}
    told["state"] = trial.state
    for key, value in told.items():
        if value is not None and not (isinstance(value, float) and not math.isfinite(value)):
            yield key, value
    yield "architecture", trial.architecture.to_json()


def owner(plan: Plan) -> str:
    """Tell a run from others: when, how and with which seed it was begun."""
    facts = plan.facts
    return masked(f"{facts.get('started')} seed {plan.settings.seed} {facts.get('command')}")
