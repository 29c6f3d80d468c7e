"""The evidence on the guidelines of a finished run: shown, and rechecked by longer trainings."""

from __future__ import annotations

from pathlib import Path

from runs.console import Console
from runs.evidence_facts import RECHECK_FACTOR, guideline_facts, recheck_trials
from runs.guideline_table import console_table
from runs.history import History, reason_of
from runs.longer import missing, reopened, require_finished, train_longer
from runs.outputs import write_results
from runs.plan import Plan, recorded_plan
from runs.records import header_of, read_events
from runs.wording import plural
from search_space.errors import RunError, WorkFailed


def show(directory: Path) -> None:
    """Print the guideline table of a finished run.

    Raises:
        RunError: there is no run, its plan was changed, it is not finished, or it tested no
            guideline.
    """
    events = read_events(directory)
    plan, history = recorded_plan(directory, header_of(events)), History(events)
    require_study(directory, plan)
    require_finished(directory, plan, history, events)
    console = Console(0, workers=1)
    table = console_table({"guidelines": guideline_facts(plan, history)}, console.terminal.width)
    console.terminal.print(table)


def recheck(
    directory: Path,
    *,
    workers: int | None = None,
    quiet: bool = False,
    cache: Path | None = None,
) -> None:
    """Train the first whole blocks of a finished run longer, and write its results anew.

    Raises:
        RunError: there is no run, it is in use, not finished, or has no whole block.
        WorkFailed: some of the trainings failed.
    """
    command = f"replk-search guidelines {directory} --recheck"
    with reopened(directory, command=command) as run:
        require_study(directory, run.plan)
        numbers = [trial.number for trial in recheck_trials(run.history)]
        if not numbers:
            raise RunError(
                f"{directory}: must hold a block all of whose trainings came to an end, it holds "
                "none; start a study with more trainings by 'replk-search guidelines --budget N'"
            )
        train_longer(
            run,
            numbers,
            factor=RECHECK_FACTOR,
            purpose="recheck",
            workers=workers,
            quiet=quiet,
            cache=cache,
        )
        write_results(directory, run.plan, run.history)
        failed = missing(run.history, numbers, RECHECK_FACTOR)
        if failed:
            why = reason_of(run.history.longer[failed[0].number, RECHECK_FACTOR])
            raise WorkFailed(
                f"{directory}: {plural(len(failed), 'longer training')} of {len(numbers)} failed, "
                f"the first with: {why}; mend the cause and give the same command again"
            )


def require_study(directory: Path, plan: Plan) -> None:
    """Refuse a run that tested no guideline.

    Raises:
        RunError: it has no study.
    """
    if plan.facts.get("study") is None:
        raise RunError(
            f"{directory}: must be a run that tests the guidelines, it has no study; start one "
            "with 'replk-search guidelines', or a search with --evidence 96"
        )
