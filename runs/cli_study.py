"""The words of `guidelines` and `audit`; like `runs/cli.py` it imports its modules in functions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Unpack

import click

from runs.options import QUIET, SearchOptions, search_options

OF_A_RUN = ("workers", "quiet")
"""Options of a search that say something of a run that is there too."""


def _number(_context: click.Context, _option: click.Parameter, given: float) -> float:
    """Refuse nan, which every range lets through."""
    if math.isnan(given):
        raise click.BadParameter("must be a number above 1, got nan; for example 4")
    return given


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--recheck",
    is_flag=True,
    help="First train the first four blocks of RUN anew, four times as long.",
)
@search_options
@click.pass_context
def guidelines(
    context: click.Context, *, run: Path | None, recheck: bool, **options: Unpack[SearchOptions]
) -> None:
    """Show which guidelines hold in RUN; without RUN, spend a whole budget on testing them.

    \b
    replk-search guidelines results/mine              what a finished run found
    replk-search guidelines results/mine --recheck    whether it lasts when trained longer
    replk-search guidelines --budget 200 --task segmentation
    """  # noqa: D301  # click wants the \b
    given = [
        name
        for name in options
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if run is None:
        if recheck:
            raise click.UsageError(
                "--recheck: must stand with a RUN; name one, or remove it", context
            )
        from runs.cli_search import begin

        begin(options, study_alone=True)
        return
    for name in given:
        option = f"--{name.replace('_', '-')}"
        if name not in OF_A_RUN:
            raise click.UsageError(
                f"{option}: must stand without RUN, got RUN {run}; remove one", context
            )
        if not recheck:
            raise click.UsageError(
                f"{option}: must stand with --recheck; add it, or remove {option}", context
            )
    from runs import guidelines as work

    if recheck:
        work.recheck(run, workers=options["workers"], quiet=options["quiet"])
    work.show(run)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--networks",
    type=click.IntRange(min=5),
    default=20,
    show_default=True,
    help="How many are trained longer: one at random from each of equal slices of the ranking.",
)
@click.option(
    "--factor",
    type=click.FloatRange(min=1, min_open=True, max=1000),
    callback=_number,
    default=4,
    show_default=True,
    help="Length of their training over that of the run.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=256),
    help="Trainings at a time.  [default: as the run]",
)
@QUIET
def audit(*, run: Path, networks: int, factor: float, workers: int | None, quiet: bool) -> None:
    """Train some networks of RUN longer: does the order last, and do the guidelines?

    Prints how far the short ranking agrees with the long one, beside rankings by cost, what would
    have been lost by trusting it, and the effect of each guideline at both lengths. Writes
    audit.md, audit.csv and figures/audit.png into RUN. What is trained already is kept, so it can
    be stopped and given again.
    """
    from runs.audit_page import begin

    begin(run, networks=networks, factor=factor, workers=workers, quiet=quiet)
