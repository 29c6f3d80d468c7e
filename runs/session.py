"""A planned run on the disk: begin it, go on with it, end it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluators.images import ImageData
from runs.backends import found_again, user_cache, with_backends, writable
from runs.calibration import NETWORKS, Calibration, applied, calibrate, needs_model, worth_model
from runs.console import Console
from runs.deadline import Deadline, budget_for, more_for
from runs.engines import Engine, LocalEngine
from runs.finish import Finish, is_finished
from runs.folders import require_writable
from runs.forecast import Forecast, forecast, timed_networks
from runs.history import History, plain_number
from runs.images import decoded
from runs.jobs import TIME_LIMIT_S, Room, Slots
from runs.locks import ROOM_NAME, TURNSTILE_NAME
from runs.loggers import Shown, logged
from runs.outputs import write_results
from runs.plan import (
    Plan,
    Settings,
    environment,
    resolved_backend,
    unchanged_plan,
)
from runs.planning import plan_lines
from runs.records import Records
from runs.schedule import Parts
from runs.search import Search
from runs.study import with_study
from runs.timing import time_networks
from search_space.errors import RunError, WorkFailed

HANGS = 20
"""A training that takes so many times as long as was forecast hangs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manner:
    """How a session is run: nothing of it changes what a network gets."""

    engine: Engine = field(default_factory=LocalEngine)
    quiet: bool = False
    """Print the results only."""
    shown: Shown = field(default_factory=Shown)
    """Where the run is shown while it goes on."""
    cache: Path | None = None
    """Folder for compiled libraries and probes; None: the user's."""
    begun: float = field(default_factory=time.monotonic)
    """When it began, by the monotonic clock: what comes before the search takes time too."""

    def room(self, plan: Plan) -> Room:
        """Give the memory that one training may take."""
        settings = plan.settings
        return self.engine.room(settings.workers, settings.device, settings.gpus_per_trial)

    def slot(self, plan: Plan, directory: Path) -> AbstractContextManager[Slots]:
        """Open slots for one job at a time."""
        return self.engine.pool(1, plan, directory)


def begin(plan: Plan, images: ImageData, directory: Path, manner: Manner) -> None:
    """Run a new search to its end.

    Args:
        plan: what to do.
        images: its data.
        directory: of the run; made.
        manner: how to run it.

    Raises:
        ReplkError: the directory cannot be used, or too many trials failed.
    """
    require_writable(directory)  # said before the device is measured, not after
    console = Console(plan.settings.budget, quiet=manner.quiet, workers=plan.settings.workers)
    with writable(manner.cache or user_cache()) as folder:
        plan = _with_backends(plan, folder, directory, manner, console.note)
        plan, calibration = _with_model(plan, directory, manner, console.note)
        plan = with_study(plan)
        with Records.create(directory, {"plan": plan.document()}) as records, _resumable(directory):
            plan.write(directory)
            for kind, fields in calibration.events().items() if calibration else ():
                records.append(kind, **fields)
            with decoded(plan.data, images, directory) as source:
                del images
                _go_on(replace(plan, data=source), records, manner, arguments=None)


def resume(
    directory: Path,
    manner: Manner,
    *,
    budget: int | None = None,
    time_s: float | None = None,
    workers: int | None = None,
    arguments: Sequence[str] = (),
    backend: str | None = None,
) -> None:
    """Go on with a run, to a new total where one is given.

    Args:
        directory: of the run.
        manner: how to go on.
        budget: the new total; None: the one before.
        time_s: the new total of time, earlier sessions included; None: the one before.
        workers: trials at a time; None: as before on this machine, elsewhere as many as fit.
        arguments: of the command, for the record.
        backend: trains from now on, instead of those that the run began with.

    Raises:
        RunError: there is no run, it is in use, its plan was changed, or the compiled library that
            it began with cannot be had here.
        DataError: its images are gone or were changed.
        WorkFailed: too many trials failed.
    """
    with Records.open(directory) as records, _resumable(directory):
        plan = unchanged_plan(records)
        history = History(records.events)
        total = budget or session_budget(records.events) or plan.settings.budget
        if total < history.spent:
            raise RunError(
                f"--budget: must be at least the {float(history.spent):g} trainings that are done, "
                f"got {total}; leave it out to keep the total"
            )
        settings = replace(
            plan.settings,
            budget=total,
            workers=workers_of(plan, records.events, manner, asked=workers),
            # A budget stands for itself; what was left of a time does not bound it.
            time_s=time_s or (None if budget else session_time(records.events)),
        )
        plan = replace(plan, settings=settings)
        if time_s is not None and budget is None:
            plan = _for_longer(plan, history, records, manner)
            settings, total = plan.settings, plan.settings.budget
        if is_finished(history, total):
            with Console(total, quiet=manner.quiet, workers=settings.workers) as console:
                console.note(f"{directory}: finished already; --budget or --time goes on with it")
                with logged(manner.shown, plan, directory, console.warn, patient=True) as told:
                    for trial in history.done:
                        told(trial)
                console.finish(write_results(directory, plan, history))
            return
        manner.engine.device(settings.device)
        resolved_backend(settings.latency_backend, settings.device)
        console = Console(total, quiet=manner.quiet, workers=settings.workers)
        with writable(manner.cache or user_cache()) as folder:
            plan = found_again(plan, cache=folder, forced=backend, note=console.note)
            images = plan.data.load()
            with decoded(plan.data, images, directory) as source:
                del images
                _go_on(replace(plan, data=source), records, manner, arguments=arguments)


