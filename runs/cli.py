"""The command line; each command imports its module in its function, so `--help` is instant."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

import click

from runs.cli_compare import compare
from runs.cli_erf import erf
from runs.cli_export import export
from runs.cli_profile import profile
from runs.cli_search import search
from runs.cli_study import audit, guidelines
from runs.ending import end_on_signals, ignore_signals, run
from runs.options import (
    MLFLOW,
    OPTUNA_STORAGE,
    QUIET,
    RAY,
    RESUME_BACKEND,
    TENSORBOARD,
    size_option,
    time_option,
)
from search_space.errors import nearest


class SearchByDefault(click.Group):
    """A group whose options without a command are those of `search`: `replk-search --quiet`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `search` before arguments that begin with one of its options."""
        if (
            args
            and args[0].startswith("-")
            and args[0].split("=")[0] not in ("--help", "-h", "--version")
        ):
            args = ["search", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which one may have been meant."""
        if args and self.get_command(ctx, args[0]) is None:
            hint = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"command: must be known, got {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _option: click.Parameter, given: bool) -> None:  # noqa: FBT001
    if given:
        try:
            number = version("replk-search")
        except PackageNotFoundError:
            number = "of a clone that is not installed"
        click.echo(f"replk-search, version {number}")
        ctx.exit()


@click.group(
    cls=SearchByDefault,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Search large-kernel ConvNets as a design space, on your data and your device.

    \b
    replk-search --budget 200               the main job: shipped space, shipped data, this machine
    replk-search --space my.yaml --data cifar10 --budget 200 --out results/mine
    replk-search resume results/mine        continue what was interrupted

    Options without a command are those of `search`; see `replk-search search --help`.
    """  # noqa: D301  # click wants the \b


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    help="New total of trainings.  [default: what the run aimed at]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=256),
    help="Trials at a time.  [default: as before; with another engine as many as fit]",
)
@click.option(
    "--time",
    "time_s",
    callback=time_option,
    metavar="2h",
    help="New total of time, earlier sessions included.  [default: as before]",
)
@RESUME_BACKEND
@RAY
@OPTUNA_STORAGE
@TENSORBOARD
@MLFLOW
@QUIET
def resume(
    *,
    run: Path,
    budget: int | None,
    time_s: float | None,
    workers: int | None,
    backend: str | None,
    ray: str | None,
    optuna_storage: str | None,
    tensorboard: Path | None,
    mlflow: str | None,
    quiet: bool,
) -> None:
    """Continue a run; nothing that finished is lost or trained again.

    On this machine, or with --ray on a cluster, wherever it began.
    """
    from runs import session
    from runs.engines import open_engine
    from runs.loggers import Shown

    shown = Shown(optuna_storage=optuna_storage, tensorboard=tensorboard, mlflow=mlflow)
    with open_engine(ray) as engine:
        session.resume(
            run,
            session.Manner(engine=engine, quiet=quiet, shown=shown),
            budget=budget,
            time_s=time_s,
            workers=workers,
            backend=backend,
            arguments=sys.argv[1:],
        )


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--compare",
    "predicates",
    multiple=True,
    metavar="PREDICATE",
    help="Compare the networks that meet it with the others, at equal MACs: "
    "'stages[2].kernel>=9'. Give it again for more.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the files, new or empty.  [default: the run's own]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, write nothing.")
@click.pass_context
def report(
    context: click.Context,
    *,
    run: Path,
    predicates: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Write tables, figures and page of a run anew from its record.

    What is damaged is left out, and the report says so.
    """
    from runs import reporting

    if as_json:
        if out is not None:
            raise click.UsageError("--out: has no effect with --json; remove one", context)
        click.echo(json.dumps(reporting.report_json(run, predicates=predicates), indent=2))
        return
    for path in reporting.report(run, predicates=predicates, out=out):
        click.echo(path)


@cli.command()
@click.argument("space", default="default")
@click.option(
    "--size",
    callback=size_option,
    metavar="HxW",
    help="Input in pixels, where the YAML names none.  [default: of the shipped data]",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    help="Colours of the input.  [default: of the shipped data]",
)
@click.option("--classes", type=click.IntRange(min=2), default=10, show_default=True)
@click.option("--samples", type=click.IntRange(min=0), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; of 'published' only.")
@click.pass_context
def space(
    context: click.Context,
    *,
    space: str,
    size: tuple[int, int] | None,
    channels: int | None,
    classes: int,
    samples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Show a space: axes, size, what its constraints leave, what it wastes, some samples.

    `space published` lists all published networks: their shapes, costs and published top-1.
    """
    # A file goes before the word, as before every shipped name.
    listed = space.lower() == "published" and not os.path.lexists(space)
    for name in ("size", "channels", "classes", "samples", "seed") if listed else ("as_json",):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.removeprefix('as_')}: must stand with "
                + ("a space, has no effect on 'published'" if listed else "'published'")
                + "; remove it",
                context,
            )
    if listed:
        from runs.published import published_facts_json, published_page

        click.echo(json.dumps(published_facts_json(), indent=2) if as_json else published_page())
        return

    from runs.describe import space_page

    click.echo(
        space_page(space, size=size, channels=channels, classes=classes, samples=samples, seed=seed)
    )


for command in (search, guidelines, audit, compare, export, profile, erf):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the program."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    end_on_signals()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no UTF-8 shows an escape where it lacks a letter.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(lambda: cli.main(prog_name="replk-search", standalone_mode=False))
    ignore_signals()
    sys.exit(code)
