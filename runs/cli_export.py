"""The words of `export`; like `runs/cli.py` it imports its modules in its function."""

from __future__ import annotations

import math
from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("network", metavar="[ID]", required=False)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the package of network ID; it must not be there yet.",
)
@click.option(
    "--train-epochs",
    type=float,
    metavar="N",
    help="Train the network on for so many epochs first, with the full recipe.",
)
@click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    show_default=True,
    help="Where to train and to score: auto, cpu, cuda or cuda:N.",
)
@click.option(
    "--optuna",
    is_flag=False,
    flag_value="journal",
    metavar="[TARGET]",
    help="Write an Optuna study: journal (RUN/optuna.log, also without TARGET), sqlite "
    "(RUN/optuna.db), a path (*.db: SQLite, any other: journal), or the URL of a database.",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def export(
    context: click.Context,
    *,
    run: Path,
    network: str | None,
    to: Path | None,
    train_epochs: float | None,
    device: str,
    optuna: str | None,
    quiet: bool,
) -> None:
    """Take network ID of RUN home as a package that needs no search code, or write RUN's study.

    \b
    replk-search export results/mine best --to winner          the recommended network
    replk-search export results/mine 4f2a --to small           by the beginning of its id
    replk-search export results/mine best --to winner --train-epochs 100
    replk-search export results/mine --optuna                  for optuna-dashboard
    replk-search export results/mine --optuna sqlite:///all.db     beside studies of other runs

    The package holds model.py, which imports only torch, weights, an ONNX model, a README with what
    was measured, and check.py, which compares them all. Without --train-epochs the weights are the
    longest-trained that the run kept. Ctrl-C ends a training; the same command goes on with it.

    Nothing that is there is overwritten. A run that goes on is exported as far as it is.
    """  # noqa: D301  # click wants the \b
    if optuna is None and network is None:
        raise click.UsageError(
            "export: must be told what to write, got RUN alone; add 'ID --to DIR', where ID is "
            "a network or 'best', or '--optuna'",
            context,
        )
    if optuna is not None:
        if network is not None or to is not None or train_epochs is not None:
            raise click.UsageError(
                "--optuna: must stand without ID, --to and --train-epochs, it writes the whole "
                "run; give two commands",
                context,
            )
        from runs.history import History
        from runs.optuna_export import export_study
        from runs.plan import recorded_plan
        from runs.records import header_of, read_events

        events = read_events(run)
        plan = recorded_plan(run, header_of(events))
        click.echo(export_study(plan, History(events), optuna, run))
        return
    if network is None or to is None:
        raise click.UsageError(
            f"--to: must name a folder for the package of {network}; add '--to DIR'", context
        )
    if train_epochs is not None and not (train_epochs > 0 and math.isfinite(train_epochs)):
        raise click.UsageError(
            f"--train-epochs: must be a finite number above 0, got {train_epochs:g}; "
            "leave it out to export the weights of the search",
            context,
        )
    from evaluators.device import tune_allocator
    from runs.export.package import export_network
    from runs.export.training_on import use_idle_cores

    tune_allocator()
    use_idle_cores()
    exported = export_network(
        run, network, to, train_epochs=train_epochs, device=device, quiet=quiet
    )
    for line in exported.lines:
        click.echo(line)