def workers_of(
    plan: Plan, events: Sequence[dict[str, Any]], manner: Manner, *, asked: int | None
) -> int:
    """Give the trainings at a time of a session that goes on: on the same machine as before."""
    settings = plan.settings
    sessions = [event for event in events if event["event"] == "session"]
    engines = [event.get("engine", "local") for event in sessions[-1:]]
    if asked is None and manner.engine.name == "local" and engines in ([], ["local"]):
        return int(sessions[-1]["workers"]) if sessions else settings.workers
    return manner.engine.workers(asked, settings.device, settings.gpus_per_trial)


def _for_longer(plan: Plan, history: History, records: Records, manner: Manner) -> Plan:
    """Give a run the budget that its new time is enough for."""
    left = Deadline(plan.settings.time_s, records.events, None, begun=manner.begun).left_s
    with manner.engine.pool(plan.settings.workers, plan, records.directory) as pool:
        timed = timed_networks(plan, pool, history, manner.room(plan))
    budget = more_for(plan, history, timed, left)
    return replace(plan, settings=replace(plan.settings, budget=budget))


def session_budget(events: Sequence[dict[str, Any]]) -> int | None:
    """Give the total that the last session aimed at."""
    budgets = [event["budget"] for event in events if event["event"] == "session"]
    return budgets[-1] if budgets else None


def session_time(events: Sequence[dict[str, Any]]) -> float | None:
    """Give the time that the last session was given, earlier ones included."""
    times = [event.get("time_s") for event in events if event["event"] == "session"]
    return times[-1] if times else None


