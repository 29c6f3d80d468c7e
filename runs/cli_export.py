"""The words of `export`; like `runs/cli.py` it imports its modules in its function."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--optuna",
    is_flag=False,
    flag_value="journal",
    metavar="[TARGET]",
    help="Write an Optuna study: journal (RUN/optuna.log, also without TARGET), sqlite "
    "(RUN/optuna.db), a path (*.db: SQLite, any other: journal), or the URL of a database.",
)
@click.pass_context
def export(context: click.Context, *, run: Path, optuna: str | None) -> None:
    """Write RUN in the form of another program, and say how to open it.

    \b
    replk-search export results/mine --optuna                 for optuna-dashboard
    replk-search export results/mine --optuna sqlite:///all.db    beside studies of other runs

    Nothing that is there is overwritten. A run that goes on is exported as far as it is.
    """  # noqa: D301  # click wants the \b
    if optuna is None:
        raise click.UsageError(
            "export: must be told what to write, got RUN alone; add '--optuna'", context
        )
    from runs.history import History
    from runs.optuna_export import export_study
    from runs.plan import recorded_plan
    from runs.records import header_of, read_events

    events = read_events(run)
    plan = recorded_plan(run, header_of(events))
    click.echo(export_study(plan, History(events), optuna, run))