def rehearse(
    plan: Plan, directory: Path, manner: Manner, *, note: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """Say what a search would do, then what it would take, and do none of it.

    The device is probed, and measured where a constraint is on latency; `note` is told what takes
    time.
    """
    with writable(manner.cache or user_cache()) as folder:
        plan = _with_backends(plan, folder, directory, manner, note)
        if needs_model(plan):
            plan, _ = _with_model(plan, directory, manner, note)
        plan = with_study(plan)
        yield from plan_lines(plan, directory)
        with manner.engine.pool(plan.settings.workers, plan, directory) as pool:
            yield _time_line(forecast(plan, pool, History(), manner.room(plan)))


def budget_in_time(
    plan: Plan,
    directory: Path,
    manner: Manner,
    *,
    seconds: float,
    shares: Callable[[int], Parts],
    note: Callable[[str], None],
) -> int:
    """Give the number of trainings that fit into a time, from timed steps of a few networks.

    Args:
        plan: with any budget.
        directory: of the run to be.
        manner: how it will be run.
        seconds: for all of it, closing steps included.
        shares: gives what of a budget goes to study and confirmation.
        note: is told what takes time.

    Raises:
        RunError: not one training fits.
    """
    with writable(manner.cache or user_cache()) as folder:
        plan = _with_backends(plan, folder, directory, manner, note)
        with manner.engine.pool(plan.settings.workers, plan, directory) as pool:
            timed = time_networks(plan, pool, manner.room(plan))
    return budget_for(plan, timed, seconds - (time.monotonic() - manner.begun), shares)


def _with_backends(
    plan: Plan, cache: Path, directory: Path, manner: Manner, note: Callable[[str], None]
) -> Plan:
    return with_backends(
        plan, cache=cache, open_pool=lambda: manner.slot(plan, directory), note=note
    )


def _with_model(
    plan: Plan, directory: Path, manner: Manner, note: Callable[[str], None]
) -> tuple[Plan, Calibration | None]:
    """Calibrate the latency model where a constraint needs it, or a long run is worth it.

    Raises:
        SpaceError: hardly a network meets the constraints, by its predicted latency.
        WorkFailed: a constraint needs the model, and a network could not be measured.
    """
    needed = needs_model(plan)
    if not needed and not worth_model(plan):
        return plan, None
    note(f"measuring up to {NETWORKS} networks of the space, to predict latency")
    try:
        with manner.slot(plan, directory) as pool:
            calibration = calibrate(plan, pool)
    except WorkFailed as error:
        if needed:
            raise
        note(f"latency is not predicted: {error}")
        return plan, None
    return applied(plan, calibration), calibration


@contextlib.contextmanager
def _resumable(directory: Path) -> Iterator[None]:
    """Say at Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Everything finished is on disk; go on with 'replk-search resume {directory}'."
        ) from None


def _go_on(
    plan: Plan, records: Records, manner: Manner, *, arguments: Sequence[str] | None
) -> None:
    """Search, bring the run to its end, write its results; `arguments` are those of a resume."""
    settings, directory = plan.settings, records.directory
    history = History(records.events)
    facts = plan.facts if arguments is None else environment(list(arguments))
    kept = ("command", "started", "versions", "platform", "git_commit")
    records.append(
        "session",
        budget=settings.budget,
        time_s=settings.time_s,
        workers=settings.workers,
        engine=manner.engine.name,
        **{key: facts[key] for key in kept},
    )
    console = Console(settings.budget, quiet=manner.quiet, workers=settings.workers)
    with (
        _quiet_files(directory),
        manner.engine.pool(settings.workers, plan, directory) as pool,
        logged(manner.shown, plan, directory, console.warn) as told,
        console,
    ):
        for line in plan_lines(plan, directory):
            console.note(line)
        room, estimate = manner.room(plan), None
        if history.spent < settings.budget:
            estimate = forecast(plan, pool, history, room)
        console.plan([] if estimate is None else [_time_line(estimate)])
        if arguments is not None:
            spent = plain_number(history.spent)
            console.note(
                f"resumed: {spent} trainings are done, {len(history.pending)} were cut off"
            )
            console.resumed(history.rows(), history.counts)
        limit = max(TIME_LIMIT_S, HANGS * estimate.training_s) if estimate else TIME_LIMIT_S
        search = Search(
            plan,
            records,
            pool,
            console,
            time_limit_s=limit,
            room=room,
            in_time=Deadline(settings.time_s, records.events, estimate, begun=manner.begun),
            on_done=told,
            begun=manner.begun,
        )
        for trial in history.done:
            told(trial)
        failure = None
        try:
            search.run()
            for line in shortfall(search, settings):
                console.note(line)
            Finish(
                plan,
                records,
                pool,
                note=console.note,
                on_progress=lambda metrics: console.progress(-1, metrics),
                time_limit_s=limit,
                out_of_time=search.out_of_time and not search.exhausted,
                begun=manner.begun,
            ).run()
        except WorkFailed as error:
            # What is done is shown all the same.
            failure = error
        # A disk that takes no event takes no table either: the first failure is what counts.
        with contextlib.suppress(*((RunError,) if failure else ())):
            console.finish(write_results(directory, plan, History(records.events)))
        if failure is not None:
            raise failure


@contextlib.contextmanager
def _quiet_files(directory: Path) -> Iterator[None]:
    """Remove the files of the lock for quiet behind a `with` block: nobody holds them any more."""
    try:
        yield
    finally:
        for name in (ROOM_NAME, TURNSTILE_NAME):
            (directory / name).unlink(missing_ok=True)


def shortfall(search: Search, settings: Settings) -> Iterator[str]:
    """Say why fewer trainings were made than planned, where that is so."""
    spent, budget = plain_number(search.history.spent), settings.budget
    if search.out_of_time and not search.exhausted:
        yield (
            f"the time is over: {spent} of {budget} trainings were made; "
            "'replk-search resume' with a longer --time goes on"
        )
    elif search.exhausted and spent < budget:
        yield f"the space has no network left: {spent} of {budget} trainings were possible"


def _time_line(estimate: Forecast) -> str:
    return f"time      {estimate.text()}"
